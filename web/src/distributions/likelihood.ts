// p(x|z) of one row: log-probability, variance and samples of the families that exports name.
import type { Family } from "../data/manifest";
import type { Tensors } from "../compute/network";
import { sizeOf } from "../data/arrays";
import { LogisticMixture } from "./logistic_mixture";
import { rowOf } from "./parameters";
import { Random } from "./random";
import { HALF_LOG_TAU, logGamma, logSigmoid, logSumExp, sigmoid, softplus } from "./special";

/** p(x|z) of one example, over the dimensions of x in model units. */
export interface Likelihood {
  /** log p of each value; the term of a category or of a colour pixel stands at its first place. */
  logProbEach(x: Float64Array): Float64Array;
  /**
   * log p of a value at one place, whatever stands at the others; of a mixture over colour pixels
   * at places of the first channel alone, on which the other channels depend.
   */
  logProbAt(place: number, value: number): number;
  variance(): Float64Array | null;
  /** E[x], of families whose mean the decoder does not give. */
  mean?(): Float64Array;
  sample(random: Random): Float64Array;
}

/** log p(x|z): the sum over the values that were observed (not NaN). */
export function logProb(likelihood: Likelihood, x: Float64Array): number {
  return likelihood.logProbEach(x).reduce((sum, term) => sum + term, 0);
}

/** A distribution of one value, given the place of its parameters. */
interface ValueFamily {
  logProb(x: number, i: number): number;
  /** Of families that others are made of. */
  mean?(i: number): number;
  variance(i: number): number;
  sample(i: number, random: Random): number;
}

/** Independent values of one family. */
class Independent implements Likelihood {
  constructor(
    private readonly family: ValueFamily,
    private readonly size: number,
  ) {}

  logProbEach(x: Float64Array): Float64Array {
    return Float64Array.from(x, (value, i) =>
      Number.isNaN(value) ? 0 : this.family.logProb(value, i),
    );
  }

  logProbAt(place: number, value: number): number {
    return this.family.logProb(value, place);
  }

  variance(): Float64Array {
    return Float64Array.from({ length: this.size }, (_, i) => this.family.variance(i));
  }

  sample(random: Random): Float64Array {
    return Float64Array.from({ length: this.size }, (_, i) => this.family.sample(i, random));
  }
}

type Values = (name: string) => Float64Array;

function normal(values: Values): ValueFamily {
  const mean = values("mean");
  const logVariance = values("log_variance");
  return {
    logProb: (x, i) =>
      -0.5 * ((x - mean[i]) ** 2 * Math.exp(-logVariance[i]) + logVariance[i]) - HALF_LOG_TAU,
    variance: (i) => Math.exp(logVariance[i]),
    sample: (i, random) => mean[i] + Math.exp(0.5 * logVariance[i]) * random.normal(),
  };
}

function logNormal(values: Values): ValueFamily {
  const location = values("location");
  const scale = values("scale");
  const mean = (i: number) => Math.exp(location[i] + scale[i] ** 2 / 2);
  return {
    logProb: (x, i) => {
      if (!(x > 0)) return -Infinity;
      const away = (Math.log(x) - location[i]) / scale[i];
      return -0.5 * away ** 2 - Math.log(x) - Math.log(scale[i]) - HALF_LOG_TAU;
    },
    mean,
    variance: (i) => Math.expm1(scale[i] ** 2) * mean(i) ** 2,
    sample: (i, random) => Math.exp(location[i] + scale[i] * random.normal()),
  };
}

/** N(mean, scale^2) of each value. */
function scaledNormal(values: Values): ValueFamily {
  const mean = values("mean");
  const scale = values("scale");
  return {
    logProb: (x, i) => -0.5 * ((x - mean[i]) / scale[i]) ** 2 - Math.log(scale[i]) - HALF_LOG_TAU,
    mean: (i) => mean[i],
    variance: (i) => scale[i] ** 2,
    sample: (i, random) => mean[i] + scale[i] * random.normal(),
  };
}

/** 0 with a probability, else a value of another family, which has a mean. */
function zeroInflated(others: (values: Values) => ValueFamily): (values: Values) => ValueFamily {
  return (values) => {
    const logits = values("logits");
    const other = others(values);
    return {
      logProb: (x, i) => (x === 0 ? logSigmoid(logits[i]) : logSigmoid(-logits[i]) + other.logProb(x, i)),
      variance: (i) => {
        const share = sigmoid(-logits[i]);
        return share * (other.variance(i) + (1 - share) * other.mean!(i) ** 2);
      },
      sample: (i, random) => {
        const isZero = chance(sigmoid(logits[i]), random);
        const value = other.sample(i, random);
        return isZero === 1 ? 0 : isZero + value;
      },
    };
  };
}

function laplace(values: Values): ValueFamily {
  const location = values("location");
  const scale = values("scale");
  return {
    logProb: (x, i) => -Math.log(2 * scale[i]) - Math.abs(x - location[i]) / scale[i],
    variance: (i) => 2 * scale[i] ** 2,
    sample: (i, random) => {
      const u = random.uniform() - 0.5;
      return location[i] - scale[i] * Math.sign(u) * Math.log1p(-2 * Math.abs(u));
    },
  };
}

function bernoulli(values: Values): ValueFamily {
  const logits = values("logits");
  return {
    logProb: (x, i) => x * logits[i] - softplus(logits[i]),
    variance: (i) => sigmoid(logits[i]) * sigmoid(-logits[i]),
    sample: (i, random) => chance(sigmoid(logits[i]), random),
  };
}

/** 1 with a probability, else 0; NaN where the probability is NaN. */
function chance(probability: number, random: Random): number {
  const u = random.uniform();
  return Number.isNaN(probability) ? NaN : Number(u < probability);
}

const NEAR = 0.2; // below, series replace differences that cancel

/** log((exp(l) - 1) / l). */
function continuousNorm(l: number): number {
  if (Math.abs(l) < NEAR) return l / 2 + l ** 2 / 24 - l ** 4 / 2880 + l ** 6 / 181440;
  const size = Math.abs(l);
  return Math.max(l, 0) + Math.log(-Math.expm1(-size)) - Math.log(size);
}

function continuousBernoulli(values: Values): ValueFamily {
  const logits = values("logits");
  return {
    logProb: (x, i) => logits[i] * x - continuousNorm(logits[i]),
    variance: (i) => {
      const l = logits[i];
      if (Math.abs(l) < NEAR) return 1 / 12 - l ** 2 / 240 + l ** 4 / 6048;
      return l ** -2 - (2 * Math.sinh(Math.max(-40, Math.min(40, l / 2)))) ** -2;
    },
    sample: (i, random) => {
      const l = logits[i];
      const u = random.uniform();
      if (Math.abs(l) < 1e-6) return u;
      const size = Math.abs(l);
      const near = 1 + Math.log1p((1 - u) * Math.expm1(-size)) / size;
      return l > 0 ? near : 1 - near;
    },
  };
}

function poisson(values: Values): ValueFamily {
  const rate = values("rate");
  return {
    logProb: (x, i) => x * Math.log(rate[i]) - rate[i] - logGamma(x + 1),
    variance: (i) => rate[i],
    sample: (i, random) => random.poisson(rate[i]),
  };
}

function negativeBinomial(values: Values): ValueFamily {
  const dispersion = values("dispersion");
  const logits = values("logits");
  return {
    logProb: (x, i) =>
      dispersion[i] * logSigmoid(-logits[i]) +
      x * logSigmoid(logits[i]) +
      logGamma(dispersion[i] + x) -
      logGamma(1 + x) -
      logGamma(dispersion[i]),
    variance: (i) => {
      const mean = dispersion[i] * Math.exp(logits[i]);
      return mean + mean ** 2 / dispersion[i];
    },
    sample: (i, random) => random.poisson(random.gamma(dispersion[i]) * Math.exp(logits[i])),
  };
}

/** log P of a level of a discretised logistic; the two ends take the tails. */
export function discretisedLogistic(
  x: number,
  location: number,
  scale: number,
  levels: number,
): number {
  const isFirst = x <= 0;
  const isLast = x >= levels - 1;
  if (isFirst && isLast) return 0;
  if (isFirst) return logSigmoid((0.5 - location) / scale);
  if (isLast) return logSigmoid((location - (levels - 1.5)) / scale);
  const width = Math.log(-Math.expm1(-1 / scale));
  const upper = (x + 0.5 - location) / scale;
  const lower = (location - x + 0.5) / scale;
  return logSigmoid(upper) + logSigmoid(lower) + width;
}

export function sampleLogistic(
  location: number,
  scale: number,
  levels: number,
  random: Random,
): number {
  const u = random.uniform();
  const x = Math.round(location + scale * Math.log(u / (1 - u)));
  return Math.max(0, Math.min(levels - 1, x));
}

function logistic(values: Values, levels: number): ValueFamily {
  const location = values("location");
  const scale = values("scale");
  return {
    logProb: (x, i) => discretisedLogistic(x, location[i], scale[i], levels),
    variance: (i) => {
      let first = 0;
      let second = 0;
      for (let edge = 0; edge < levels - 1; edge++) {
        const tail = sigmoid((location[i] - edge - 0.5) / scale[i]);
        first += tail;
        second += (2 * edge + 1) * tail;
      }
      return Math.max(0, second - first ** 2);
    },
    sample: (i, random) => sampleLogistic(location[i], scale[i], levels, random),
  };
}

/** Integers 0..K-1, a softmax for each dimension. */
function categorical(logits: Float64Array, size: number): ValueFamily {
  const count = logits.length / size;
  const of = (i: number) => logits.subarray(i * count, (i + 1) * count);
  const shares = (i: number) => {
    const total = logSumExp(of(i));
    return Array.from(of(i), (value) => Math.exp(value - total));
  };
  return {
    logProb: (x, i) => of(i)[x] - logSumExp(of(i)),
    variance: (i) => {
      const share = shares(i);
      const mean = share.reduce((sum, p, k) => sum + p * k, 0);
      return share.reduce((sum, p, k) => sum + p * (k - mean) ** 2, 0);
    },
    sample: (i, random) => random.category(of(i)),
  };
}

/** One softmax over a one-hot vector. */
class OneHot implements Likelihood {
  constructor(private readonly logits: Float64Array) {}

  logProbEach(x: Float64Array): Float64Array {
    const out = new Float64Array(x.length);
    if (x.some(Number.isNaN)) return out;
    const total = logSumExp(this.logits);
    out[0] = x.reduce((sum, value, k) => sum + value * (this.logits[k] - total), 0);
    return out;
  }

  logProbAt(place: number, value: number): number {
    const others = this.logits.filter((_, k) => k !== place);
    const chosen = value === 1 ? this.logits[place] : logSumExp(others);
    return chosen - logSumExp(this.logits);
  }

  variance(): Float64Array {
    const total = logSumExp(this.logits);
    return this.logits.map((value) => {
      const p = Math.exp(value - total);
      return p * (1 - p);
    });
  }

  sample(random: Random): Float64Array {
    const out = new Float64Array(this.logits.length);
    const chosen = random.category(this.logits);
    if (Number.isNaN(chosen)) return out.fill(NaN);
    out[chosen] = 1;
    return out;
  }
}

/** A product of distributions over disjoint dimensions. */
class Product implements Likelihood {
  constructor(
    private readonly parts: readonly { at: readonly number[]; likelihood: Likelihood }[],
    private readonly size: number,
  ) {}

  private gathered(of: (part: Likelihood, at: readonly number[]) => Float64Array): Float64Array {
    const out = new Float64Array(this.size);
    for (const { at, likelihood } of this.parts) {
      of(likelihood, at).forEach((value, k) => (out[at[k]] = value));
    }
    return out;
  }

  logProbEach(x: Float64Array): Float64Array {
    return this.gathered((part, at) => part.logProbEach(Float64Array.from(at, (i) => x[i])));
  }

  logProbAt(place: number, value: number): number {
    for (const { at, likelihood } of this.parts) {
      const within = at.indexOf(place);
      if (within >= 0) return likelihood.logProbAt(within, value);
    }
    throw new Error(`p(x|z) has no place ${place}`);
  }

  variance(): Float64Array {
    return this.gathered((part) => part.variance() ?? new Float64Array());
  }

  /** A sample; each part has noise of its own, which does not depend on the other parts. */
  sample(random: Random): Float64Array {
    const seed = random.below(2 ** 31);
    let number = 0;
    return this.gathered((part) => {
      number += 1;
      return part.sample(new Random(seed + number));
    });
  }
}

const VALUE_FAMILIES: Record<string, (values: Values) => ValueFamily> = {
  normal,
  "log-normal": logNormal,
  "zero-inflated normal": zeroInflated(scaledNormal),
  "zero-inflated log-normal": zeroInflated(logNormal),
  laplace,
  bernoulli,
  "continuous bernoulli": continuousBernoulli,
  poisson,
  "negative binomial": negativeBinomial,
};

/** p(x|z) of one row of the decoder's outputs; null for a family without a formula here. */
export function likelihoodOf(
  family: Family,
  outputs: Tensors,
  row: number,
  event: readonly number[],
  inProduct = false,
): Likelihood | null {
  const size = sizeOf(event);
  const prefix = Object.keys(family.parameters ?? {})[0]?.replace(/[^.]*$/, "") ?? "";
  const values: Values = (name) => rowOf(outputs[prefix + name], row, event);
  if (family.family === "product over columns") {
    const parts = [];
    for (const part of family.parts ?? []) {
      const likelihood = likelihoodOf(part, outputs, row, [part.dimensions.length], true);
      if (likelihood === null) return null;
      parts.push({ at: part.dimensions, likelihood });
    }
    return new Product(parts, size);
  }
  if (family.family === "discretised logistic") {
    return new Independent(logistic(values, family.levels ?? 2), size);
  }
  if (family.family === "categorical") {
    const tensor = outputs[`${prefix}logits`];
    const logits = rowOf(tensor, row, tensor.shape.slice(1));
    return inProduct ? new OneHot(logits) : new Independent(categorical(logits, size), size);
  }
  if (family.family === "mixture of discretised logistics") {
    return new LogisticMixture(outputs, prefix, row, family.levels ?? 256);
  }
  const make = VALUE_FAMILIES[family.family];
  return make === undefined ? null : new Independent(make(values), size);
}
