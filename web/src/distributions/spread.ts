// Standard deviations of p(x|z), from the formula of its family or from draws.
import type { Likelihood } from "./likelihood";
import { Random } from "./random";

const DRAWS = 48; // samples whose deviation stands for a variance without a formula
const SEED = 11;

/** Standard deviations of p(x|z) in model units. */
export function standardDeviations(px: Likelihood): Float64Array {
  const variance = px.variance();
  if (variance !== null) return variance.map(Math.sqrt);
  const random = new Random(SEED);
  const draws = Array.from({ length: DRAWS }, () => px.sample(random));
  return draws[0].map((_, i) => {
    const mean = draws.reduce((sum, draw) => sum + draw[i], 0) / DRAWS;
    const square = draws.reduce((sum, draw) => sum + (draw[i] - mean) ** 2, 0);
    return Math.sqrt(square / (DRAWS - 1));
  });
}
