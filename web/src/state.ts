// State of the page: values that can be watched, and what is shown of each run.
import { Latest } from "./compute/network";
import type { Tensors } from "./compute/network";
import type { Condition, Model, Terms } from "./compute/model";
import type { Frame } from "./distributions/density";
import type { Posterior } from "./distributions/posterior";
import type { Plane } from "./distributions/projection";

/** A value with subscribers. */
export class Signal<T> {
  private readonly subscribers = new Set<(value: T) => void>();

  constructor(private current: T) {}

  get value(): T {
    return this.current;
  }

  set(value: T): void {
    this.current = value;
    for (const subscriber of [...this.subscribers]) subscriber(value);
  }

  /** Call on each change, and at once; returns the end of the subscription. */
  watch(subscriber: (value: T) => void, scope: Scope): void {
    this.subscribers.add(subscriber);
    scope.add(() => this.subscribers.delete(subscriber));
    subscriber(this.current);
  }
}

/** Things to undo when a part of the page is removed. */
export class Scope {
  private readonly ends: (() => void)[] = [];

  add(end: () => unknown): void {
    this.ends.push(() => void end());
  }

  close(): void {
    for (const end of this.ends.splice(0)) end();
  }
}

/** An example that is followed through the model. */
export interface Input {
  /** Raw values. */
  x: Float64Array;
  condition: Condition;
  /** Its number among the points; null where it was dropped or drawn. */
  point: number | null;
  posterior: Posterior;
}

/** z with what the decoder makes of it. */
export interface Decoded {
  z: Float64Array;
  mean: Float32Array;
  outputs: Tensors | null;
  terms: Terms | null;
}

/** What is shown of one run: its plane, z under the hand, the input and what is decoded. */
export class RunState {
  readonly plane: Signal<Plane>;
  readonly frame: Signal<Frame>;
  readonly z: Signal<Float64Array>;
  readonly condition: Signal<Condition>;
  readonly input = new Signal<Input | null>(null);
  readonly decoded = new Signal<Decoded | null>(null);
  readonly failure = new Signal<string | null>(null);
  private readonly decoder: Latest<Float64Array>;
  /** Views that need the parameters of p(x|z) besides its mean. */
  needsOutputs = 0;

  constructor(
    readonly model: Model,
    plane: Plane,
    frame: Frame,
  ) {
    this.plane = new Signal(plane);
    this.frame = new Signal(frame);
    this.z = new Signal(startOf(model));
    this.condition = new Signal<Condition>(model.conditionOf(0));
    this.decoder = new Latest((z) => this.decode(z));
  }

  /** Move z; the decoded example follows. */
  move(z: Float64Array): void {
    this.z.set(z);
    this.decoder.push(z);
  }

  setCondition(condition: Condition): void {
    this.condition.set(condition);
    this.decoder.push(this.z.value);
  }

  /** Decode again, as after a view was opened that needs more outputs. */
  refresh(): void {
    this.decoder.push(this.z.value);
  }

  /** Follow an example: its posterior, and z at the posterior mean. */
  async follow(x: Float64Array, point: number | null, condition: Condition): Promise<void> {
    const posterior = await this.model.posterior(x, condition);
    this.condition.set(condition);
    this.input.set({ x, condition, point, posterior });
    this.move(posterior.mean.slice());
  }

  async followPoint(point: number): Promise<void> {
    await this.follow(this.model.points.x.row(point), point, this.model.conditionOf(point));
  }

  private async decode(z: Float64Array): Promise<void> {
    try {
      const condition = this.condition.value;
      const input = this.input.value;
      if (input === null && this.needsOutputs === 0) {
        const mean = await this.model.means(z, 1, condition);
        this.decoded.set({ z, mean, outputs: null, terms: null });
      } else {
        const outputs = await this.model.decode(z, 1, condition);
        const mean = Float32Array.from(outputs.mean.data as Float32Array);
        const terms =
          input === null
            ? null
            : await this.model.terms(input.x, z, input.posterior, condition, outputs);
        this.decoded.set({ z, mean, outputs, terms });
      }
      if (this.failure.value !== null) this.failure.set(null);
    } catch (error) {
      this.failure.set(error instanceof Error ? error.message : String(error));
    }
  }
}

/** The first z: the mean of the codes, or for codes and classes the code of the first point. */
function startOf(model: Model): Float64Array {
  const { z, n, width } = model.points;
  const out = Float64Array.from(z.subarray(0, width));
  const kind = model.run.latent.kind;
  if (kind === "codes" || kind === "sphere") return out;
  for (const site of model.run.latent.sites) {
    if (site.codes !== undefined) continue;
    for (let i = site.start; i < site.start + site.width; i++) {
      let sum = 0;
      for (let row = 0; row < n; row++) sum += z[row * width + i];
      out[i] = sum / n;
    }
  }
  return out;
}
