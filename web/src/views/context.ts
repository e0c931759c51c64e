// What views share: the runs that are shown, the theory runs, the bound of one hand.
import type { Model } from "../compute/model";
import { RunState, Signal } from "../state";
import type { PlaneData } from "./plane_data";
import { firstPlane, planeData } from "./plane_data";

/** What is drawn over the points of a plane: a path, named places, draws of p(z). */
export interface Overlay {
  trail: ArrayLike<number>[];
  markers: { z: ArrayLike<number>; text: string }[];
  /** Rows of z side by side. */
  draws: Float32Array | null;
}

export const NOTHING: Overlay = { trail: [], markers: [], draws: null };

/** A run on the page with the data of its plane. */
export class RunContext {
  readonly planeData: Signal<PlaneData>;
  readonly overlay = new Signal<Overlay>(NOTHING);

  private constructor(
    readonly model: Model,
    readonly state: RunState,
    data: PlaneData,
  ) {
    this.planeData = new Signal(data);
  }

  static async open(model: Model): Promise<RunContext> {
    const plane = firstPlane(model);
    const data = await planeData(model, plane);
    return new RunContext(model, new RunState(model, plane, data.frame), data);
  }

  async setPlane(plane: ReturnType<typeof firstPlane>): Promise<void> {
    const data = await planeData(this.model, plane);
    this.state.plane.set(plane);
    this.state.frame.set(data.frame);
    this.planeData.set(data);
  }

  /** Coordinates of z in the plane. */
  position(z: ArrayLike<number> = this.state.z.value): [number, number] {
    const [x, y] = this.state.plane.value.coordinates(z, 1);
    return [x, y];
  }

  moveTo(x: number, y: number): void {
    this.state.move(this.state.plane.value.moved(this.state.z.value, x, y));
  }

  /** Coordinates as shares of the frame, and back: the same movement in another run. */
  shareOf(x: number, y: number): [number, number] {
    const { x0, x1, y0, y1 } = this.state.frame.value;
    return [(x - x0) / (x1 - x0), (y - y0) / (y1 - y0)];
  }

  moveToShare(u: number, v: number): void {
    const { x0, x1, y0, y1 } = this.state.frame.value;
    this.moveTo(x0 + u * (x1 - x0), y0 + v * (y1 - y0));
  }
}

/** The runs of the page. */
export class PageContext {
  /** Data points inside the lasso of a plane; null where there is none. */
  readonly lasso = new Signal<number[] | null>(null);

  /** A hand that moves in one run moves in the others as well. */
  constructor(
    readonly main: RunContext,
    readonly second: RunContext | null,
    /** Runs with two features for the theory; the main run where it has two. */
    readonly theoryVae: RunContext | null,
    readonly theoryAe: RunContext | null,
  ) {}

  get shown(): RunContext[] {
    return this.second === null ? [this.main] : [this.main, this.second];
  }

  /** Move the hand of one run; the others follow at the same share of their frames. */
  moveTo(run: RunContext, x: number, y: number): void {
    run.moveTo(x, y);
    const [u, v] = run.shareOf(x, y);
    for (const other of this.shown) if (other !== run) other.moveToShare(u, v);
  }

  /** Set z of one run; the others follow in their planes. */
  move(run: RunContext, z: Float64Array): void {
    run.state.move(z);
    const [u, v] = run.shareOf(...run.position(z));
    for (const other of this.shown) if (other !== run) other.moveToShare(u, v);
  }

  /** Set z of each run that is shown, in their order. */
  moveEach(zs: readonly Float64Array[]): void {
    this.shown.forEach((run, i) => run.state.move(zs[i]));
  }

  /** A title, with the name of the run that it is about where two are shown. */
  titled(title: string, run: RunContext): string {
    return this.second === null ? title : `${title} · ${run.model.run.name}`;
  }

  /** Follow a data point in all runs that have the same points. */
  async followPoint(run: RunContext, point: number): Promise<void> {
    for (const other of this.shown) {
      if (point < other.model.points.n) await other.state.followPoint(point);
    }
    void run;
  }

  /** Follow an example that was dropped or drawn, in all runs. */
  async follow(x: Float64Array): Promise<void> {
    for (const other of this.shown) await other.state.follow(x, null, other.state.condition.value);
  }
}
