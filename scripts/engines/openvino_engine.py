"""OpenVINO: the variant `f32` forbids it to compute in bfloat16, which it does by default on some processors."""

from protocol import Run, serve


def load(model: str, threads: int, variant: str) -> Run:
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads}
    if variant:
        settings["INFERENCE_PRECISION_HINT"] = variant
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    return lambda images: request.infer([images], share_inputs=True)[0].copy()


serve(load, "openvino")
