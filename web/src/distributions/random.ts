// A small seeded generator of uniform and normal numbers.

/** Uniform and normal numbers from a seed (mulberry32, polar method). */
export class Random {
  private state: number;
  private spare: number | null = null;

  constructor(seed: number) {
    this.state = seed >>> 0;
  }

  /** Uniform on (0, 1). */
  uniform(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let t = this.state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 4294967296;
  }

  /** Standard normal. */
  normal(): number {
    if (this.spare !== null) {
      const value = this.spare;
      this.spare = null;
      return value;
    }
    for (;;) {
      const u = 2 * this.uniform() - 1;
      const v = 2 * this.uniform() - 1;
      const square = u * u + v * v;
      if (square >= 1 || square === 0) continue;
      const factor = Math.sqrt((-2 * Math.log(square)) / square);
      this.spare = v * factor;
      return u * factor;
    }
  }

  normals(n: number): Float64Array {
    return Float64Array.from({ length: n }, () => this.normal());
  }

  /** An integer below n. */
  below(n: number): number {
    return Math.min(n - 1, Math.floor(this.uniform() * n));
  }

  /** The number of a category with these log-weights; NaN where one of them is NaN. */
  category(logits: ArrayLike<number>): number {
    let best = 0;
    let largest = -Infinity;
    for (let i = 0; i < logits.length; i++) {
      if (Number.isNaN(logits[i])) best = NaN;
      const score = logits[i] - Math.log(-Math.log(this.uniform()));
      if (score > largest && !Number.isNaN(best)) {
        largest = score;
        best = i;
      }
    }
    return best;
  }

  /** Gamma with this shape and scale 1 (Marsaglia and Tsang 2000); NaN where that is not finite. */
  gamma(shape: number): number {
    if (!Number.isFinite(shape)) return NaN;
    if (shape < 1) return this.gamma(shape + 1) * this.uniform() ** (1 / shape);
    const d = shape - 1 / 3;
    const c = 1 / Math.sqrt(9 * d);
    for (;;) {
      const x = this.normal();
      const v = (1 + c * x) ** 3;
      if (v <= 0) continue;
      if (Math.log(this.uniform()) < 0.5 * x * x + d - d * v + d * Math.log(v)) return d * v;
    }
  }

  /**
   * Poisson: by products for small means, in halves by gamma numbers for large ones; NaN where the
   * mean is not finite.
   */
  poisson(mean: number): number {
    if (!Number.isFinite(mean)) return NaN;
    let count = 0;
    let rest = mean;
    while (rest > 30) {
      const steps = Math.floor(rest * 0.875);
      const time = this.gamma(steps);
      if (time > rest) return count + this.binomial(steps - 1, rest / time);
      count += steps;
      rest -= time;
    }
    const end = Math.exp(-rest);
    for (let product = this.uniform(); product > end; product *= this.uniform()) count += 1;
    return count;
  }

  private binomial(n: number, p: number): number {
    let count = 0;
    for (let i = 0; i < n; i++) if (this.uniform() < p) count += 1;
    return count;
  }
}
