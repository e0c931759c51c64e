// Minimisation without derivatives (Nelder and Mead 1965).

/** One point of the simplex and the value there. */
interface Vertex {
  at: number[];
  value: number;
}

/**
 * A minimum of a function near `start`.
 *
 * @param steps Length of the first simplex along each axis.
 * @param onBest Called with each better point; returns false to end.
 */
export async function minimise(
  of: (at: number[]) => Promise<number>,
  start: readonly number[],
  steps: readonly number[],
  most: number,
  onBest: (at: number[], value: number) => boolean = () => true,
): Promise<{ at: number[]; value: number }> {
  const d = start.length;
  let evaluations = 0;
  const vertex = async (at: number[]): Promise<Vertex> => {
    evaluations += 1;
    return { at, value: await of(at) };
  };
  const simplex = [await vertex([...start])];
  for (let i = 0; i < d; i++) {
    simplex.push(await vertex(start.map((value, k) => value + Number(k === i) * steps[i])));
  }
  let best = Infinity;
  while (evaluations < most) {
    simplex.sort((a, b) => a.value - b.value);
    if (simplex[0].value < best) {
      best = simplex[0].value;
      if (!onBest(simplex[0].at, best)) break;
    }
    if (simplex[d].value - simplex[0].value < 1e-5) break;
    const worst = simplex[d];
    const middle = start.map((_, k) => simplex.slice(0, d).reduce((sum, v) => sum + v.at[k] / d, 0));
    const along = (t: number) => middle.map((value, k) => value + t * (worst.at[k] - value));
    const reflected = await vertex(along(-1));
    if (reflected.value < simplex[0].value) {
      const expanded = await vertex(along(-2));
      simplex[d] = expanded.value < reflected.value ? expanded : reflected;
    } else if (reflected.value < simplex[d - 1].value) {
      simplex[d] = reflected;
    } else {
      const contracted = await vertex(along(reflected.value < worst.value ? -0.5 : 0.5));
      if (contracted.value < Math.min(worst.value, reflected.value)) simplex[d] = contracted;
      else {
        for (let i = 1; i <= d; i++) {
          simplex[i] = await vertex(simplex[i].at.map((value, k) => (value + simplex[0].at[k]) / 2));
        }
      }
    }
  }
  simplex.sort((a, b) => a.value - b.value);
  return simplex[0];
}
