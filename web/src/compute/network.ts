// A network of a run: named arrays in, named arrays out.
import type { Tensor } from "../data/arrays";

export type Tensors = Record<string, Tensor>;

/** Computes one graph of a run, in the page (`OrtDecoder`) or by the server (`HttpDecoder`). */
export interface Decoder {
  /** Outputs of n rows; `wanted` names those that are needed, all where it is left out. */
  run(inputs: Tensors, wanted?: readonly string[]): Promise<Tensors>;
}

/** Runs one piece of work after another, in the order in which they come. */
export class Turns {
  private last: Promise<unknown> = Promise.resolve();

  run<Result>(work: () => Promise<Result>): Promise<Result> {
    const result = this.last.then(work, work);
    this.last = result.catch(() => undefined);
    return result;
  }
}

/** Keeps one call in flight and the newest of those that wait: the latest request wins. */
export class Latest<Argument> {
  private waiting: { argument: Argument } | null = null;
  private busy = false;

  constructor(private readonly work: (argument: Argument) => Promise<void>) {}

  push(argument: Argument): void {
    this.waiting = { argument };
    if (!this.busy) void this.drain();
  }

  private async drain(): Promise<void> {
    this.busy = true;
    try {
      while (this.waiting !== null) {
        const { argument } = this.waiting;
        this.waiting = null;
        await this.work(argument);
      }
    } finally {
      this.busy = false;
    }
  }
}
