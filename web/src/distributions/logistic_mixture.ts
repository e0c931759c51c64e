// Mixture of discretised logistics over colour pixels, whose channels depend on those before, or grey.
import type { Tensors } from "../compute/network";
import type { Likelihood } from "./likelihood";
import { discretisedLogistic, sampleLogistic } from "./likelihood";
import { rowOf } from "./parameters";
import type { Random } from "./random";
import { logSumExp } from "./special";

const DRAWS = 48; // of which the variance is taken

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

  /** No closed form: the variance is that of draws, made by the view. */
  variance(): null {
    return null;
  }
}

export { DRAWS };
