// Integrals over two features: p(x) on a grid, the posterior, and the terms of the bound.
import type { Frame } from "../distributions/density";
import { logSumExp } from "../distributions/special";
import type { Normal2 } from "./normal2";

/** log p(z) and log p(x|z) of one x at n rows of z, in float64. */
export interface Values {
  logPrior: Float64Array;
  logLikelihood: Float64Array;
}

export type Evaluate = (z: Float64Array, n: number) => Promise<Values>;

/** Log-densities at the cell centres of a grid over z. */
export interface Field {
  frame: Frame;
  columns: number;
  rows: number;
  cell: number;
  logPrior: Float64Array;
  logLikelihood: Float64Array;
  /** log p(z) + log p(x|z). */
  logJoint: Float64Array;
}

/** Cell centres of a grid, row by row. */
export function centres(frame: Frame, columns: number, rows: number): Float64Array {
  const dx = (frame.x1 - frame.x0) / columns;
  const dy = (frame.y1 - frame.y0) / rows;
  const z = new Float64Array(2 * columns * rows);
  for (let place = 0; place < columns * rows; place++) {
    z[2 * place] = frame.x0 + ((place % columns) + 0.5) * dx;
    z[2 * place + 1] = frame.y0 + (Math.floor(place / columns) + 0.5) * dy;
  }
  return z;
}

export async function fieldOn(
  evaluate: Evaluate,
  frame: Frame,
  columns: number,
  rows: number,
): Promise<Field> {
  const z = centres(frame, columns, rows);
  const { logPrior, logLikelihood } = await evaluate(z, columns * rows);
  const logJoint = logPrior.map((value, i) => value + logLikelihood[i]);
  const cell = ((frame.x1 - frame.x0) * (frame.y1 - frame.y0)) / (columns * rows);
  return { frame, columns, rows, cell, logPrior, logLikelihood, logJoint };
}

/** log of the integral of p(z) p(x|z) over the grid. */
export function logIntegral(field: Field): number {
  return logSumExp(field.logJoint) + Math.log(field.cell);
}

/** log p(x) with its last change, and the rectangle in which the posterior lies. */
export interface Evidence {
  logPx: number;
  /** Difference of the last two grids, in nats. */
  error: number;
  box: Frame;
  nodes: number;
}

const WIDE = 25; // nats below the highest cell, within which cells of the first grid are halved
const NEAR = 15; // the same of finer grids
const BOX = 9; // cells of the box, nats below the highest one
const TOLERANCE = 1e-5;
const ROUNDS = 9;
const MOST = 150_000; // evaluations

/**
 * log p(x) by a grid whose cells are halved where p(z) p(x|z) is high.
 *
 * A cell within `NEAR` nats of the highest one, or beside such a cell, or at `start`, is cut
 * into four until the integral changes by less than `TOLERANCE`; the others keep their mass.
 */
export async function evidence(evaluate: Evaluate, field: Field, start: Normal2): Promise<Evidence> {
  const { frame } = field;
  let [columns, rows] = [field.columns, field.rows];
  let cell = field.cell;
  let places: Int32Array = Int32Array.from(field.logJoint, (_, place) => place);
  let logJoint = field.logJoint;
  let [logPx, error] = [logIntegral(field), Infinity];
  let kept = -Infinity; // log of the mass of cells that are not halved any more
  let nodes = places.length;
  for (let round = 0; round < ROUNDS && nodes < MOST; round++) {
    const active = activeCells(places, logJoint, columns, rows, round === 0 ? WIDE : NEAR);
    if (round < 5) addCells(active, frame, columns, rows, start);
    kept = logSumExp([kept, ...massOf(places, logJoint, cell, active)]);
    places = halved(active, columns);
    [columns, rows, cell] = [2 * columns, 2 * rows, cell / 4];
    const z = placesToZ(places, frame, columns, rows);
    const { logPrior, logLikelihood } = await evaluate(z, places.length);
    logJoint = logPrior.map((value, i) => value + logLikelihood[i]);
    nodes += places.length;
    const before = logPx;
    logPx = logSumExp([kept, logSumExp(logJoint) + Math.log(cell)]);
    error = Math.abs(logPx - before);
    if (round > 0 && error < TOLERANCE) break;
  }
  return { logPx, error, box: boxOf(places, logJoint, frame, columns, rows), nodes };
}

/** Cells within some nats of the highest, and their neighbours. */
function activeCells(
  places: Int32Array,
  logJoint: Float64Array,
  columns: number,
  rows: number,
  nats: number,
): Set<number> {
  let highest = -Infinity;
  for (const value of logJoint) highest = Math.max(highest, value);
  const present = new Set(places);
  const active = new Set<number>();
  places.forEach((place, k) => {
    if (logJoint[k] < highest - nats) return;
    const [i, j] = [place % columns, Math.floor(place / columns)];
    for (let v = Math.max(0, j - 1); v <= Math.min(rows - 1, j + 1); v++) {
      for (let u = Math.max(0, i - 1); u <= Math.min(columns - 1, i + 1); u++) {
        if (present.has(v * columns + u)) active.add(v * columns + u);
      }
    }
  });
  return active;
}

/** The cells around the mean of a normal as well. */
function addCells(
  active: Set<number>,
  frame: Frame,
  columns: number,
  rows: number,
  q: Normal2,
): void {
  const i = Math.floor(((q.x - frame.x0) / (frame.x1 - frame.x0)) * columns);
  const j = Math.floor(((q.y - frame.y0) / (frame.y1 - frame.y0)) * rows);
  const present = active.size > 0;
  if (present && i >= 0 && j >= 0 && i < columns && j < rows) active.add(j * columns + i);
}

/** log of the mass of the cells that are not active. */
function massOf(
  places: Int32Array,
  logJoint: Float64Array,
  cell: number,
  active: Set<number>,
): number[] {
  const passive = logJoint.filter((_, k) => !active.has(places[k]));
  return passive.length === 0 ? [] : [logSumExp(passive) + Math.log(cell)];
}

/** The four cells of each cell, on the grid with twice as many columns. */
function halved(active: Set<number>, columns: number): Int32Array {
  const out = new Int32Array(4 * active.size);
  let k = 0;
  for (const place of active) {
    const first = 2 * Math.floor(place / columns) * 2 * columns + 2 * (place % columns);
    for (const next of [first, first + 1, first + 2 * columns, first + 2 * columns + 1]) {
      out[k++] = next;
    }
  }
  return out;
}

function placesToZ(places: Int32Array, frame: Frame, columns: number, rows: number): Float64Array {
  const dx = (frame.x1 - frame.x0) / columns;
  const dy = (frame.y1 - frame.y0) / rows;
  const z = new Float64Array(2 * places.length);
  places.forEach((place, k) => {
    z[2 * k] = frame.x0 + ((place % columns) + 0.5) * dx;
    z[2 * k + 1] = frame.y0 + (Math.floor(place / columns) + 0.5) * dy;
  });
  return z;
}

/** The rectangle of the cells that are not far below the highest one. */
function boxOf(
  places: Int32Array,
  logJoint: Float64Array,
  frame: Frame,
  columns: number,
  rows: number,
): Frame {
  let highest = -Infinity;
  for (const value of logJoint) highest = Math.max(highest, value);
  const z = placesToZ(places, frame, columns, rows);
  const box = { x0: Infinity, x1: -Infinity, y0: Infinity, y1: -Infinity };
  for (let k = 0; k < logJoint.length; k++) {
    if (logJoint[k] < highest - BOX) continue;
    box.x0 = Math.min(box.x0, z[2 * k]);
    box.x1 = Math.max(box.x1, z[2 * k]);
    box.y0 = Math.min(box.y0, z[2 * k + 1]);
    box.y1 = Math.max(box.y1, z[2 * k + 1]);
  }
  return box;
}

/** A square around a rectangle and the ellipse of a normal, wider by a factor. */
export function squareAround(box: Frame, q: Normal2 | null, factor: number): Frame {
  let { x0, x1, y0, y1 } = box;
  if (q !== null) {
    const [sx, sy] = q.sd;
    [x0, x1] = [Math.min(x0, q.x - 3 * sx), Math.max(x1, q.x + 3 * sx)];
    [y0, y1] = [Math.min(y0, q.y - 3 * sy), Math.max(y1, q.y + 3 * sy)];
  }
  const half = (factor * Math.max(x1 - x0, y1 - y0)) / 2;
  const [x, y] = [(x0 + x1) / 2, (y0 + y1) / 2];
  return { x0: x - half, x1: x + half, y0: y - half, y1: y + half };
}

/** The three terms of log p(x) under a normal q, in nats. */
export interface ThreeTerms {
  /** E_q[log p(x|z)]. */
  reconstruction: number;
  /** KL(q || p(z)). */
  kl: number;
  /** KL(q || p(z|x)). */
  gap: number;
  elbo: number;
}

export async function threeTerms(
  evaluate: Evaluate,
  q: Normal2,
  logPx: number,
): Promise<ThreeTerms> {
  const { z, weights, n } = q.nodes;
  const { logPrior, logLikelihood } = await evaluate(z, n);
  let [reconstruction, logP, logPosterior] = [0, 0, 0];
  for (let i = 0; i < n; i++) {
    reconstruction += weights[i] * logLikelihood[i];
    logP += weights[i] * logPrior[i];
    logPosterior += weights[i] * (logPrior[i] + logLikelihood[i] - logPx);
  }
  const kl = q.negativeEntropy - logP;
  return { reconstruction, kl, gap: q.negativeEntropy - logPosterior, elbo: reconstruction - kl };
}

/** The running estimate of log p(x): log of the mean of the first n weights, for each n. */
export function runningLogMean(logWeights: Float64Array): Float64Array {
  let [largest, sum] = [-Infinity, 0];
  return logWeights.map((value, i) => {
    if (value > largest) {
      sum = sum * Math.exp(largest - value) + 1;
      largest = value;
    } else {
      sum += Math.exp(value - largest);
    }
    return largest + Math.log(sum / (i + 1));
  });
}

/** The fewest of the first n weights that carry a share of their sum. */
export function carriers(logWeights: Float64Array, share: number): number {
  const sorted = logWeights.slice().sort().reverse();
  const total = logSumExp(sorted);
  let sum = 0;
  let count = 0;
  for (const value of sorted) {
    sum += Math.exp(value - total);
    count += 1;
    if (sum >= share) break;
  }
  return count;
}
