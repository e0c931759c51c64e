// Graphs that are made while the page is in use take the place of the server.
import { afterEach, describe, expect, it, vi } from "vitest";
import { awaitGraphs, progress } from "../src/compute/networks_later";
import type { Graph, Run } from "../src/data/manifest";

const WAITS: Graph = {
  block: null,
  where: "server",
  float16: false,
  bytes: 0,
  waits: true,
  inputs: [],
  outputs: [],
};
const MADE: Graph = { ...WAITS, block: "main.graph.decoder", where: "page", bytes: 5, waits: false };

/** A run of which only the graphs are read. */
function runWith(graph: Graph): Run {
  return { role: "main", graphs: { encoder: { ...graph }, decoder: { ...graph } } } as unknown as Run;
}

afterEach(() => {
  vi.unstubAllGlobals();
  progress.set(null);
});

describe("graphs that are waited for", () => {
  it("replace the server's in the objects that networks hold", async () => {
    const run = runWith(WAITS);
    const { decoder } = run.graphs;
    const answers = [
      { made: 0, of: 2, graphs: null },
      { made: 1, of: 2, graphs: null },
      { made: 1, of: 2, graphs: { main: { decoder: MADE, encoder: { ...WAITS, waits: false, reason: "r" } } } },
    ];
    vi.stubGlobal("fetch", async () => Response.json(answers.shift()));
    const shown: unknown[] = [];
    await awaitGraphs([run], async () => void shown.push(progress.value));
    expect(shown).toEqual([
      { made: 0, of: 2 },
      { made: 1, of: 2 },
    ]);
    expect(progress.value).toBeNull();
    expect(run.graphs.decoder).toBe(decoder);
    expect(decoder).toEqual(MADE);
    expect(run.graphs.encoder).toMatchObject({ where: "server", waits: false, reason: "r" });
  });

  it("are not asked for where none is", async () => {
    const fetched = vi.fn();
    vi.stubGlobal("fetch", fetched);
    await awaitGraphs([runWith(MADE)]);
    expect(fetched).not.toHaveBeenCalled();
  });

  it("are asked for no more where the server has ended", async () => {
    const run = runWith(WAITS);
    const fetched = vi.fn().mockResolvedValueOnce(Response.json({ made: 0, of: 2, graphs: null }));
    fetched.mockRejectedValue(new TypeError("Failed to fetch"));
    vi.stubGlobal("fetch", fetched);
    await awaitGraphs([run], async () => undefined);
    expect(fetched).toHaveBeenCalledTimes(2);
    expect(progress.value).toBeNull();
    expect(run.graphs.decoder.where).toBe("server");
  });
});
