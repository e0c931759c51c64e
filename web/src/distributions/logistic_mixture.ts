// Mixture of discretised logistics over colour pixels, whose channels depend on those before, or grey.
import type { Tensors } from "../compute/network";
import type { Likelihood } from "./likelihood";
import { discretisedLogistic, sampleLogistic } from "./likelihood";
import { Blocks, isInside, logisticMean, REACH } from "./logistic_mean";
import { rowOf } from "./parameters";
import type { Random } from "./random";
import { logSumExp } from "./special";

const NEGLIGIBLE = 1e-6; // share of a component that the mean leaves out

export class LogisticMixture implements Likelihood {
  private readonly logits: Float64Array;
  private readonly location: Float64Array;
  private readonly logScale: Float64Array;
  private readonly slope: Float64Array;
  private readonly components: number;
  private readonly pixels: number;
  private readonly channels: number;

  constructor(
    outputs: Tensors,
    prefix: string,
    row: number,
    private readonly levels: number,
  ) {
    const of = (name: string) => {
      const tensor = outputs[prefix + name];
      return rowOf(tensor, row, tensor.shape.slice(1));
    };
    this.logits = of("logits");
    this.location = of("location");
    this.logScale = of("log_scale");
    this.slope = of("slope");
    this.components = outputs[`${prefix}logits`].shape[1];
    this.pixels = this.logits.length / this.components;
    this.channels = this.location.length / this.logits.length;
  }

  /** The location of a channel of component k given the channels before. */
  private moved(k: number, channel: number, pixel: number, red: number, green: number): number {
    const middle = (this.levels - 1) / 2;
    const at = (c: number) => (k * this.channels + c) * this.pixels + pixel;
    const location = this.location[at(channel)];
    if (channel === 0) return location;
    if (channel === 1) return location + this.slope[at(0)] * (red - middle);
    return location + this.slope[at(1)] * (red - middle) + this.slope[at(2)] * (green - middle);
  }

  private scale(k: number, channel: number, pixel: number): number {
    return Math.exp(this.logScale[(k * this.channels + channel) * this.pixels + pixel]);
  }

  private weights(pixel: number): Float64Array {
    return Float64Array.from(
      { length: this.components },
      (_, k) => this.logits[k * this.pixels + pixel],
    );
  }

  logProbEach(x: Float64Array): Float64Array {
    const out = new Float64Array(x.length);
    for (let pixel = 0; pixel < this.pixels; pixel++) {
      const value = [0, 1, 2].map((channel) => x[channel * this.pixels + pixel]);
      const weights = this.weights(pixel);
      const terms = weights.map((weight, k) => {
        let sum = weight;
        for (let channel = 0; channel < this.channels; channel++) {
          const location = this.moved(k, channel, pixel, value[0], value[1]);
          const scale = this.scale(k, channel, pixel);
          sum += discretisedLogistic(value[channel], location, scale, this.levels);
        }
        return sum;
      });
      out[pixel] = logSumExp(terms) - logSumExp(weights);
    }
    return out;
  }

  logProbAt(place: number, value: number): number {
    if (place >= this.pixels) throw new Error("a channel depends on those before it");
    const weights = this.weights(place);
    const terms = weights.map((weight, k) => {
      const location = this.moved(k, 0, place, 0, 0);
      return weight + discretisedLogistic(value, location, this.scale(k, 0, place), this.levels);
    });
    return logSumExp(terms) - logSumExp(weights);
  }

  sample(random: Random): Float64Array {
    const out = new Float64Array(this.channels * this.pixels);
    for (let pixel = 0; pixel < this.pixels; pixel++) {
      const k = random.category(this.weights(pixel));
      const value = [0, 0, 0];
      for (let channel = 0; channel < this.channels; channel++) {
        const location = this.moved(k, channel, pixel, value[0], value[1]);
        const scale = this.scale(k, channel, pixel);
        value[channel] = sampleLogistic(location, scale, this.levels, random);
        out[channel * this.pixels + pixel] = value[channel];
      }
    }
    return out;
  }

  /**
   * E[x], in model units: over red, and over green given red, in blocks of levels. A channel whose
   * locations stay away from both ends has the mean that they have.
   */
  mean(): Float64Array {
    const { pixels, components, channels, logits } = this;
    const out = new Float64Array(channels * pixels);
    for (let pixel = 0; pixel < pixels; pixel++) {
      let largest = -Infinity;
      for (let k = 0; k < components; k++) largest = Math.max(largest, logits[k * pixels + pixel]);
      let total = 0;
      for (let k = 0; k < components; k++) total += Math.exp(logits[k * pixels + pixel] - largest);
      for (let k = 0; k < components; k++) {
        const share = Math.exp(logits[k * pixels + pixel] - largest) / total;
        if (share < NEGLIGIBLE) continue;
        this.meanOf(k, pixel);
        for (let channel = 0; channel < channels; channel++) {
          out[channel * pixels + pixel] += share * this.means[channel];
        }
      }
    }
    return out;
  }

  private readonly means = new Float64Array(3);
  private readonly reds = new Blocks();
  private readonly greens = new Blocks();

  /** Write the mean of each channel of one component of a pixel into `means`. */
  private meanOf(k: number, pixel: number): void {
    const { levels, means } = this;
    const at = k * this.channels * this.pixels + pixel;
    const redScale = Math.exp(this.logScale[at]);
    const ofRed = this.location[at];
    means[0] = logisticMean(ofRed, redScale, levels);
    if (this.channels > 1) this.meansAfterRed(at, ofRed, redScale);
  }

  /** Write the means of green and blue, whose locations depend on the channels before. */
  private meansAfterRed(at: number, ofRed: number, redScale: number): void {
    const { levels, means, slope, pixels } = this;
    const [atGreen, atBlue] = [at + pixels, at + 2 * pixels];
    const [a, b, c] = [slope[at], slope[atGreen], slope[atBlue]];
    const greenScale = Math.exp(this.logScale[atGreen]);
    const blueScale = Math.exp(this.logScale[atBlue]);
    const middle = (levels - 1) / 2;
    // green and blue at a red in the middle
    const ofGreen = this.location[atGreen];
    const ofBlue = this.location[atBlue];
    const red: Ends = reachOf([ofRed, ofRed], redScale, levels);
    const greens = moved([ofGreen, ofGreen], a, red, middle);
    const green: Ends = reachOf(greens, greenScale, levels);
    const blues = moved(moved([ofBlue, ofBlue], b, red, middle), c, green, middle);
    const isGreenInside = isInside(greens[0], greens[1], greenScale, levels);
    const isBlueInside = isInside(blues[0], blues[1], blueScale, levels);
    if (isGreenInside && isBlueInside) {
      means[1] = ofGreen + a * (means[0] - middle);
      means[2] = ofBlue + b * (means[0] - middle) + c * (means[1] - middle);
      return;
    }
    const forBlue = Math.abs(b) + Math.abs(a * c);
    const isGreenSteeper = Math.abs(a) * Math.sqrt(blueScale) > forBlue * Math.sqrt(greenScale);
    const [steepest, width] = isGreenSteeper ? [a, greenScale] : [forBlue, blueScale];
    this.reds.set(ofRed, redScale, levels, steepest, width);
    means[1] = means[2] = 0;
    for (let i = 0; i < this.reds.count; i++) {
      const mass = this.reds.mass[i];
      if (mass < NEGLIGIBLE) continue;
      const fromMiddle = this.reds.mean[i] - middle;
      const location = ofGreen + a * fromMiddle;
      const greenMean = logisticMean(location, greenScale, levels);
      means[1] += mass * greenMean;
      const base = ofBlue + b * fromMiddle;
      if (isBlueInside) means[2] += mass * (base + c * (greenMean - middle));
      else means[2] += mass * this.blueMean(base, c, location, greenScale, blueScale);
    }
  }

  /** The mean of blue over green, whose location is given. */
  private blueMean(base: number, slope: number, location: number, greenScale: number, blueScale: number): number {
    const middle = (this.levels - 1) / 2;
    this.greens.set(location, greenScale, this.levels, slope, blueScale);
    let blue = 0;
    for (let j = 0; j < this.greens.count; j++) {
      const mass = this.greens.mass[j];
      if (mass < NEGLIGIBLE) continue;
      blue += mass * logisticMean(base + slope * (this.greens.mean[j] - middle), blueScale, this.levels);
    }
    return blue;
  }

  /** No closed form: `standardDeviations` takes it from draws. */
  variance(): null {
    return null;
  }
}

type Ends = [number, number];

/** The levels that hold the mass of discretised logistics whose locations lie between two. */
function reachOf(locations: Ends, scale: number, levels: number): Ends {
  const top = levels - 1;
  const low = Math.min(Math.max(locations[0] - REACH * scale, 0), top);
  return [low, Math.min(Math.max(locations[1] + REACH * scale, 0), top)];
}

/** From where to where locations are moved by slope * (x - middle) of the x between two. */
function moved(locations: Ends, slope: number, x: Ends, middle: number): Ends {
  const [first, last] = [slope * (x[0] - middle), slope * (x[1] - middle)];
  return [locations[0] + Math.min(first, last), locations[1] + Math.max(first, last)];
}
