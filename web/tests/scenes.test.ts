// Integrals of the scenes against closed forms of a linear-Gaussian model with two features.
import { describe, expect, it } from "vitest";
import formulas from "../src/scenes/formulas.tex";
import {
  carriers,
  evidence,
  fieldOn,
  logIntegral,
  runningLogMean,
  squareAround,
  threeTerms,
} from "../src/scenes/bayes";
import type { Evaluate } from "../src/scenes/bayes";
import type { Model } from "../src/compute/model";
import { batchOf } from "../src/scenes/example";
import { Normal2 } from "../src/scenes/normal2";
import { minimise } from "../src/scenes/simplex";
import { HALF_LOG_TAU } from "../src/distributions/special";

/** x = W z + noise, z ~ N(0, I): three values of x, all distributions known. */
const W = [
  [1.5, 0.4],
  [-0.3, 2],
  [0.7, 0.7],
];

function linear(x: number[], noise: number) {
  const evaluate: Evaluate = async (z, n) => {
    const logPrior = new Float64Array(n);
    const logLikelihood = new Float64Array(n);
    for (let i = 0; i < n; i++) {
      const [a, b] = [z[2 * i], z[2 * i + 1]];
      logPrior[i] = -0.5 * (a * a + b * b) - 2 * HALF_LOG_TAU;
      x.forEach((value, k) => {
        const residual = (value - W[k][0] * a - W[k][1] * b) / noise;
        logLikelihood[i] += -0.5 * residual ** 2 - Math.log(noise) - HALF_LOG_TAU;
      });
    }
    return { logPrior, logLikelihood };
  };
  // precision of the posterior I + W'W / noise², and its mean
  const p = [
    [1, 0],
    [0, 1],
  ];
  const right = [0, 0];
  W.forEach((row, k) => {
    for (const i of [0, 1]) {
      right[i] += (row[i] * x[k]) / noise ** 2;
      for (const j of [0, 1]) p[i][j] += (row[i] * row[j]) / noise ** 2;
    }
  });
  const det = p[0][0] * p[1][1] - p[0][1] ** 2;
  const cov = [
    [p[1][1] / det, -p[0][1] / det],
    [-p[0][1] / det, p[0][0] / det],
  ];
  const mean = [0, 1].map((i) => cov[i][0] * right[0] + cov[i][1] * right[1]);
  const a = Math.sqrt(cov[0][0]);
  const b = cov[0][1] / a;
  const posterior = new Normal2(mean[0], mean[1], a, b, Math.sqrt(cov[1][1] - b * b));
  // log N(x; 0, W W' + noise² I), by |I + W'W / noise²| and x'x - x'W cov W'x
  const squares = x.reduce((sum, value) => sum + value ** 2, 0) / noise ** 2;
  const explained = mean[0] * right[0] + mean[1] * right[1];
  const logDet = Math.log(det) + 2 * x.length * Math.log(noise);
  const logPx = -0.5 * (squares - explained + logDet) - x.length * HALF_LOG_TAU;
  return { evaluate, posterior, logPx };
}

/** KL(q || p) of two normals of two features. */
function klNormals(q: Normal2, p: Normal2): number {
  const trace = (x: number, y: number) => {
    const u = x / p.a;
    return u * u + ((y - p.b * u) / p.c) ** 2;
  };
  const spread = trace(q.a, q.b) + trace(0, q.c);
  const ratio = Math.log((p.a * p.c) / (q.a * q.c));
  return 0.5 * (spread + trace(q.x - p.x, q.y - p.y)) - 1 + ratio;
}

const FRAME = { x0: -5.5, x1: 5.5, y0: -5.5, y1: 5.5 };
const CASES = [
  { noise: 0.5, x: [1, -2, 0.5] },
  { noise: 0.05, x: [2.2, 1.1, 1.4] },
  { noise: 0.01, x: [-0.9, 3.1, 0.6] },
];

describe.each(CASES)("a linear-Gaussian model with noise $noise", ({ noise, x }) => {
  const { evaluate, posterior, logPx } = linear(x, noise);

  it("has the log p(x) of its closed form", async () => {
    const wide = await fieldOn(evaluate, FRAME, 64, 64);
    const result = await evidence(evaluate, wide, posterior);
    expect(Math.abs(result.logPx - logPx)).toBeLessThan(1e-3);
    const { box } = result;
    expect(box.x0).toBeLessThan(posterior.x);
    expect(box.x1).toBeGreaterThan(posterior.x);
    const near = await fieldOn(evaluate, squareAround(box, null, 1.4), 160, 160);
    expect(Math.abs(logIntegral(near) - logPx)).toBeLessThan(2e-3);
  });

  it("has that log p(x) as well where q is far off", async () => {
    const wide = await fieldOn(evaluate, FRAME, 64, 64);
    const result = await evidence(evaluate, wide, new Normal2(-4, 4, 1, 0, 1));
    expect(Math.abs(result.logPx - logPx)).toBeLessThan(1e-3);
  });

  it("has three terms of their closed forms, whose sum is log p(x)", async () => {
    const q = new Normal2(posterior.x + 0.1, posterior.y - 0.05, 0.2, 0.03, 0.1);
    const terms = await threeTerms(evaluate, q, logPx);
    const prior = new Normal2(0, 0, 1, 0, 1);
    const gap = klNormals(q, posterior);
    expect(Math.abs(terms.kl - klNormals(q, prior))).toBeLessThan(1e-5);
    expect(Math.abs(terms.gap - gap)).toBeLessThan(1e-5 * Math.max(1, gap));
    expect(Math.abs(terms.elbo - (logPx - gap))).toBeLessThan(1e-5 * Math.max(1, gap));
    const sum = terms.reconstruction - terms.kl + terms.gap;
    expect(Math.abs(sum - logPx)).toBeLessThan(1e-5 * Math.max(1, gap));
  });

  it("has no gap where q is the posterior, and one elsewhere", async () => {
    expect(Math.abs((await threeTerms(evaluate, posterior, logPx)).gap)).toBeLessThan(1e-5);
    const moved = posterior.moved(posterior.x + posterior.a, posterior.y);
    expect((await threeTerms(evaluate, moved, logPx)).gap).toBeGreaterThan(0.1);
    expect((await threeTerms(evaluate, posterior.scaled(2), logPx)).gap).toBeGreaterThan(0.1);
  });
});

it("finds the posterior as the best normal", async () => {
  const { evaluate, posterior, logPx } = linear([1, -2, 0.5], 0.5);
  const unpack = ([x, y, a, b, c]: number[]) => new Normal2(x, y, Math.exp(a), b, Math.exp(c));
  const start = [posterior.x + 0.5, posterior.y - 0.4, -0.5, 0, -0.5];
  const best = await minimise(
    async (at) => -(await threeTerms(evaluate, unpack(at), logPx)).elbo,
    start,
    [0.2, 0.2, 0.3, 0.1, 0.3],
    400,
  );
  expect(Math.abs(-best.value - logPx)).toBeLessThan(2e-3);
  expect(Math.abs(best.at[0] - posterior.x)).toBeLessThan(0.03);
});

it.each([
  [128, 1024], // an MLP over 8 x 8 pixels: as many rows as ever
  [409_600, 9], // ten colour components over 64 x 64 pixels
  [20_000_000, 1],
])("decodes rows of %i numbers %i at once", (parameterCount, rows) => {
  expect(batchOf({ parameterCount } as Model)).toBe(rows);
});

it("takes running means of weights in the log", () => {
  const weights = Float64Array.from([-1000, -1001, -999]);
  const running = runningLogMean(weights);
  const shares = [-1000, -1001, -999].map((value) => Math.exp(value + 1000));
  expect(running[0]).toBeCloseTo(-1000, 10);
  expect(running[1]).toBeCloseTo(-1000 + Math.log((shares[0] + shares[1]) / 2), 10);
  expect(running[2]).toBeCloseTo(-1000 + Math.log((shares[0] + shares[1] + shares[2]) / 3), 10);
  expect(carriers(Float64Array.from([0, -20, -20, 0]), 0.99)).toBe(2);
});

it("has formulas without style attributes, which the page's policy forbids", () => {
  expect(Object.keys(formulas).length).toBeGreaterThan(15);
  for (const mathml of Object.values(formulas)) {
    expect(mathml).toMatch(/^<math/);
    expect(mathml).not.toMatch(/ style=/);
  }
});
