// onnxruntime for browsers, WebAssembly on one thread, here under Node.
import { readFileSync } from "node:fs";
import { imported, serve } from "./protocol.mjs";

async function load(model, threads) {
  const ort = await imported("onnxruntime-web/dist/ort.wasm.bundle.min.mjs");
  ort.env.wasm.numThreads = threads;
  const session = await ort.InferenceSession.create(new Uint8Array(readFileSync(model)), { executionProviders: ["wasm"] });
  return async (pixels, count) => {
    const image = new ort.Tensor("uint8", pixels, [count, 1, 28, 28]);
    return (await session.run({ image })).logits.data;
  };
}

await serve(load, "onnxruntime-web");
