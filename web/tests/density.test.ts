// Densities, contours and holes on cases whose values are known.
import { describe, expect, it } from "vitest";
import {
  cellArea,
  contour,
  gridOf,
  holesOf,
  kernelDensity,
  massLevels,
  scottBandwidth,
} from "../src/distributions/density";
import { Random } from "../src/distributions/random";

const FRAME = { x0: -5, x1: 5, y0: -5, y1: 5 };

function normal(x: number, y: number): number {
  return Math.exp(-0.5 * (x * x + y * y)) / (2 * Math.PI);
}

/** Draws of N(0, I), without those inside a circle. */
function drawsOutside(n: number, x: number, y: number, radius: number): Float32Array {
  const random = new Random(1);
  const xy: number[] = [];
  while (xy.length < 2 * n) {
    const place = [random.normal(), random.normal()];
    if (Math.hypot(place[0] - x, place[1] - y) > radius) xy.push(...place);
  }
  return Float32Array.from(xy);
}

const prior = gridOf(FRAME, 200, 200, normal);

describe("regions of highest density", () => {
  it("have the level of a normal", () => {
    const levels = massLevels(prior, [0.5, 0.9, 0.99]);
    // the region of mass s of N(0, I) in two dimensions has density (1 - s) / 2 pi at its border
    [0.5, 0.1, 0.01].forEach((rest, k) => {
      expect(levels[k] * 2 * Math.PI).toBeCloseTo(rest, 2);
    });
  });

  it("are bounded by circles", () => {
    const [level] = massLevels(prior, [0.9]);
    const radii = contour(prior, level).map(([x, y]) => Math.hypot(x, y));
    const expected = Math.sqrt(-2 * Math.log(0.1));
    expect(radii.length).toBeGreaterThan(100);
    for (const radius of radii) expect(Math.abs(radius - expected)).toBeLessThan(0.03);
  });
});

describe("kernel density", () => {
  it("has mass 1 and the variance of points and kernel", () => {
    const xy = drawsOutside(5000, 99, 99, 1);
    const grid = kernelDensity(xy, FRAME, 200, 200, [0.3, 0.3]);
    const area = cellArea(grid);
    let mass = 0;
    let square = 0;
    grid.values.forEach((value, place) => {
      const x = -5 + ((place % 200) + 0.5) * 0.05;
      mass += value * area;
      square += value * area * x * x;
    });
    const variance = xy.reduce((sum, v, i) => sum + (i % 2 === 0 ? v * v : 0), 0) / 5000;
    expect(mass).toBeCloseTo(1, 2);
    expect(square).toBeCloseTo(variance + 0.09, 1);
  });

  it("takes Scott's bandwidth", () => {
    const [hx, hy] = scottBandwidth(drawsOutside(4096, 99, 99, 1));
    expect(hx).toBeCloseTo(4096 ** (-1 / 6), 1);
    expect(hy).toBeCloseTo(4096 ** (-1 / 6), 1);
  });
});

describe("holes", () => {
  const bandwidth: [number, number] = [0.15, 0.15];

  it("are found where a circle has no codes", () => {
    const codes = kernelDensity(drawsOutside(20000, 0.8, 0, 0.7), FRAME, 200, 200, bandwidth);
    const holes = holesOf(prior, codes, bandwidth);
    const area = cellArea(prior);
    let truth = 0; // prior mass at least two bandwidths inside the hole
    let inside = 0;
    let outside = 0;
    prior.values.forEach((p, place) => {
      const x = -5 + ((place % 200) + 0.5) * 0.05;
      const y = -5 + (Math.floor(place / 200) + 0.5) * 0.05;
      const distance = Math.hypot(x - 0.8, y);
      if (distance < 0.4) {
        truth += p * area;
        inside += holes.mask[place] ? p * area : 0;
      }
      if (distance > 0.9 && holes.mask[place]) outside += p * area;
    });
    expect(inside / truth).toBeGreaterThan(0.97);
    expect(outside).toBeLessThan(0.01);
    expect(holes.share).toBeGreaterThan(truth * 0.97);
  });

  it("are absent where the codes are draws of the prior", () => {
    const codes = kernelDensity(drawsOutside(20000, 99, 99, 1), FRAME, 200, 200, bandwidth);
    expect(holesOf(prior, codes, bandwidth).share).toBeLessThan(0.005);
  });

  it("are all of the region where the codes are elsewhere", () => {
    const far = drawsOutside(2000, 99, 99, 1).map((v) => 0.05 * v + 4);
    const codes = kernelDensity(far, FRAME, 200, 200, bandwidth);
    expect(holesOf(prior, codes, bandwidth).share).toBeCloseTo(0.9, 1);
  });
});
