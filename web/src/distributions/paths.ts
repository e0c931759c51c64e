// Paths through the latent space: straight, spherical, k-means centres in a short order.
import type { Random } from "./random";

export function straight(a: Float64Array, b: Float64Array, t: number): Float64Array {
  return a.map((value, i) => value + t * (b[i] - value));
}

/** Spherical interpolation: the direction along the great circle, the length linearly. */
export function spherical(a: Float64Array, b: Float64Array, t: number): Float64Array {
  const lengthA = Math.hypot(...a);
  const lengthB = Math.hypot(...b);
  if (lengthA < 1e-9 || lengthB < 1e-9) return straight(a, b, t);
  let dot = 0;
  for (let i = 0; i < a.length; i++) dot += (a[i] / lengthA) * (b[i] / lengthB);
  const angle = Math.acos(Math.max(-1, Math.min(1, dot)));
  if (angle < 1e-6 || Math.PI - angle < 1e-6) return straight(a, b, t);
  const wa = Math.sin((1 - t) * angle) / Math.sin(angle);
  const wb = Math.sin(t * angle) / Math.sin(angle);
  const length = lengthA + t * (lengthB - lengthA);
  return a.map((value, i) => length * (wa * (value / lengthA) + wb * (b[i] / lengthB)));
}

function squaredDistance(a: ArrayLike<number>, b: ArrayLike<number>, start = 0): number {
  let sum = 0;
  for (let i = 0; i < b.length; i++) sum += (a[start + i] - b[i]) ** 2;
  return sum;
}

/** k-means centres of rows (n, d): k-means++ and a fixed number of rounds. */
export function kMeans(
  z: Float32Array,
  n: number,
  width: number,
  k: number,
  random: Random,
  rounds = 15,
): Float64Array[] {
  const of = (row: number) => Float64Array.from(z.subarray(row * width, (row + 1) * width));
  const centres = [of(random.below(n))];
  const nearest = new Float64Array(n).fill(Infinity);
  while (centres.length < Math.min(k, n)) {
    const last = centres[centres.length - 1];
    let total = 0;
    for (let row = 0; row < n; row++) {
      nearest[row] = Math.min(nearest[row], squaredDistance(z, last, row * width));
      total += nearest[row];
    }
    let left = random.uniform() * total;
    let chosen = 0;
    while (chosen < n - 1 && left > nearest[chosen]) left -= nearest[chosen++];
    centres.push(of(chosen));
  }
  for (let round = 0; round < rounds; round++) updateCentres(z, n, width, centres);
  return centres;
}

function updateCentres(z: Float32Array, n: number, width: number, centres: Float64Array[]): void {
  const sums = centres.map(() => new Float64Array(width));
  const counts = new Float64Array(centres.length);
  for (let row = 0; row < n; row++) {
    let best = 0;
    let least = Infinity;
    centres.forEach((centre, c) => {
      const distance = squaredDistance(z, centre, row * width);
      if (distance < least) [least, best] = [distance, c];
    });
    counts[best] += 1;
    for (let i = 0; i < width; i++) sums[best][i] += z[row * width + i];
  }
  sums.forEach((sum, c) => {
    if (counts[c] > 0) centres[c] = sum.map((value) => value / counts[c]);
  });
}

/** Centres in an order with a short path: nearest next, then exchanges of two edges. */
export function shortPath(centres: readonly Float64Array[]): Float64Array[] {
  const left = [...centres];
  const path = left.splice(0, 1);
  while (left.length > 0) {
    const last = path[path.length - 1];
    let best = 0;
    left.forEach((c, i) => {
      if (squaredDistance(c, last) < squaredDistance(left[best], last)) best = i;
    });
    path.push(...left.splice(best, 1));
  }
  const gap = (i: number, j: number) => Math.sqrt(squaredDistance(path[i], path[j]));
  for (let changed = true; changed; ) {
    changed = false;
    for (let i = -1; i < path.length - 2; i++) {
      for (let j = i + 2; j < path.length; j++) {
        const [start, end] = [i >= 0, j + 1 < path.length];
        const before = (start ? gap(i, i + 1) : 0) + (end ? gap(j, j + 1) : 0);
        const then = (start ? gap(i, j) : 0) + (end ? gap(i + 1, j + 1) : 0);
        if (then >= before - 1e-9) continue;
        path.splice(i + 1, j - i, ...path.slice(i + 1, j + 1).reverse());
        changed = true;
      }
    }
  }
  return path;
}
