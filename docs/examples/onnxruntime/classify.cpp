// Classify images of 784 bytes each from standard input: print each one's label, then its logits.
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <regex>
#include <stdexcept>
#include <string>
#include <vector>

int main(int count, char **arguments) try {
    if (count != 2)
        throw std::runtime_error("give the path of an .onnx file");
    Ort::Env env; // set ORT_DISABLE_TELEMETRY=1 before, or onnxruntime reports its use from version 1.29 on
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(1); // fastest for one image
    Ort::Session session(env, arguments[1], options);
    Ort::AllocatorWithDefaultOptions allocator;
    auto contract = session.GetModelMetadata().LookupCustomMetadataMapAllocated("mnist_edge.contract", allocator);
    if (!contract)
        throw std::runtime_error("the file is not mnist-edge's");
    const std::string json(contract.get()); // its first string is "labels", and the labels are the next ones
    const std::regex quoted(R"re("((?:[^"\\]|\\.)*)")re");
    const std::vector<std::string> strings(std::sregex_token_iterator(json.begin(), json.end(), quoted, 1), {});

    uint8_t pixels[784];
    const int64_t shape[] = {1, 1, 28, 28};
    const char *input = "image", *output = "logits";
    auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    auto image = Ort::Value::CreateTensor<uint8_t>(memory, pixels, sizeof pixels, shape, 4); // reads pixels in place
    while (fread(pixels, 1, sizeof pixels, stdin) == sizeof pixels) {
        auto answer = session.Run({}, &input, &image, 1, &output, 1);
        const size_t classes = answer[0].GetTensorTypeAndShapeInfo().GetElementCount();
        const float *logits = answer[0].GetTensorData<float>();
        printf("%s", strings[1 + (std::max_element(logits, logits + classes) - logits)].c_str());
        for (size_t each = 0; each < classes; ++each)
            printf(" %.9g", logits[each]);
        printf("\n");
    }
} catch (const std::exception &error) {
    fprintf(stderr, "error: %s\n", error.what());
    return 1;
}
