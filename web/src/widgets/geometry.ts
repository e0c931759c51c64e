// Steps of axes, places inside polygons, boxes that overlap.
import type { Frame } from "../distributions/density";

/** 1, 2 or 5 times a power of ten, at least as large as a length. */
export function niceStep(least: number): number {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= least)!;
}

/** Whether two boxes have more than an edge in common. */
export function overlaps(a: Frame, b: Frame): boolean {
  return a.x0 < b.x1 && b.x0 < a.x1 && a.y0 < b.y1 && b.y0 < a.y1;
}

/** A multiple of a step with as many digits as the step has. */
export function shortNumber(value: number, step: number): string {
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return value.toFixed(Math.min(digits, 6)).replace("-", "−");
}

/** Whether a place is inside a polygon (even-odd rule). */
export function isInside(polygon: readonly [number, number][], x: number, y: number): boolean {
  let inside = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [xi, yi] = polygon[i];
    const [xj, yj] = polygon[j];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside;
  }
  return inside;
}
