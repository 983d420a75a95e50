// onnxruntime for Node: the same native library as in Python.
import { imported, serve } from "./protocol.mjs";

async function load(model, threads) {
  const { default: ort } = await imported("onnxruntime-node/dist/index.js");
  const session = await ort.InferenceSession.create(model, { intraOpNumThreads: threads, interOpNumThreads: 1 });
  return async (pixels, count) => {
    const image = new ort.Tensor("uint8", pixels, [count, 1, 28, 28]);
    return (await session.run({ image })).logits.data;
  };
}

await serve(load, "onnxruntime-node");
