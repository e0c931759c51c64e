// The bytes that a network on the server gets and sends.
import { afterEach, describe, expect, it, vi } from "vitest";
import { HttpDecoder, joined, split } from "../src/compute/http_decoder";
import { Latest } from "../src/compute/network";
import type { Graph } from "../src/data/manifest";

const GRAPH: Graph = {
  block: null,
  where: "server",
  float16: false,
  bytes: 0,
  inputs: [
    { name: "z", dtype: "float32", shape: [null, 2] },
    { name: "condition", dtype: "int64", shape: [null] },
    { name: "time", dtype: "float64", shape: [null, 1] },
  ],
  outputs: [
    { name: "mean", dtype: "float32", shape: [null, 2] },
    { name: "scale", dtype: "float32", shape: [null, 1] },
  ],
};
const INPUTS = {
  z: { data: Float32Array.of(1, 2, 3, 4), shape: [2, 2] },
  condition: { data: BigInt64Array.of(5n, 6n), shape: [2] },
  time: { data: Float64Array.of(1e9 + 0.25, 0.5), shape: [2, 1] },
};

afterEach(() => vi.unstubAllGlobals());

describe("a network on the server", () => {
  it("gets its inputs side by side, float64 where the port is float64", () => {
    const bytes = joined(GRAPH, INPUTS);
    expect([...new Float32Array(bytes.slice(0, 24).buffer)]).toEqual([1, 2, 3, 4, 5, 6]);
    expect([...new Float64Array(bytes.slice(24).buffer)]).toEqual([1e9 + 0.25, 0.5]);
  });

  it("sends its outputs side by side", async () => {
    const answer = Float32Array.of(1, 2, 3, 4, 9, 8);
    const asked: string[] = [];
    vi.stubGlobal("fetch", async (path: string) => {
      asked.push(path);
      return new Response(answer);
    });
    const outputs = await new HttpDecoder("second", "decoder", GRAPH).run(INPUTS);
    expect(asked).toEqual(["compute/second/decoder?rows=2"]);
    expect([...(outputs.mean.data as Float32Array)]).toEqual([1, 2, 3, 4]);
    expect(outputs.scale.shape).toEqual([2, 1]);
    expect([...(outputs.scale.data as Float32Array)]).toEqual([9, 8]);
  });

  it("is asked for one answer at a time, since a later request would replace one that waits", async () => {
    const asked: number[] = [];
    const answers: (() => void)[] = [];
    vi.stubGlobal("fetch", async (path: string) => {
      asked.push(Number(path.split("=")[1]));
      await new Promise<void>((done) => answers.push(done));
      return new Response(new Float32Array(3 * asked[asked.length - 1]));
    });
    const network = new HttpDecoder("main", "decoder", GRAPH);
    const one = { ...INPUTS, z: { data: Float32Array.of(1, 2), shape: [1, 2] } };
    const both = [network.run(INPUTS), network.run(one)];
    await vi.waitFor(() => expect(asked).toEqual([2]));
    answers[0]();
    await vi.waitFor(() => expect(asked).toEqual([2, 1]));
    answers[1]();
    expect((await Promise.all(both)).map((outputs) => outputs.mean.shape[0])).toEqual([2, 1]);
  });

  it("is asked in parts of at most 4,096 rows", async () => {
    const graph = { ...GRAPH, inputs: [GRAPH.inputs[0]], outputs: [{ ...GRAPH.inputs[0], name: "mean" }] };
    const asked: number[] = [];
    vi.stubGlobal("fetch", async (path: string, { body }: { body: Uint8Array<ArrayBuffer> }) => {
      asked.push(Number(path.split("=")[1]));
      return new Response(body);
    });
    const z = { data: Float32Array.from({ length: 10_000 }, (_, i) => i), shape: [5000, 2] };
    const { mean } = await new HttpDecoder("main", "decoder", graph).run({ z });
    expect(asked).toEqual([4096, 904]);
    expect(mean.shape).toEqual([5000, 2]);
    expect(mean.data).toEqual(z.data);
  });

  it("that sends another number of values is refused", () => {
    expect(() => split(GRAPH, new Float32Array(5), 2)).toThrow("5 numbers, and 6 were expected");
  });
});

describe("the latest request", () => {
  it("takes the place of those that wait", async () => {
    const done: number[] = [];
    const latest = new Latest<number>(async (value) => {
      await Promise.resolve();
      done.push(value);
    });
    for (const value of [1, 2, 3, 4]) latest.push(value);
    await vi.waitFor(() => expect(done).toEqual([1, 4]));
  });
});
