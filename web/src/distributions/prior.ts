// log p(z) of the priors that need no graph: standard normal and uniform codes.
import type { ExportMetadata, Site } from "../data/manifest";
import { HALF_LOG_TAU } from "./special";

/** log N(z; 0, I). */
export function logStandardNormal(z: ArrayLike<number>): number {
  let sum = -z.length * HALF_LOG_TAU;
  for (let i = 0; i < z.length; i++) sum -= 0.5 * z[i] ** 2;
  return sum;
}

/** log p(z) from the metadata alone; null where p(z) is a graph or has no density here. */
export function closedFormPrior(
  metadata: ExportMetadata,
  sites: readonly Site[],
): ((z: Float64Array) => number) | null {
  const terms: ((z: Float64Array) => number)[] = [];
  for (const site of sites) {
    const family = metadata.prior[site.name];
    if (family.family === "standard normal") {
      terms.push((z) => logStandardNormal(z.subarray(site.start, site.start + site.width)));
    } else if (family.family === "uniform codes") {
      const [entries, codes] = (family.density ?? "").split("^-").map(Number);
      terms.push(() => -codes * Math.log(entries));
    } else {
      return null;
    }
  }
  return (z) => terms.reduce((sum, term) => sum + term(z), 0);
}
