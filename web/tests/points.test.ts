// Points of a plane: the search of near ones, and those that are painted while the view moves.
import { describe, expect, it } from "vitest";
import { Random } from "../src/distributions/random";
import { PointIndex } from "../src/widgets/point_index";
import { countWhileMoving, randomOrder } from "../src/widgets/points_raster";

/** The nearest points by a pass over all of them. */
function byHand(xy: Float32Array, x: number, y: number, count: number, reach = Infinity): number[] {
  const points = Array.from({ length: xy.length / 2 }, (_, i) => i);
  const square = (i: number) => (xy[2 * i] - x) ** 2 + (xy[2 * i + 1] - y) ** 2;
  return points
    .filter((i) => square(i) <= reach ** 2)
    .sort((a, b) => square(a) - square(b))
    .slice(0, count);
}

describe("the index of points", () => {
  const random = new Random(4);
  const xy = Float32Array.from({ length: 6000 }, (_, i) => random.normal() * (i % 2 ? 0.2 : 3));
  const index = new PointIndex(xy);

  it("finds the nearest ones inside and outside of the data", () => {
    for (let k = 0; k < 60; k++) {
      const [x, y] = [6 * random.normal(), 2 * random.normal()];
      expect(index.nearest(x, y, 12)).toEqual(byHand(xy, x, y, 12));
      expect(index.nearest(x, y, 3, 0.4)).toEqual(byHand(xy, x, y, 3, 0.4));
    }
    expect(index.nearest(1e6, -1e6, 1)).toEqual(byHand(xy, 1e6, -1e6, 1));
  });

  it("holds one point, equal points, none, and some that are not finite", () => {
    expect(new PointIndex(Float32Array.of(2, 3)).nearest(9, 9, 4)).toEqual([0]);
    expect(new PointIndex(new Float32Array(200)).nearest(1, 1, 100)).toHaveLength(100);
    expect(new PointIndex(new Float32Array()).nearest(0, 0, 4)).toEqual([]);
    expect(new PointIndex(Float32Array.of(NaN, 0, 1, 1, Infinity, 2)).nearest(0, 0, 3)).toEqual([1]);
  });
});

describe("points while the view moves", () => {
  it("are as many as fit into a frame, at least 8,000", () => {
    expect(countWhileMoving(100_000, 0)).toBe(100_000); // not measured yet
    expect(countWhileMoving(100_000, 2e-5)).toBe(100_000);
    expect(countWhileMoving(100_000, 1e-4)).toBe(40_000);
    expect(countWhileMoving(100_000, 1)).toBe(8_000);
    expect(countWhileMoving(5_000, 1)).toBe(5_000);
  });

  it("are in an order that holds each of them once, the same one each time", () => {
    const order = randomOrder(5000);
    expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: 5000 }, (_, i) => i));
    expect(randomOrder(5000)).toEqual(order);
    const first = order.slice(0, 1000).filter((point) => point % 10 === 3).length;
    expect(Math.abs(first - 100)).toBeLessThan(40); // of each class a fair part
  });
});
