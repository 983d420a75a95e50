// protocol.py for JavaScript: see there.
import { readFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { createRequire } from "node:module";
import { join } from "node:path";

const LEAST_CALLS = 3;
const PIXELS = 28 * 28;

/** Import a file of a package of the environment, a folder with node_modules, that the first argument names. */
export async function imported(file) {
  return import(join(process.argv[2], "node_modules", file));
}

/** The version of a package there. */
export function version(name) {
  return createRequire(import.meta.url)(join(process.argv[2], "node_modules", name, "package.json")).version;
}

/** Answer requests until stdin ends. `load` opens a model: (path, threads) to a function from (pixels, n) to logits. */
export async function serve(load, name) {
  let run;
  for await (const line of createInterface({ input: process.stdin })) {
    const request = JSON.parse(line);
    let found;
    try {
      if ("load" in request) {
        run = await load(request.load, request.threads);
        found = { loaded: version(name) };
      } else {
        found = await answered(run, request);
      }
    } catch (error) {
      found = { error: String(error) };
    }
    process.stdout.write(JSON.stringify(found) + "\n");
  }
  process.exit(0);
}

async function answered(run, request) {
  const pixels = new Uint8Array(readFileSync(request.answer ?? request.time));
  const count = pixels.length / PIXELS;
  if ("answer" in request) {
    writeFileSync(request.logits, await run(pixels, count));
    return { answered: count };
  }
  const seconds = [];
  const end = performance.now() + 1000 * request.seconds;
  while (seconds.length < LEAST_CALLS || performance.now() < end) {
    const start = performance.now();
    await run(pixels, count);
    seconds.push((performance.now() - start) / 1000);
  }
  return { seconds };
}
