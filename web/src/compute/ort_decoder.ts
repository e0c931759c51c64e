// Networks computed in the page by onnxruntime's WebAssembly, one thread.
import * as ort from "onnxruntime-web/wasm";
import type { Numbers, Tensor } from "../data/arrays";
import type { Decoder, Tensors } from "./network";
import { Turns } from "./network";

export function hasWebAssembly(): boolean {
  return typeof WebAssembly !== "undefined";
}

let ready: Promise<void> | null = null;

/** Give onnxruntime its WebAssembly as bytes, so that it fetches nothing. */
export function prepare(wasm: () => Promise<Uint8Array>): Promise<void> {
  ready ??= wasm().then((bytes) => {
    ort.env.wasm.wasmBinary = bytes.buffer as ArrayBuffer;
    ort.env.wasm.numThreads = 1;
    ort.env.logLevel = "error";
  });
  return ready;
}

/** Calls of onnxruntime that overlap share one stack in WebAssembly, which they would corrupt. */
const turns = new Turns();

function toOrt(tensor: Tensor): ort.Tensor {
  const { data, shape } = tensor;
  if (data instanceof Float32Array) return new ort.Tensor("float32", data, shape);
  if (data instanceof Float64Array) return new ort.Tensor("float64", data, shape);
  if (data instanceof BigInt64Array) return new ort.Tensor("int64", data, shape);
  if (data instanceof Uint8Array) return new ort.Tensor("uint8", data, shape);
  return new ort.Tensor("int32", data, shape);
}

export class OrtDecoder implements Decoder {
  private constructor(private readonly session: ort.InferenceSession) {}

  static async open(model: Uint8Array): Promise<OrtDecoder> {
    const options: ort.InferenceSession.SessionOptions = {
      executionProviders: ["wasm"],
      graphOptimizationLevel: "all",
      logSeverityLevel: 3,
    };
    return new OrtDecoder(await turns.run(() => ort.InferenceSession.create(model, options)));
  }

  async run(inputs: Tensors, wanted?: readonly string[]): Promise<Tensors> {
    const feeds: Record<string, ort.Tensor> = {};
    for (const name of this.session.inputNames) {
      if (inputs[name] !== undefined) feeds[name] = toOrt(inputs[name]);
    }
    const names = wanted ?? this.session.outputNames;
    const results = await turns.run(() => this.session.run(feeds, names));
    const outputs: Tensors = {};
    for (const [name, value] of Object.entries(results)) {
      outputs[name] = { data: value.data as Numbers, shape: [...value.dims] };
    }
    return outputs;
  }
}
