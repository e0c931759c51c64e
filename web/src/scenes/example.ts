// One example of the run with two features: log-densities over z, p(x), q and the posterior.
import type { Model } from "../compute/model";
import { Pauses } from "../compute/pauses";
import type { Tensors } from "../compute/network";
import { logProb } from "../distributions/likelihood";
import type { Frame } from "../distributions/density";
import type { Scope } from "../state";
import { Signal } from "../state";
import type { RunContext } from "../views/context";
import type { Evaluate, Evidence, Field } from "./bayes";
import { centres, evidence, fieldOn } from "./bayes";
import { Normal2 } from "./normal2";
import { slider } from "../widgets/dom";

const BATCH = 1024; // rows of z that are decoded at once at most
const MOST_DECODED = 4e6; // numbers of the rows that are decoded at once
const WIDE_CELLS = 64; // along each axis of the grid over p(z)
const REACH = 5.5; // standard deviations of p(z) that the grid covers
const MOST_EXAMPLES = 24; // examples whose integrals are remembered
const MOST_NUMBERS = 8e6; // numbers of decoded rows that are kept for other examples

/** Rows of z that were decoded at once. */
interface Batch {
  start: number;
  size: number;
  outputs: Tensors;
}

/** Rows of z that are decoded at once: few where p(x|z) has many parameters. */
export function batchOf(model: Model): number {
  return Math.max(1, Math.min(BATCH, Math.floor(MOST_DECODED / model.parameterCount)));
}

async function decodeBatch(model: Model, point: number, z: Float64Array, start: number, n: number): Promise<Batch> {
  const size = Math.min(batchOf(model), n - start);
  const part = z.subarray(2 * start, 2 * (start + size));
  const raw = model.points.x.row(point);
  return { start, size, outputs: await model.parametersFor(raw, part, size, model.conditionOf(point)) };
}

/** The grid over all of p(z) is the same for each x, so that it is decoded once if it is small. */
const wideBatches = new WeakMap<Model, Promise<Batch[]>>();

function decodeWide(model: Model, frame: Frame): Promise<Batch[]> {
  const n = WIDE_CELLS ** 2;
  let batches = wideBatches.get(model);
  if (batches === undefined) {
    const z = centres(frame, WIDE_CELLS, WIDE_CELLS);
    batches = (async () => {
      const all: Batch[] = [];
      for (let start = 0; start < n; start += batchOf(model)) all.push(await decodeBatch(model, 0, z, start, n));
      return all;
    })();
    wideBatches.set(model, batches);
  }
  return batches;
}

function isSmall(model: Model): boolean {
  return !model.isConditional && !model.dependsOnCategories && model.parameterCount * WIDE_CELLS ** 2 < MOST_NUMBERS;
}

/** log p(z) and log p(x|z) of an example in raw units, decoded in batches. */
export function evaluateAt(
  model: Model,
  raw: Float64Array,
  point: number,
  decoded: Batch[] | null = null,
): Evaluate {
  const x = model.units.toModel(raw);
  const condition = model.conditionOf(point);
  return async (z, n) => {
    const logLikelihood = new Float64Array(n);
    const batchSize = batchOf(model);
    const pauses = new Pauses();
    for (let start = 0; start < n; start += batchSize) {
      const batch = decoded?.[start / batchSize] ?? (await decodeBatch(model, point, z, start, n));
      const { size, outputs } = batch;
      for (let i = 0; i < size; i++) {
        if (pauses.isDue) await pauses.pause();
        const px = model.likelihood(outputs, i);
        if (px === null) throw new Error("p(x|z) of this run has no formula in the page");
        logLikelihood[start + i] = logProb(px, x);
      }
    }
    const logPrior = await model.logPrior(z, n, condition);
    if (logPrior === null) throw new Error("p(z) of this run has no density in the page");
    return { logPrior, logLikelihood };
  };
}

/** What the scenes need of one example. */
export interface Example {
  point: number;
  raw: Float64Array;
  q: Normal2;
  evaluate: Evaluate;
  /** The grid over all of p(z). */
  wide: Field;
  evidence: Evidence;
}

async function makeExample(context: RunContext, point: number): Promise<Example> {
  const { model } = context;
  const raw = model.points.x.row(point);
  const posterior = await model.posterior(raw, model.conditionOf(point));
  const q = Normal2.diagonal(posterior.mean, posterior.sd);
  const evaluate = evaluateAt(model, raw, point);
  const frame = wideFrame(context);
  const decoded = isSmall(model) ? await decodeWide(model, frame) : null;
  const wide = await fieldOn(evaluateAt(model, raw, point, decoded), frame, WIDE_CELLS, WIDE_CELLS);
  return { point, raw, q, evaluate, wide, evidence: await evidence(evaluate, wide, q) };
}

/** All of p(z), and the codes where they reach further. */
export function wideFrame(context: RunContext): Frame {
  const { x0, x1, y0, y1 } = context.planeData.value.frame;
  return {
    x0: Math.min(x0, -REACH),
    x1: Math.max(x1, REACH),
    y0: Math.min(y0, -REACH),
    y1: Math.max(y1, REACH),
  };
}

const remembered = new WeakMap<Model, Map<number, Promise<Example>>>();

/** The example of a row; the last ones are remembered. */
export function exampleOf(context: RunContext, point: number): Promise<Example> {
  let examples = remembered.get(context.model);
  if (examples === undefined) {
    examples = new Map();
    remembered.set(context.model, examples);
  }
  let example = examples.get(point);
  if (example === undefined) {
    example = makeExample(context, point);
    if (examples.size >= MOST_EXAMPLES) examples.delete(examples.keys().next().value!);
    examples.set(point, example);
  }
  return example;
}

const chosen = new WeakMap<Model, Signal<number>>();

/** The row that the scenes are about: chosen in one scene, followed in the next. */
export function chosenPoint(model: Model): Signal<number> {
  let signal = chosen.get(model);
  if (signal === undefined) {
    signal = new Signal(typicalPoint(model));
    chosen.set(model, signal);
  }
  return signal;
}

/** A slider over the examples; `show` is called with the chosen one, at once and on each change. */
export function exampleSlider(model: Model, show: (point: number) => void, scope: Scope): HTMLElement {
  const point = chosenPoint(model);
  const control = slider({
    label: "x",
    min: 0,
    max: model.points.n - 1,
    step: 1,
    value: point.value,
    format: (value) => String(value),
    oninput: (value) => point.set(value),
  });
  point.watch(show, scope);
  return control.element;
}

/** The row with the median ELBO; the first one where the terms are not known. */
function typicalPoint(model: Model): number {
  const { terms, n } = model.points;
  if (terms === null) return 0;
  const elbo = Array.from({ length: n }, (_, i) => terms[2 * i] - terms[2 * i + 1]);
  const order = elbo.map((_, i) => i).filter((i) => Number.isFinite(elbo[i]));
  order.sort((a, b) => elbo[a] - elbo[b]);
  return order[Math.floor(order.length / 2)] ?? 0;
}
