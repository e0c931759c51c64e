// Points of a plane by the cells of a grid: near ones are found without a pass over all.

const POINTS_PER_CELL = 4;
const MOST_CELLS = 512; // along a side

/** Finds the points that are nearest to a place. */
export class PointIndex {
  private readonly x0: number;
  private readonly y0: number;
  private readonly cell: number;
  private readonly columns: number;
  private readonly rows: number;
  /** Where the points of each cell begin in `order`. */
  private readonly starts: Uint32Array;
  private readonly order: Uint32Array;

  /** Coordinates x, y, x, y, ...; a point with one that is not finite is never found. */
  constructor(private readonly xy: Float32Array) {
    const finite: number[] = [];
    let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
    for (let i = 0; i < xy.length / 2; i++) {
      const x = xy[2 * i];
      const y = xy[2 * i + 1];
      if (!Number.isFinite(x + y)) continue;
      finite.push(i);
      if (x < x0) x0 = x;
      if (x > x1) x1 = x;
      if (y < y0) y0 = y;
      if (y > y1) y1 = y;
    }
    const side = Math.max(1, Math.min(MOST_CELLS, Math.floor(Math.sqrt(finite.length / POINTS_PER_CELL))));
    this.x0 = finite.length > 0 ? x0 : 0;
    this.y0 = finite.length > 0 ? y0 : 0;
    this.cell = Math.max(x1 - x0, y1 - y0, 1e-9) / side;
    this.columns = this.cellOf(x1, this.x0, side) + 1;
    this.rows = this.cellOf(y1, this.y0, side) + 1;
    const cells = finite.map((i) => this.number(xy[2 * i], xy[2 * i + 1]));
    this.starts = new Uint32Array(this.columns * this.rows + 1);
    for (const number of cells) this.starts[number + 1] += 1;
    for (let k = 0; k < this.columns * this.rows; k++) this.starts[k + 1] += this.starts[k];
    const next = this.starts.slice();
    this.order = new Uint32Array(finite.length);
    finite.forEach((i, k) => {
      this.order[next[cells[k]]] = i;
      next[cells[k]] += 1;
    });
  }

  private cellOf(value: number, start: number, count: number): number {
    return Math.max(0, Math.min(count - 1, Math.floor((value - start) / this.cell) || 0));
  }

  private number(x: number, y: number): number {
    return this.cellOf(y, this.y0, this.rows) * this.columns + this.cellOf(x, this.x0, this.columns);
  }

  /** The points nearest to (x, y) within a reach, the nearest first. */
  nearest(x: number, y: number, count: number, reach = Infinity): number[] {
    const best: { point: number; square: number }[] = [];
    const column = this.cellOf(x, this.x0, this.columns);
    const row = this.cellOf(y, this.y0, this.rows);
    const most = Math.max(this.columns, this.rows);
    for (let ring = 0; ring < most; ring++) {
      this.visit(column, row, ring, (point) => {
        const square = (this.xy[2 * point] - x) ** 2 + (this.xy[2 * point + 1] - y) ** 2;
        if (square > reach ** 2) return;
        if (best.length === count && square >= best[count - 1].square) return;
        let at = best.length;
        while (at > 0 && best[at - 1].square > square) at -= 1;
        best.splice(at, 0, { point, square });
        if (best.length > count) best.pop();
      });
      const clear = this.clearance(x, y, column, row, ring);
      if (clear > reach || (best.length === count && clear ** 2 >= best[count - 1].square && clear > 0)) break;
    }
    return best.map(({ point }) => point);
  }

  /** The cells at a distance of so many from one, in the larger of both directions. */
  private visit(column: number, row: number, ring: number, work: (point: number) => void): void {
    const { columns, rows, starts, order } = this;
    for (let j = Math.max(0, row - ring); j <= Math.min(rows - 1, row + ring); j++) {
      const isEdge = Math.abs(j - row) === ring;
      const step = isEdge || ring === 0 ? 1 : 2 * ring;
      for (let i = column - ring; i <= column + ring; i += step) {
        if (i < 0 || i >= columns) continue;
        const cell = j * columns + i;
        for (let k = starts[cell]; k < starts[cell + 1]; k++) work(order[k]);
      }
    }
  }

  /** How far from (x, y) every point is that is not in the rings up to this one. */
  private clearance(x: number, y: number, column: number, row: number, ring: number): number {
    const { x0, y0, cell, columns, rows } = this;
    return Math.min(
      column - ring <= 0 ? Infinity : x - (x0 + (column - ring) * cell),
      column + ring >= columns - 1 ? Infinity : x0 + (column + ring + 1) * cell - x,
      row - ring <= 0 ? Infinity : y - (y0 + (row - ring) * cell),
      row + ring >= rows - 1 ? Infinity : y0 + (row + ring + 1) * cell - y,
    );
  }
}

const kept = new WeakMap<Float32Array, PointIndex>();

/** The index of coordinates, made once for each array. */
export function indexOf(xy: Float32Array): PointIndex {
  let index = kept.get(xy);
  if (index === undefined) {
    index = new PointIndex(xy);
    kept.set(xy, index);
  }
  return index;
}
