// What the plane of a run shows: code coordinates, frame, contours of p(z), holes.
import type { Model } from "../compute/model";
import { t } from "../texts/texts";
import type { Frame, Grid, Holes, Segment } from "../distributions/density";
import {
  contour,
  gridOf,
  holesOf,
  kernelDensity,
  massLevels,
  scottBandwidth,
} from "../distributions/density";
import type { Plane } from "../distributions/projection";
import { ComponentPlane, FeaturePlane } from "../distributions/projection";

const SHARES = [0.5, 0.9, 0.99];
const CELLS = 160;

export interface PlaneData {
  xy: Float32Array;
  frame: Frame;
  contours: { segments: Segment[]; level: number }[];
  /** Density of p(z) in the plane; null where it has none. */
  prior: Grid | null;
  codes: Grid;
  holes: Holes | null;
  /** Number of draws and bandwidth of a prior by kernel density; null for a normal. */
  kernel: { draws: number; bandwidth: [number, number] } | null;
}

/** The mathematical name of a feature: z₁, or z₁ of a site with several. */
export function featureName(model: Model, index: number): string {
  const { sites } = model.run.latent;
  const site = sites.find((s) => index >= s.start && index < s.start + s.width)!;
  const number = subscript(index - site.start + 1);
  return sites.length === 1 ? `z${number}` : `${siteName(site.name)},${number}`;
}

/** The mathematical name of a site: z₁ for z1. */
export function siteName(name: string): string {
  return name.replace(/\d+/, subscript);
}

/** The name of a data point: its row and class. */
export function labelOf({ model }: { model: Model }, point: number): string {
  const label = model.points.labels?.[point] ?? -1;
  const row = `${t("input.row")} ${point}`;
  return label < 0 ? row : `${row}: ${model.run.data.classes?.[label] ?? label}`;
}

export function subscript(number: number | string): string {
  return String(number).replace(/\d/g, (digit) => "₀₁₂₃₄₅₆₇₈₉"[Number(digit)]);
}

/** The plane that is shown first: the two features with the largest KL. */
export function firstPlane(model: Model): Plane {
  const [first, second = first] = model.run.latent.features;
  if (first === undefined) return featurePlane(model, [0, Math.min(1, model.width - 1)]);
  const axes = [first.index, second.index].sort((a, b) => a - b);
  return featurePlane(model, [axes[0], axes[1]]);
}

export function featurePlane(model: Model, axes: readonly [number, number]): Plane {
  return new FeaturePlane(model.width, axes, [
    featureName(model, axes[0]),
    featureName(model, axes[1]),
  ]);
}

export async function componentPlane(
  model: Model,
  axes: readonly [number, number],
  name: (k: number) => string,
): Promise<Plane | null> {
  const components = await model.components();
  if (components === null) return null;
  const { directions, center } = components;
  if (directions.length / model.width <= Math.max(...axes)) return null;
  return new ComponentPlane(model.width, directions, center, axes, [name(axes[0] + 1), name(axes[1] + 1)]);
}

function quantile(sorted: Float32Array, share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}

/** A square frame around coordinates and, where there is one, a normal at (x, y). */
function frameOf(sets: Float32Array[], normalAt: [number, number] | null): Frame {
  const bounds = [0, 1].map((axis) => {
    let low = normalAt === null ? Infinity : normalAt[axis] - 3.3;
    let high = normalAt === null ? -Infinity : normalAt[axis] + 3.3;
    for (const xy of sets) {
      const sorted = xy.filter((_, i) => i % 2 === axis).sort();
      if (sorted.length === 0) continue;
      const margin = 0.12 * (quantile(sorted, 0.995) - quantile(sorted, 0.005));
      low = Math.min(low, quantile(sorted, 0.005) - margin);
      high = Math.max(high, quantile(sorted, 0.995) + margin);
    }
    return [low, high];
  });
  const side = Math.max(bounds[0][1] - bounds[0][0], bounds[1][1] - bounds[1][0], 1e-3);
  const middle = bounds.map(([low, high]) => (low + high) / 2);
  return {
    x0: middle[0] - side / 2,
    x1: middle[0] + side / 2,
    y0: middle[1] - side / 2,
    y1: middle[1] + side / 2,
  };
}

/** The circle around a normal in two dimensions that holds a share of its mass. */
function circle(x: number, y: number, share: number): Segment[] {
  const radius = Math.sqrt(-2 * Math.log(1 - share));
  const sides = 128;
  return Array.from({ length: sides }, (_, k) => {
    const [a, b] = [k, k + 1].map((i) => (2 * Math.PI * i) / sides);
    return [
      x + radius * Math.cos(a),
      y + radius * Math.sin(a),
      x + radius * Math.cos(b),
      y + radius * Math.sin(b),
    ];
  });
}

export function normalGrid(frame: Frame, x: number, y: number): Grid {
  return gridOf(frame, CELLS, CELLS, (px, py) => Math.exp(-0.5 * ((px - x) ** 2 + (py - y) ** 2)) / (2 * Math.PI));
}

/** Bandwidths of at least a cell, since a grid holds nothing narrower. */
function gridBandwidth(xy: Float32Array, frame: Frame): [number, number] {
  const cell = (frame.x1 - frame.x0) / CELLS;
  const [hx, hy] = scottBandwidth(xy);
  return [Math.max(hx, cell), Math.max(hy, cell)];
}

/** Everything that the plane shows, from the codes and the prior. */
export async function planeData(model: Model, plane: Plane): Promise<PlaneData> {
  const xy = plane.coordinates(model.points.z, model.points.n);
  const draws = await model.priorDraws();
  const isNormal = model.hasStandardPrior;
  const origin = plane.coordinates(new Float64Array(model.width), 1);
  const normalAt: [number, number] | null = isNormal ? [origin[0], origin[1]] : null;
  const drawn = draws === null ? null : plane.coordinates(draws, draws.length / model.width);
  const frame = frameOf(drawn === null ? [xy] : [xy, drawn], normalAt);
  const bandwidth = gridBandwidth(xy, frame);
  const codes = kernelDensity(xy, frame, CELLS, CELLS, bandwidth);
  const base = { xy, frame, codes };
  if (normalAt !== null) {
    const prior = normalGrid(frame, ...normalAt);
    const contours = SHARES.map((level) => ({ segments: circle(...normalAt, level), level }));
    return { ...base, contours, prior, holes: holesOf(prior, codes, bandwidth), kernel: null };
  }
  if (drawn === null) return { ...base, contours: [], prior: null, holes: null, kernel: null };
  const width = gridBandwidth(drawn, frame);
  const prior = kernelDensity(drawn, frame, CELLS, CELLS, width);
  const levels = massLevels(prior, SHARES);
  const contours = SHARES.map((level, k) => ({ segments: contour(prior, levels[k]), level }));
  const kernel = { draws: drawn.length / 2, bandwidth: width };
  // both densities with one kernel: a narrower one of p(z) would be higher at its peaks alone
  const smooth = kernelDensity(drawn, frame, CELLS, CELLS, bandwidth);
  return { ...base, contours, prior, holes: holesOf(smooth, codes, bandwidth), kernel };
}

/** Whether a place is in a marked cell. */
export function isInHole(data: PlaneData, x: number, y: number): boolean {
  if (data.holes === null || data.prior === null) return false;
  const { frame, prior } = data;
  const i = Math.floor(((x - frame.x0) / (frame.x1 - frame.x0)) * prior.columns);
  const j = Math.floor(((y - frame.y0) / (frame.y1 - frame.y0)) * prior.rows);
  if (i < 0 || j < 0 || i >= prior.columns || j >= prior.rows) return false;
  return data.holes.mask[j * prior.columns + i] === 1;
}
