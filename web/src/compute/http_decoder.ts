// Networks computed by the server: raw float32 of all inputs out, raw float32 of all outputs back.
import type { Tensor } from "../data/arrays";
import type { Graph } from "../data/manifest";
import type { Decoder, Tensors } from "./network";
import { Turns } from "./network";

/** The bytes of an input: float64 where the port is float64, else float32. */
function bytesOf(dtype: string, tensor: Tensor): Uint8Array {
  const numbers = tensor.data as ArrayLike<number | bigint>;
  const values =
    dtype === "float64" ? Float64Array.from(numbers, Number) : Float32Array.from(numbers, Number);
  return new Uint8Array(values.buffer);
}

/** The inputs of a graph side by side, in the order of the manifest. */
export function joined(graph: Graph, inputs: Tensors): Uint8Array<ArrayBuffer> {
  const parts = graph.inputs.map((port) => bytesOf(port.dtype, inputs[port.name]));
  const all = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let start = 0;
  for (const part of parts) {
    all.set(part, start);
    start += part.length;
  }
  return all;
}

/** The outputs of n rows from their floats side by side. */
export function split(graph: Graph, floats: Float32Array, n: number): Tensors {
  const outputs: Tensors = {};
  let start = 0;
  for (const port of graph.outputs) {
    const shape = port.shape.map((length, axis) => (axis === 0 ? n : Number(length)));
    const size = shape.reduce((product, length) => product * length, 1);
    outputs[port.name] = { data: floats.subarray(start, start + size), shape };
    start += size;
  }
  if (start !== floats.length) {
    throw new Error(`the server sent ${floats.length} numbers, and ${start} were expected`);
  }
  return outputs;
}

const MOST_ROWS = 4096; // of one request, as the server allows

/** The rows of all inputs from one to before another. */
function rowsOf(inputs: Tensors, from: number, to: number): Tensors {
  const out: Tensors = {};
  for (const [name, { data, shape }] of Object.entries(inputs)) {
    const width = data.length / shape[0];
    out[name] = { data: data.slice(from * width, to * width), shape: [to - from, ...shape.slice(1)] };
  }
  return out;
}

/** Outputs of several requests as those of one. */
function stacked(parts: readonly Tensors[]): Tensors {
  const out: Tensors = {};
  for (const [name, { shape }] of Object.entries(parts[0])) {
    const tensors = parts.map((part) => part[name]);
    const data = new Float32Array(tensors.reduce((size, each) => size + each.data.length, 0));
    let start = 0;
    for (const each of tensors) {
      data.set(each.data as Float32Array, start);
      start += each.data.length;
    }
    out[name] = { data, shape: [tensors.reduce((n, each) => n + each.shape[0], 0), ...shape.slice(1)] };
  }
  return out;
}

const PAGE = crypto.randomUUID?.() ?? String(Math.random()); // the latest request of a page wins

export class HttpDecoder implements Decoder {
  /** The server drops a request that has not begun when this page sends a later one. */
  private readonly turns = new Turns();

  constructor(
    private readonly role: string,
    private readonly name: string,
    private readonly graph: Graph,
  ) {}

  async run(inputs: Tensors): Promise<Tensors> {
    const n = inputs[this.graph.inputs[0].name].shape[0];
    const parts: Tensors[] = [];
    for (let start = 0; start === 0 || start < n; start += MOST_ROWS) {
      const part = n <= MOST_ROWS ? inputs : rowsOf(inputs, start, Math.min(n, start + MOST_ROWS));
      parts.push(await this.turns.run(() => this.ask(part)));
    }
    return parts.length === 1 ? parts[0] : stacked(parts);
  }

  private async ask(inputs: Tensors): Promise<Tensors> {
    const n = inputs[this.graph.inputs[0].name].shape[0];
    const response = await fetch(`compute/${this.role}/${this.name}?rows=${n}`, {
      method: "POST",
      credentials: "same-origin",
      headers: { "Content-Type": "application/octet-stream", "X-Page": PAGE },
      body: joined(this.graph, inputs),
    });
    if (!response.ok) throw new Error(`the server refused: ${(await response.text()).slice(0, 300)}`);
    return split(this.graph, new Float32Array(await response.arrayBuffer()), n);
  }
}
