// Classify images of 784 bytes each from standard input: print each one's label, then its logits.
//     node classify.js BUNDLE/model.onnx [onnxruntime-web] < images
process.env.ORT_DISABLE_TELEMETRY = '1' // read when onnxruntime is loaded, which reports its use from version 1.29 on
const fs = require('fs')
const path = require('path')

async function main(model, onnxruntime = 'onnxruntime-node') {
  const ort = require(onnxruntime)
  const { labels } = JSON.parse(fs.readFileSync(path.join(path.dirname(model), 'manifest.json'))).contract
  ort.env.wasm.numThreads = 1 // in WebAssembly; fastest for one image, as intraOpNumThreads is elsewhere
  const session = await ort.InferenceSession.create(fs.readFileSync(model), { intraOpNumThreads: 1 })
  const images = fs.readFileSync(0)
  for (let start = 0; start + 784 <= images.length; start += 784) {
    const image = new ort.Tensor('uint8', images.subarray(start, start + 784), [1, 1, 28, 28])
    const logits = (await session.run({ image })).logits.data
    console.log(labels[logits.indexOf(Math.max(...logits))], ...logits)
  }
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(`error: ${error.message}`)
  process.exitCode = 1
})
