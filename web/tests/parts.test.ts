// Units, paths, planes, texts and arrays.
import { describe, expect, it, vi } from "vitest";
import { Pauses } from "../src/compute/pauses";
import { decodeFloats, fromHalf } from "../src/data/arrays";
import { Examples } from "../src/data/points";
import { Units } from "../src/data/units";
import { kMeans, shortPath, spherical, straight } from "../src/distributions/paths";
import { ComponentPlane, FeaturePlane } from "../src/distributions/projection";
import { Random } from "../src/distributions/random";
import { allTexts } from "../src/texts/texts";
import { isInside, niceStep } from "../src/widgets/geometry";

const SPEC = {
  shape: [3, 1, 2],
  domain: "unit",
  levels: null,
  layout: "hwc",
  divisor: 255,
  fields: [],
  offset: [],
  condition: null,
  missing: false,
  labels: null,
};

describe("units", () => {
  it("put channels first and divide", () => {
    const units = new Units(SPEC);
    const x = units.toModel([0, 51, 102, 255, 204, 153]);
    expect([...x].map((value) => Number(value.toFixed(6)))).toEqual([0, 1, 0.2, 0.8, 0.4, 0.6]);
    expect([...units.toRaw(x)].map(Math.round)).toEqual([0, 51, 102, 255, 204, 153]);
  });

  it("make categories one-hot and keep missing values", () => {
    const real = { name: "a", kind: "real" as const, values: [] };
    const kind = { name: "b", kind: "categorical" as const, values: ["x", "y", "z"] };
    const units = new Units({ ...SPEC, shape: [4], layout: "vector", domain: "mixed", divisor: 1, fields: [real, kind] });
    expect([...units.toModel([2.5, 1])]).toEqual([2.5, 0, 1, 0]);
    expect([...units.toModel([2.5, NaN])].slice(1)).toEqual([NaN, NaN, NaN]);
    expect([...units.toRaw([2.5, 0.1, 0.2, 0.7])]).toEqual([2.5, 2]);
  });
});

describe("blocks", () => {
  it("hold float16 and scaled bytes", () => {
    expect([0x3c00, 0xc000, 0x3555, 0x0001, 0x7c00].map(fromHalf)).toEqual([1, -2, 0.333251953125, 2 ** -24, Infinity]);
    const block = { block: "b", dtype: "uint8" as const, shape: [2], scale: 0.5, offset: -1 };
    expect([...decodeFloats(Uint8Array.of(0, 4), block)]).toEqual([-1, 1]);
  });

  it("of another length are refused", () => {
    const block = { block: "b", dtype: "uint8" as const, shape: [3] };
    expect(() => decodeFloats(Uint8Array.of(0, 4), block)).toThrow("holds 2 numbers");
  });
});

describe("the nearest row", () => {
  it("of a table is by the spread of each column, and by categories", () => {
    const rows = Float64Array.of(100_000, 1, 0, 100_400, 5, 0, 100_400, 1, 1);
    const examples = new Examples(rows, 3, 3);
    const scales = Float64Array.of(50_000, 1, 0); // price, rooms, kind
    expect(examples.nearest([100_390, 1, 0]).row).toBe(2);
    expect(examples.nearest([100_390, 1, 0], scales).row).toBe(0);
    const { row, distance } = examples.nearest([NaN, 2, 1], scales);
    expect([row, distance]).toEqual([2, Math.sqrt(1 / 3)]);
  });
});

describe("paths", () => {
  const a = Float64Array.of(2, 0);
  const b = Float64Array.of(0, 1);

  it("go straight and on the sphere", () => {
    expect([...straight(a, b, 0.5)]).toEqual([1, 0.5]);
    const middle = spherical(a, b, 0.5);
    expect(middle[0]).toBeCloseTo(1.5 * Math.SQRT1_2, 12);
    expect(middle[1]).toBeCloseTo(1.5 * Math.SQRT1_2, 12);
    expect([...spherical(a, b, 1)].map((v) => Number(v.toFixed(9)))).toEqual([0, 1]);
  });

  it("of k-means centres are short", () => {
    const random = new Random(5);
    const rows = Float32Array.from({ length: 600 }, (_, i) => (i % 2 ? 0 : Math.floor(i / 120)) + 0.01 * random.normal());
    const path = shortPath(kMeans(rows, 300, 2, 5, new Random(3)));
    const xs = path.map(([x]) => Math.round(x));
    expect([...xs].sort((p, q) => p - q)).toEqual([0, 1, 2, 3, 4]);
    const length = path.slice(1).reduce((sum, z, i) => sum + Math.hypot(z[0] - path[i][0], z[1] - path[i][1]), 0);
    expect(length).toBeCloseTo(4, 0);
  });
});

describe("planes", () => {
  it("of features move two coordinates", () => {
    const plane = new FeaturePlane(4, [2, 0], ["a", "b"]);
    const z = plane.moved(Float64Array.of(1, 2, 3, 4), 7, 8);
    expect([...z]).toEqual([8, 2, 7, 4]);
    expect([...plane.coordinates(z, 1)]).toEqual([7, 8]);
  });

  it("of components move along directions alone", () => {
    const s = Math.SQRT1_2;
    const plane = new ComponentPlane(3, Float32Array.of(s, s, 0, 0, 0, 1), Float32Array.of(1, 1, 1), [0, 1], ["a", "b"]);
    const z = plane.moved(Float64Array.of(3, 0, 5), 2, -1);
    const [x, y] = plane.coordinates(z, 1);
    expect(x).toBeCloseTo(2, 5);
    expect(y).toBeCloseTo(-1, 5);
    expect(z[0] - z[1]).toBeCloseTo(3, 6);
    const e = plane.ellipse(z, (i, j) => (i === j ? [1, 4, 9][i] : 0));
    expect(e.xx).toBeCloseTo(2.5, 5);
    expect(e.yy).toBeCloseTo(9, 5);
  });
});

describe("random numbers", () => {
  it("have their means and variances", () => {
    const random = new Random(9);
    const of = (draw: () => number) => {
      const values = Array.from({ length: 20000 }, draw);
      const mean = values.reduce((sum, v) => sum + v, 0) / values.length;
      return [mean, values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / values.length];
    };
    const [mean, variance] = of(() => random.normal());
    expect(Math.abs(mean)).toBeLessThan(0.03);
    expect(Math.abs(variance - 1)).toBeLessThan(0.05);
    for (const rate of [0.5, 8, 90]) {
      const [m, v] = of(() => random.poisson(rate));
      expect(Math.abs(m / rate - 1)).toBeLessThan(0.04);
      expect(Math.abs(v / rate - 1)).toBeLessThan(0.06);
    }
    const [g] = of(() => random.gamma(2.5));
    expect(Math.abs(g / 2.5 - 1)).toBeLessThan(0.04);
  });
});

describe("the lasso and the axes", () => {
  it("know their inside and steps", () => {
    const square: [number, number][] = [[0, 0], [2, 0], [2, 2], [0, 2]];
    expect(isInside(square, 1, 1)).toBe(true);
    expect(isInside(square, 3, 1)).toBe(false);
    expect([0.3, 1, 4, 70].map(niceStep)).toEqual([0.5, 1, 5, 100]);
  });
});

describe("texts", () => {
  it.each(Object.entries(allTexts))("%s has both languages with the same values", (_, [en, ko]) => {
    const names = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name).sort();
    expect(en.length > 0 && ko.length > 0).toBe(true);
    expect(names(ko)).toEqual(names(en));
  });
});

describe("pauses of long work", () => {
  it("are due after some milliseconds since the last one, and let other work go on", async () => {
    let now = 100;
    const clock = vi.spyOn(performance, "now").mockImplementation(() => now);
    const pauses = new Pauses();
    now += 5;
    expect(pauses.isDue).toBe(false);
    now += 20;
    expect(pauses.isDue).toBe(true);
    let isDone = false;
    setTimeout(() => (isDone = true));
    await pauses.pause();
    expect(isDone).toBe(true);
    expect(pauses.isDue).toBe(false);
    clock.mockRestore();
  });
});
