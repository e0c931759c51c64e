// Networks whose ONNX graphs the server makes while the page is in use.
import type { Graph, GraphName, Run } from "../data/manifest";
import { Signal } from "../state";

/** How many graphs are made; null where none is waited for. */
export type Progress = { made: number; of: number } | null;

interface Answer {
  made: number;
  of: number;
  /** By role and name, when all are made. */
  graphs: Record<string, Partial<Record<GraphName, Graph>>> | null;
}

const EVERY = 2000; // milliseconds

export const progress = new Signal<Progress>(null);

async function asked(): Promise<Answer> {
  const response = await fetch("data/networks.json", { credentials: "same-origin", cache: "no-store" });
  if (!response.ok) throw new Error(`the server answered ${response.status}`);
  return (await response.json()) as Answer;
}

function pause(): Promise<void> {
  return new Promise((done) => setTimeout(done, EVERY));
}

/** Ask for graphs that are waited for, until they are there; the page then computes them. */
export async function awaitGraphs(runs: readonly Run[], wait = pause): Promise<void> {
  const waits = runs.some((run) => Object.values(run.graphs).some((graph) => graph.waits));
  try {
    while (waits) {
      const { made, of, graphs } = await asked();
      if (graphs !== null) {
        for (const run of runs) Object.assign(run.graphs, renewed(run, graphs[run.role] ?? {}));
        break;
      }
      progress.set({ made, of });
      await wait();
    }
  } catch {
    // the server has ended, or refuses: it computes on, or the next request says why not
  } finally {
    if (waits) progress.set(null);
  }
}

/** The same objects with what is new, since networks hold them. */
function renewed(run: Run, graphs: Partial<Record<GraphName, Graph>>): Partial<Record<GraphName, Graph>> {
  const out: Partial<Record<GraphName, Graph>> = {};
  for (const [name, graph] of Object.entries(graphs)) {
    const key = name as GraphName;
    out[key] = Object.assign(run.graphs[key] ?? {}, graph);
  }
  return out;
}
