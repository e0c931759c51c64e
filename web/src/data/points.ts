// The data points of a run: codes, spreads, labels, examples, terms.
import type { KeptBlocks } from "./blocks";
import type { Block, Run } from "./manifest";

/** Examples of n rows in raw units. */
export class Examples {
  constructor(
    private readonly values: Float64Array | Float32Array,
    readonly n: number,
    readonly size: number,
  ) {}

  row(i: number): Float64Array {
    return Float64Array.from(this.values.subarray(i * this.size, (i + 1) * this.size));
  }

  /**
   * The row with the least mean squared distance to x, over the values that are observed. Where
   * scales are given, each difference is divided by its own; 0 stands for a category, whose
   * difference is 0 or 1.
   */
  nearest(x: ArrayLike<number>, scales: Float64Array | null = null): { row: number; distance: number } {
    let row = 0;
    let least = Infinity;
    for (let i = 0; i < this.n; i++) {
      const start = i * this.size;
      let sum = 0;
      for (let j = 0; j < this.size && sum < least; j++) {
        let difference = this.values[start + j] - x[j];
        if (Number.isNaN(difference)) continue;
        if (scales !== null) difference = scales[j] === 0 ? Number(difference !== 0) : difference / scales[j];
        sum += difference * difference;
      }
      if (sum < least) {
        least = sum;
        row = i;
      }
    }
    return { row, distance: Math.sqrt(least / this.size) };
  }
}

export async function readExamples(blocks: KeptBlocks, block: Block): Promise<Examples> {
  const n = block.shape[0];
  const isDouble = block.dtype === "float64";
  const values = isDouble ? await blocks.doubles(block) : await blocks.floats(block);
  return new Examples(values, n, n > 0 ? values.length / n : 0);
}

export interface PointData {
  n: number;
  width: number;
  z: Float32Array;
  sd: Float32Array | null;
  labels: Int32Array | null;
  /** Entry numbers (n, codes) of a model of codes. */
  codes: Int32Array | null;
  x: Examples;
  /** log p(x|z) averaged over q, and KL, of each point; NaN where there is none. */
  terms: Float32Array | null;
  condition: Float64Array | null;
  conditionWidth: number;
}

export async function readPoints(blocks: KeptBlocks, run: Run): Promise<PointData> {
  const { points } = run;
  const [z, sd, labels, codes, x, terms, condition] = await Promise.all([
    blocks.floats(points.z),
    points.scale ? blocks.floats(points.scale) : null,
    points.labels ? blocks.integers(points.labels) : null,
    points.codes ? blocks.integers(points.codes) : null,
    readExamples(blocks, points.x),
    points.terms ? blocks.floats(points.terms) : null,
    points.condition ? blocks.doubles(points.condition) : null,
  ]);
  const conditionWidth = condition === null ? 0 : condition.length / points.n;
  const width = run.latent.width;
  return { n: points.n, width, z, sd, labels, codes, x, terms, condition, conditionWidth };
}
