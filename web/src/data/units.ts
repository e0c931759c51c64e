// Raw units of a user (layout and numbers as given) and model units (channels first), both ways.
import { sizeOf } from "./arrays";
import type { ExportMetadata } from "./manifest";

type Spec = ExportMetadata["spec"];

/** For each place in model layout, its place in raw layout; equal unless channels stand last. */
function placesOf(spec: Spec): Int32Array | null {
  const [channels, ...space] = spec.shape;
  if (!spec.layout.endsWith("c") || spec.layout === "c" || channels === 1) return null;
  const pixels = sizeOf(space);
  const places = new Int32Array(channels * pixels);
  for (let channel = 0; channel < channels; channel++) {
    for (let pixel = 0; pixel < pixels; pixel++) {
      places[channel * pixels + pixel] = pixel * channels + channel;
    }
  }
  return places;
}

/** Converts examples of one run between raw and model units. */
export class Units {
  readonly size: number;
  readonly rawSize: number;
  private readonly places: Int32Array | null;
  private readonly isMixed: boolean;

  constructor(private readonly spec: Spec) {
    this.size = sizeOf(spec.shape);
    this.isMixed = spec.domain === "mixed";
    this.rawSize = this.isMixed ? spec.fields.length : this.size;
    this.places = placesOf(spec);
  }

  /** The number to which a raw value at a place of the model layout is read relative. */
  private offset(place: number): number {
    const { offset, shape } = this.spec;
    if (offset.length === 0) return 0;
    return offset[Math.floor(place / (this.size / shape[0]))];
  }

  /** Raw values of one example to model units, float64; NaN stays NaN. */
  toModel(raw: ArrayLike<number>): Float64Array {
    if (this.isMixed) return this.fieldsToModel(raw);
    const out = new Float64Array(this.size);
    for (let place = 0; place < this.size; place++) {
      const from = this.places === null ? place : this.places[place];
      out[place] = Math.fround(raw[from] - this.offset(place)) / this.spec.divisor;
    }
    return out;
  }

  /** One example in model units to raw values; a category is its largest place. */
  toRaw(x: ArrayLike<number>): Float64Array {
    if (this.isMixed) return this.fieldsToRaw(x);
    const out = new Float64Array(this.size);
    for (let place = 0; place < this.size; place++) {
      const to = this.places === null ? place : this.places[place];
      out[to] = x[place] * this.spec.divisor + this.offset(place);
    }
    return out;
  }

  /** Standard deviations in model units to raw units: the scale alone, without an offset. */
  spreadToRaw(sd: ArrayLike<number>): Float64Array {
    const out = new Float64Array(this.rawSize);
    if (this.isMixed) {
      let start = 0;
      this.spec.fields.forEach((field, i) => {
        out[i] = field.kind === "categorical" ? NaN : sd[start];
        start += field.kind === "categorical" ? field.values.length : 1;
      });
      return out;
    }
    for (let place = 0; place < this.size; place++) {
      const to = this.places === null ? place : this.places[place];
      out[to] = sd[place] * this.spec.divisor;
    }
    return out;
  }

  private fieldsToModel(raw: ArrayLike<number>): Float64Array {
    const out: number[] = [];
    this.spec.fields.forEach((field, i) => {
      const value = raw[i] - (this.spec.offset[i] ?? 0);
      if (field.kind === "categorical") {
        field.values.forEach((_, k) => out.push(Number.isNaN(raw[i]) ? NaN : Number(raw[i] === k)));
      } else {
        out.push(Math.fround(value));
      }
    });
    return Float64Array.from(out);
  }

  private fieldsToRaw(x: ArrayLike<number>): Float64Array {
    let start = 0;
    return Float64Array.from(this.spec.fields, (field, i) => {
      if (field.kind !== "categorical") {
        start += 1;
        return x[start - 1] + (this.spec.offset[i] ?? 0);
      }
      let best = Number.isNaN(x[start]) ? NaN : 0;
      for (let k = 1; k < field.values.length; k++) if (x[start + k] > x[start + best]) best = k;
      start += field.values.length;
      return best;
    });
  }
}
