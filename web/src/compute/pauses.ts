// Pauses in long work, in which the browser paints and answers.

/** The browser paints and answers before the work goes on. */
export function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve));
}

const WORK_MS = 12; // of one piece: less than a frame

/** Pauses of one piece of work, each where some milliseconds have passed since the last one. */
export class Pauses {
  private last = performance.now();

  /** Whether it is time for a pause. */
  get isDue(): boolean {
    return performance.now() - this.last > WORK_MS;
  }

  async pause(): Promise<void> {
    await pause();
    this.last = performance.now();
  }
}
