// Densities on a plane as grids: kernel density, marginals of normals, contours, holes.

/** A grid of values at cell centres over a rectangle. */
export interface Grid {
  columns: number;
  rows: number;
  x0: number;
  x1: number;
  y0: number;
  y1: number;
  values: Float64Array;
}

export interface Frame {
  x0: number;
  x1: number;
  y0: number;
  y1: number;
}

export function emptyGrid(frame: Frame, columns: number, rows: number): Grid {
  return { ...frame, columns, rows, values: new Float64Array(columns * rows) };
}

export function cellArea(grid: Grid): number {
  const width = (grid.x1 - grid.x0) / grid.columns;
  return (width * (grid.y1 - grid.y0)) / grid.rows;
}

/** A density function at the cell centres. */
export function gridOf(
  frame: Frame,
  columns: number,
  rows: number,
  density: (x: number, y: number) => number,
): Grid {
  const grid = emptyGrid(frame, columns, rows);
  const dx = (frame.x1 - frame.x0) / columns;
  const dy = (frame.y1 - frame.y0) / rows;
  for (let j = 0; j < rows; j++) {
    for (let i = 0; i < columns; i++) {
      grid.values[j * columns + i] = density(
        frame.x0 + (i + 0.5) * dx,
        frame.y0 + (j + 0.5) * dy,
      );
    }
  }
  return grid;
}

/** Scott's bandwidth of each axis of points (x, y, x, y, ...): n^(-1/6) times the deviation. */
export function scottBandwidth(xy: Float32Array): [number, number] {
  const n = xy.length / 2;
  const factor = n ** (-1 / 6);
  const spread = [0, 1].map((axis) => {
    let sum = 0;
    let squares = 0;
    for (let i = axis; i < xy.length; i += 2) {
      sum += xy[i];
      squares += xy[i] ** 2;
    }
    return Math.sqrt(Math.max(squares / n - (sum / n) ** 2, 1e-12));
  });
  return [factor * spread[0], factor * spread[1]];
}

function kernel(bandwidth: number, cell: number): Float64Array {
  const reach = Math.max(1, Math.ceil((4 * bandwidth) / cell));
  const weights = Float64Array.from({ length: 2 * reach + 1 }, (_, k) =>
    Math.exp(-0.5 * (((k - reach) * cell) / bandwidth) ** 2),
  );
  const total = weights.reduce((sum, w) => sum + w, 0);
  return weights.map((w) => w / total);
}

/** Convolution along one axis of a grid. */
function smoothed(grid: Grid, weights: Float64Array, alongX: boolean): Float64Array {
  const { columns, rows, values } = grid;
  const reach = (weights.length - 1) / 2;
  const out = new Float64Array(values.length);
  const length = alongX ? columns : rows;
  const stride = alongX ? 1 : columns;
  for (let place = 0; place < values.length; place++) {
    const value = values[place];
    if (value === 0) continue;
    const at = alongX ? place % columns : Math.floor(place / columns);
    const first = Math.max(0, at - reach);
    const last = Math.min(length - 1, at + reach);
    for (let to = first; to <= last; to++) {
      out[place + (to - at) * stride] += value * weights[to - at + reach];
    }
  }
  return out;
}

/** Kernel density of points on a grid: linear binning, then a Gaussian along each axis. */
export function kernelDensity(
  xy: Float32Array,
  frame: Frame,
  columns: number,
  rows: number,
  bandwidth: [number, number],
): Grid {
  const grid = emptyGrid(frame, columns, rows);
  const dx = (frame.x1 - frame.x0) / columns;
  const dy = (frame.y1 - frame.y0) / rows;
  const n = xy.length / 2;
  const weight = 1 / (n * dx * dy);
  for (let k = 0; k < n; k++) {
    const u = (xy[2 * k] - frame.x0) / dx - 0.5;
    const v = (xy[2 * k + 1] - frame.y0) / dy - 0.5;
    const i = Math.floor(u);
    const j = Math.floor(v);
    for (const [a, p] of [[i, i + 1 - u], [i + 1, u - i]]) {
      for (const [b, q] of [[j, j + 1 - v], [j + 1, v - j]]) {
        if (a >= 0 && a < columns && b >= 0 && b < rows) grid.values[b * columns + a] += weight * p * q;
      }
    }
  }
  grid.values = smoothed(grid, kernel(bandwidth[0], dx), true);
  grid.values = smoothed(grid, kernel(bandwidth[1], dy), false);
  return grid;
}

/** The density levels whose regions of higher density hold these shares of the mass. */
export function massLevels(grid: Grid, shares: readonly number[]): number[] {
  const sorted = Float64Array.from(grid.values).sort().reverse();
  const total = sorted.reduce((sum, value) => sum + value, 0);
  return shares.map((share) => {
    let sum = 0;
    for (const value of sorted) {
      sum += value;
      if (sum >= share * total) return value;
    }
    return 0;
  });
}

export type Segment = [number, number, number, number];

/** Line segments of the contour of a grid at one level (marching squares). */
export function contour(grid: Grid, level: number): Segment[] {
  const { columns, rows, values } = grid;
  const dx = (grid.x1 - grid.x0) / columns;
  const dy = (grid.y1 - grid.y0) / rows;
  const segments: Segment[] = [];
  for (let j = 0; j < rows - 1; j++) {
    for (let i = 0; i < columns - 1; i++) {
      const place = j * columns + i;
      const corner = [values[place], values[place + 1], values[place + columns + 1], values[place + columns]];
      const crossings: [number, number][] = [];
      for (let side = 0; side < 4; side++) {
        const a = corner[side];
        const b = corner[(side + 1) % 4];
        if (a < level === b < level) continue;
        const t = (level - a) / (b - a);
        const [ax, ay] = [[0, 0], [1, 0], [1, 1], [0, 1]][side];
        const [bx, by] = [[1, 0], [1, 1], [0, 1], [0, 0]][side];
        crossings.push([
          grid.x0 + (i + 0.5 + ax + t * (bx - ax)) * dx,
          grid.y0 + (j + 0.5 + ay + t * (by - ay)) * dy,
        ]);
      }
      for (let k = 0; k + 1 < crossings.length; k += 2) {
        segments.push([...crossings[k], ...crossings[k + 1]]);
      }
    }
  }
  return segments;
}

/** Where the prior is dense and no code is near. */
export interface Holes {
  /** 1 in cells that are marked. */
  mask: Uint8Array;
  /** Share of the prior mass in the marked cells. */
  share: number;
  /** Codes below this share of the prior density mark a cell. */
  threshold: number;
  /** Share of the prior mass in whose region of highest density cells are looked at. */
  region: number;
  bandwidth: [number, number];
}

/**
 * Cells inside the prior's region of highest density with a code density below a share of the
 * prior density.
 */
export function holesOf(
  prior: Grid,
  codes: Grid,
  bandwidth: [number, number],
  threshold = 0.1,
  region = 0.9,
): Holes {
  const [level] = massLevels(prior, [region]);
  const mask = new Uint8Array(prior.values.length);
  let marked = 0;
  for (let place = 0; place < mask.length; place++) {
    const p = prior.values[place];
    if (p < level || codes.values[place] >= threshold * p) continue;
    mask[place] = 1;
    marked += p;
  }
  return { mask, share: marked * cellArea(prior), threshold, region, bandwidth };
}
