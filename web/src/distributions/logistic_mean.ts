// Means of discretised logistics, and blocks of levels that stand for one of them.
import { sigmoid as exactSigmoid, softplus as exactSoftplus } from "./special";

export const MOST_BLOCKS = 16; // of one logistic
export const REACH = 12; // scales on each side of the location that hold all its mass
const NEAR = 4; // edges around the location that are summed one by one
const FEW = 128; // levels below which an integral has its edge terms
const NARROW = 0.75; // scale below which each level is a block
const WIDE = 2; // scale from which the sum over edges is an integral, within 0.01 levels
// By how many roots of a scale a block may move what has that scale: its mean is then within 0.15 levels.
const MOST_MOVE = 3.5;

const FAR = 30; // beyond which both functions are their limits to 1e-13

function sigmoid(x: number): number {
  if (x > FAR) return 1;
  return x < -FAR ? 0 : exactSigmoid(x);
}

function softplus(x: number): number {
  if (x > FAR) return x;
  return x < -FAR ? 0 : exactSoftplus(x);
}

/** The sum of P(x > e) over edges e between two ends as an integral. */
function between(high: number, low: number, scale: number, levels: number): number {
  const atHigh = softplus(high);
  const atLow = softplus(low);
  const total = (atHigh - atLow) * scale;
  if (levels >= FEW) return total;
  return total + (Math.exp(low - 2 * atLow) - Math.exp(high - 2 * atHigh)) / (24 * scale);
}

/**
 * E[x] of a discretised logistic over 0..levels-1: the sum over the edges between levels of
 * P(x > edge), one by one around the location of narrow ones and as an integral elsewhere. Within
 * 1e-4 of the range.
 */
export function logisticMean(location: number, scale: number, levels: number): number {
  const top = levels - 1;
  if (isInside(location, location, scale, levels)) return location;
  if (scale >= WIDE) return between(location / scale, (location - top) / scale, scale, levels);
  const isShort = levels <= MOST_BLOCKS;
  const start = isShort ? 0 : Math.min(Math.max(Math.round(location) - NEAR / 2, 0), top - NEAR);
  const count = isShort ? top : NEAR;
  let mean = 0;
  for (let j = 0; j < count; j++) mean += sigmoid((location - start - j - 0.5) / scale);
  if (isShort) return mean;
  const below = between(location / scale, (location - start) / scale, scale, levels);
  const above = between((location - start - NEAR) / scale, (location - top) / scale, scale, levels);
  return mean + below + above;
}

/** Whether rounding and both ends leave the means of locations from `low` to `high` as they are. */
export function isInside(low: number, high: number, scale: number, levels: number): boolean {
  return scale >= NARROW && low >= REACH * scale && high <= levels - 1 - REACH * scale;
}

/** Blocks of the levels of a discretised logistic: the mean of x in each, and its mass. */
export class Blocks {
  readonly mean = new Float64Array(MOST_BLOCKS);
  readonly mass = new Float64Array(MOST_BLOCKS);
  count = 0;

  /**
   * @param slope how far another location moves for each level of x
   * @param width scale of what is moved, so that few blocks serve where it is wide
   */
  set(location: number, scale: number, levels: number, slope: number, width: number): void {
    const low = Math.min(Math.max(Math.floor(location - REACH * scale), 0), levels - 1);
    const high = Math.min(Math.max(Math.ceil(location + REACH * scale), 0), levels - 1);
    const span = high - low + 1;
    const needed = (Math.abs(slope) * span) / (MOST_MOVE * Math.sqrt(Math.max(width, 0.5)));
    const least = scale < NARROW || levels <= MOST_BLOCKS ? span : 1;
    this.count = Math.min(MOST_BLOCKS, span, Math.max(least, Math.ceil(needed), 1));
    if (Number.isNaN(this.count)) {
      this.setUnknown();
      return;
    }
    let bottom = low;
    let below = 0;
    for (let i = 0; i < this.count; i++) {
      const isLast = i === this.count - 1;
      const next = low + Math.round((span * (i + 1)) / this.count);
      const top = next - 1;
      const until = isLast ? 1 : sigmoid((next - 0.5 - location) / scale);
      const mass = until - below;
      const area = softplus((top - location) / scale) - softplus((bottom - location) / scale);
      const mean = (top * until - bottom * below - scale * area) / mass;
      this.mass[i] = mass;
      this.mean[i] = mass > 1e-12 ? Math.min(Math.max(mean, bottom), top) : bottom;
      bottom = next;
      below = until;
    }
  }

  /** One block of parameters that are not finite, so that no mean over blocks is finite. */
  private setUnknown(): void {
    this.count = 1;
    this.mass[0] = NaN;
    this.mean[0] = NaN;
  }
}
