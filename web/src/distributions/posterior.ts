// q(z|x) of one example: mean, spread, log-density and draws, site by site.
import type { Tensors } from "../compute/network";
import type { ExportMetadata, Family, Site } from "../data/manifest";
import { rowOf } from "./parameters";
import type { Random } from "./random";
import { HALF_LOG_TAU, logSumExp } from "./special";

/** q of one site. */
export interface SitePosterior {
  readonly mean: Float64Array;
  /** Standard deviations; null where the family has none on these axes. */
  readonly sd: Float64Array | null;
  /** Lower Cholesky factor of the covariance (d, d), of a normal with full covariance. */
  readonly factor: Float64Array | null;
  /** log q(z|x) in nats; null where it is not defined or not known here. */
  logProb(z: Float64Array): number | null;
  sample(random: Random): Float64Array | null;
  /** KL(q || N(0, I)) in nats by feature; null where it has no closed form. */
  klToStandard(): Float64Array | null;
}

class DiagonalNormal implements SitePosterior {
  readonly sd: Float64Array;
  readonly factor = null;

  constructor(
    readonly mean: Float64Array,
    private readonly logVariance: Float64Array,
  ) {
    this.sd = logVariance.map((value) => Math.exp(0.5 * value));
  }

  logProb(z: Float64Array): number {
    let sum = 0;
    for (let i = 0; i < z.length; i++) {
      const square = (z[i] - this.mean[i]) ** 2 * Math.exp(-this.logVariance[i]);
      sum -= 0.5 * (square + this.logVariance[i]) + HALF_LOG_TAU;
    }
    return sum;
  }

  sample(random: Random): Float64Array {
    return this.mean.map((mean, i) => mean + this.sd[i] * random.normal());
  }

  klToStandard(): Float64Array {
    return this.mean.map(
      (mean, i) => 0.5 * (mean ** 2 + this.sd[i] ** 2 - 1 - this.logVariance[i]),
    );
  }
}

class FullNormal implements SitePosterior {
  readonly sd: Float64Array;

  constructor(
    readonly mean: Float64Array,
    readonly factor: Float64Array,
  ) {
    const d = mean.length;
    this.sd = mean.map((_, i) => Math.hypot(...factor.subarray(i * d, i * d + i + 1)));
  }

  logProb(z: Float64Array): number {
    const d = this.mean.length;
    const white = new Float64Array(d);
    let sum = 0;
    for (let i = 0; i < d; i++) {
      let value = z[i] - this.mean[i];
      for (let j = 0; j < i; j++) value -= this.factor[i * d + j] * white[j];
      white[i] = value / this.factor[i * d + i];
      sum -= 0.5 * white[i] ** 2 + Math.log(this.factor[i * d + i]) + HALF_LOG_TAU;
    }
    return sum;
  }

  sample(random: Random): Float64Array {
    const d = this.mean.length;
    const noise = random.normals(d);
    return this.mean.map((mean, i) => {
      let value = mean;
      for (let j = 0; j <= i; j++) value += this.factor[i * d + j] * noise[j];
      return value;
    });
  }

  klToStandard(): null {
    return null;
  }
}

/** A point: autoencoders and quantised codes, whose code is all that q says. */
class Point implements SitePosterior {
  readonly sd = null;
  readonly factor = null;

  constructor(
    readonly mean: Float64Array,
    private readonly hasMass: boolean,
  ) {}

  /** A quantised code has all its mass on one entry; a point mass has no density. */
  logProb(z: Float64Array): number | null {
    if (!this.hasMass) return null;
    const isSame = z.every((value, i) => Math.abs(value - this.mean[i]) < 1e-4);
    return isSame ? 0 : -Infinity;
  }

  /** Draws would all be one value. */
  sample(): null {
    return null;
  }

  klToStandard(): null {
    return null;
  }
}

/** Independent categories, whose value is one-hot. */
class Categories implements SitePosterior {
  readonly sd = null;
  readonly factor = null;

  constructor(
    readonly mean: Float64Array,
    private readonly logits: Float64Array,
    private readonly entries: number,
  ) {}

  private get isOneHot(): boolean {
    return this.mean.length === this.logits.length;
  }

  logProb(z: Float64Array): number | null {
    if (!this.isOneHot) return null;
    let sum = 0;
    for (let start = 0; start < z.length; start += this.entries) {
      const logits = this.logits.subarray(start, start + this.entries);
      const hot = z.subarray(start, start + this.entries).indexOf(1);
      sum += hot < 0 ? -Infinity : logits[hot] - logSumExp(logits);
    }
    return sum;
  }

  sample(random: Random): Float64Array | null {
    if (!this.isOneHot) return null;
    const out = new Float64Array(this.mean.length);
    for (let start = 0; start < out.length; start += this.entries) {
      out[start + random.category(this.logits.subarray(start, start + this.entries))] = 1;
    }
    return out;
  }

  klToStandard(): null {
    return null;
  }
}

/** A family without a formula here: its centre alone. */
class Centre implements SitePosterior {
  readonly sd = null;
  readonly factor = null;

  constructor(readonly mean: Float64Array) {}

  logProb(): null {
    return null;
  }

  sample(): null {
    return null;
  }

  klToStandard(): null {
    return null;
  }
}

function sitePosterior(
  family: Family,
  outputs: Tensors,
  row: number,
  name: string,
  mean: Float64Array,
): SitePosterior {
  const d = mean.length;
  const of = (key: string, event: number[]) => rowOf(outputs[`q.${name}.${key}`], row, event);
  switch (family.family) {
    case "normal":
      return new DiagonalNormal(of("mean", [d]), of("log_variance", [d]));
    case "normal with full covariance":
      return new FullNormal(of("mean", [d]), of("scale_tril", [d, d]));
    case "point mass":
      return new Point(mean, false);
    case "quantised code":
      return new Point(mean, true);
    case "categorical codes": {
      const entries = family.entries ?? 1;
      return new Categories(mean, of("logits", [(family.codes ?? 1) * entries]), entries);
    }
    default:
      return new Centre(mean);
  }
}

/** q(z|x) of one example over all sites side by side. */
export class Posterior {
  readonly mean: Float64Array;
  readonly sites: readonly { site: Site; q: SitePosterior }[];

  constructor(metadata: ExportMetadata, sites: readonly Site[], outputs: Tensors, row: number) {
    const codes = outputs.codes;
    const width = codes.shape[1];
    this.mean = rowOf(codes, row, [width]);
    this.sites = sites.map((site) => {
      const mean = this.mean.slice(site.start, site.start + site.width);
      const family = metadata.posterior[site.name];
      return { site, q: sitePosterior(family, outputs, row, site.name, mean) };
    });
  }

  /** Standard deviations of all features; NaN where a site has none. */
  get sd(): Float64Array {
    const out = new Float64Array(this.mean.length).fill(NaN);
    for (const { site, q } of this.sites) if (q.sd !== null) out.set(q.sd, site.start);
    return out;
  }

  /** log q(z|x), a sum over sites; null where one of them has none. */
  logProb(z: Float64Array): number | null {
    let sum = 0;
    for (const { site, q } of this.sites) {
      const term = q.logProb(z.subarray(site.start, site.start + site.width));
      if (term === null) return null;
      sum += term;
    }
    return sum;
  }

  /** A draw; null where a site has none. Of a hierarchy, each site given the means of others. */
  sample(random: Random): Float64Array | null {
    const out = new Float64Array(this.mean.length);
    for (const { site, q } of this.sites) {
      const z = q.sample(random);
      if (z === null) return null;
      out.set(z, site.start);
    }
    return out;
  }
}
