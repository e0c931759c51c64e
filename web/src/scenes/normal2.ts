// Normal distributions of two features: density, ellipse, and nodes of their expectations.
import type { Ellipse } from "../distributions/projection";
import type { Random } from "../distributions/random";
import { HALF_LOG_TAU } from "../distributions/special";

const REACH = 5.5; // standard deviations that the nodes of an expectation cover
const NODES = 27; // along each axis

/** Nodes of an expectation, x, y, x, y, ..., and their weights, whose sum is 1. */
export interface Nodes {
  z: Float64Array;
  weights: Float64Array;
  n: number;
}

/** Nodes of N(0, I): a lattice in a disc, exact for smooth functions. */
const STANDARD: Nodes = (() => {
  const step = (2 * REACH) / (NODES - 1);
  const z: number[] = [];
  const weights: number[] = [];
  for (let j = 0; j < NODES; j++) {
    for (let i = 0; i < NODES; i++) {
      const [x, y] = [i * step - REACH, j * step - REACH];
      if (Math.hypot(x, y) > REACH) continue;
      z.push(x, y);
      weights.push(Math.exp(-0.5 * (x * x + y * y)));
    }
  }
  const total = weights.reduce((sum, w) => sum + w, 0);
  return {
    z: Float64Array.from(z),
    weights: Float64Array.from(weights, (w) => w / total),
    n: weights.length,
  };
})();

/** N(z; (x, y), L L') with the lower factor L = [[a, 0], [b, c]]. */
export class Normal2 {
  constructor(
    readonly x: number,
    readonly y: number,
    readonly a: number,
    readonly b: number,
    readonly c: number,
  ) {}

  static diagonal(mean: ArrayLike<number>, sd: ArrayLike<number>): Normal2 {
    return new Normal2(mean[0], mean[1], sd[0], 0, sd[1]);
  }

  logDensity(x: number, y: number): number {
    const u = (x - this.x) / this.a;
    const v = (y - this.y - this.b * u) / this.c;
    return -0.5 * (u * u + v * v) - Math.log(this.a * this.c) - 2 * HALF_LOG_TAU;
  }

  /** E_q[log q], in nats. */
  get negativeEntropy(): number {
    return -1 - 2 * HALF_LOG_TAU - Math.log(this.a * this.c);
  }

  get sd(): [number, number] {
    return [this.a, Math.hypot(this.b, this.c)];
  }

  at(u: number, v: number): [number, number] {
    return [this.x + this.a * u, this.y + this.b * u + this.c * v];
  }

  moved(x: number, y: number): Normal2 {
    return new Normal2(x, y, this.a, this.b, this.c);
  }

  scaled(factor: number): Normal2 {
    return new Normal2(this.x, this.y, factor * this.a, factor * this.b, factor * this.c);
  }

  sample(random: Random): [number, number] {
    return this.at(random.normal(), random.normal());
  }

  get nodes(): Nodes {
    const z = new Float64Array(STANDARD.z.length);
    for (let i = 0; i < z.length; i += 2) {
      [z[i], z[i + 1]] = this.at(STANDARD.z[i], STANDARD.z[i + 1]);
    }
    return { z, weights: STANDARD.weights, n: STANDARD.n };
  }

  get ellipse(): Ellipse {
    const { x, y, a, b, c } = this;
    return { x, y, xx: a * a, xy: a * b, yy: b * b + c * c };
  }
}
