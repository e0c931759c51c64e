// Parts of the figures of the scenes: axes, shaded fields, ellipses, numbers.
import type { Frame, Segment } from "../distributions/density";
import { contour, massLevels } from "../distributions/density";
import type { Ellipse } from "../distributions/projection";
import { format, h } from "../widgets/dom";
import { niceStep } from "../widgets/geometry";
import { colour, rgb } from "../widgets/theme";
import type { Field } from "./bayes";
import { formula } from "./formula";

export type Pen = CanvasRenderingContext2D;

interface AxesOptions {
  x: readonly [number, number];
  y: readonly [number, number];
  labels: readonly [string, string];
  /** Powers of two along x. */
  isLogX?: boolean;
  /** One unit of x as long as one of y. */
  isSquare?: boolean;
  hasYTicks?: boolean;
  hasXTicks?: boolean;
}

const LEFT = 46;
const RIGHT = 12;
const TOP = 26;
const BOTTOM = 40;

/** Axes with ticks and labels in a canvas; `x` and `y` give pixels. */
export class Axes {
  readonly left: number;
  readonly right: number;
  readonly top = TOP;
  readonly bottom: number;
  readonly xs: readonly [number, number];
  readonly ys: readonly [number, number];

  constructor(
    readonly pen: Pen,
    width: number,
    height: number,
    private readonly options: AxesOptions,
  ) {
    this.left = options.hasYTicks === false ? 14 : LEFT;
    this.right = width - RIGHT;
    this.bottom = height - BOTTOM;
    this.xs = options.x;
    this.ys = options.y;
    if (options.isSquare) [this.xs, this.ys] = this.squared();
    this.paint();
  }

  /** Ranges widened so that both axes have one scale. */
  private squared(): [readonly [number, number], readonly [number, number]] {
    const { x, y } = this.options;
    const [across, down] = [this.right - this.left, this.bottom - this.top];
    const scale = Math.max((x[1] - x[0]) / across, (y[1] - y[0]) / down);
    const around = (range: readonly [number, number], pixels: number): [number, number] => {
      const middle = (range[0] + range[1]) / 2;
      return [middle - (scale * pixels) / 2, middle + (scale * pixels) / 2];
    };
    return [around(x, across), around(y, down)];
  }

  private share(value: number): number {
    const [low, high] = this.xs;
    if (this.options.isLogX) return Math.log(value / low) / Math.log(high / low);
    return (value - low) / (high - low);
  }

  x(value: number): number {
    return this.left + this.share(value) * (this.right - this.left);
  }

  y(value: number): number {
    const [low, high] = this.ys;
    return this.bottom - ((value - low) / (high - low)) * (this.bottom - this.top);
  }

  worldX(pixel: number): number {
    const [low, high] = this.xs;
    return low + ((pixel - this.left) / (this.right - this.left)) * (high - low);
  }

  worldY(pixel: number): number {
    const [low, high] = this.ys;
    return low + ((this.bottom - pixel) / (this.bottom - this.top)) * (high - low);
  }

  /** Paint only between the axes. */
  inside(paint: () => void): void {
    this.pen.save();
    this.pen.beginPath();
    this.pen.rect(this.left, this.top, this.right - this.left, this.bottom - this.top);
    this.pen.clip();
    paint();
    this.pen.restore();
  }

  private ticksOfX(): number[] {
    const [low, high] = this.xs;
    if (this.options.hasXTicks === false) return [];
    if (!this.options.isLogX) return ticks(low, high, (this.right - this.left) / 62);
    const powers: number[] = [];
    for (let value = 2 ** Math.ceil(Math.log2(low)); value <= high * 1.0001; value *= 4) powers.push(value);
    return powers;
  }

  private paint(): void {
    const { pen } = this;
    pen.font = `11px ${colour("sans")}`;
    pen.fillStyle = colour("muted");
    pen.strokeStyle = colour("grid");
    pen.lineWidth = 1;
    pen.textAlign = "center";
    const [first, second] = this.options.labels;
    for (const value of this.ticksOfX()) {
      const px = Math.round(this.x(value)) + 0.5;
      line(pen, px, this.top, px, this.bottom);
      pen.fillText(numberText(value), px, this.bottom + 14);
    }
    pen.textAlign = "right";
    if (this.options.hasYTicks !== false) {
      for (const value of ticks(...this.ys, (this.bottom - this.top) / 38)) {
        const py = Math.round(this.y(value)) + 0.5;
        line(pen, this.left, py, this.right, py);
        pen.fillText(numberText(value), this.left - 6, py + 4);
      }
    }
    pen.strokeStyle = colour("axis");
    line(pen, this.left, this.bottom + 0.5, this.right, this.bottom + 0.5);
    line(pen, this.left + 0.5, this.top, this.left + 0.5, this.bottom);
    pen.fillStyle = colour("ink");
    pen.font = `13px ${colour("sans")}`;
    pen.textAlign = "right";
    pen.fillText(first, this.right, this.bottom + 33);
    pen.textAlign = "left";
    pen.fillText(second, 2, 14);
  }
}

export function line(pen: Pen, x0: number, y0: number, x1: number, y1: number): void {
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.lineTo(x1, y1);
  pen.stroke();
}

/** About `count` round numbers between two numbers. */
export function ticks(low: number, high: number, count: number): number[] {
  const step = niceStep((high - low) / Math.max(1, count));
  const out: number[] = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) out.push(k * step);
  return out;
}

export function numberText(value: number): string {
  const size = Math.abs(value);
  if (size >= 1e5 || (size > 0 && size < 1e-3)) return value.toExponential(0).replace("e+", "e").replace(/-/g, "−");
  return String(Number(value.toPrecision(6))).replace("-", "−");
}

/** Square axes over a frame of z. */
export function planeAxes(pen: Pen, width: number, height: number, frame: Frame): Axes {
  return new Axes(pen, width, height, {
    x: [frame.x0, frame.x1],
    y: [frame.y0, frame.y1],
    labels: ["z₁", "z₂"],
    isSquare: true,
  });
}

/** A field as a shade of one colour: 0 is transparent, 1 is the whole colour. */
export function paintField(axes: Axes, field: Field, shade: (place: number) => number, name: string): void {
  const { columns, rows, frame } = field;
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [columns, rows];
  const image = new ImageData(columns, rows);
  const [red, green, blue] = rgb(colour(name));
  for (let j = 0; j < rows; j++) {
    for (let i = 0; i < columns; i++) {
      const to = 4 * ((rows - 1 - j) * columns + i);
      image.data.set([red, green, blue, 255 * Math.max(0, Math.min(1, shade(j * columns + i)))], to);
    }
  }
  canvas.getContext("2d")!.putImageData(image, 0, 0);
  const [left, top] = [axes.x(frame.x0), axes.y(frame.y1)];
  axes.inside(() => {
    axes.pen.imageSmoothingEnabled = true;
    axes.pen.imageSmoothingQuality = "high";
    axes.pen.drawImage(canvas, left, top, axes.x(frame.x1) - left, axes.y(frame.y0) - top);
  });
}

/** Shade by density: its share of the highest value, as a root so that tails are visible. */
export function densityShade(
  logDensity: Float64Array,
  highest = Math.max(...logDensity),
): (place: number) => number {
  return (place) => 0.85 * Math.exp(0.6 * (logDensity[place] - highest));
}

/** Contours of regions that hold shares of the mass of exp(log-density). */
export function massContours(field: Field, logDensity: Float64Array, shares = [0.5, 0.9]): Segment[] {
  let highest = -Infinity;
  for (const value of logDensity) highest = Math.max(highest, value);
  const values = logDensity.map((value) => Math.exp(value - highest));
  const grid = { ...field.frame, columns: field.columns, rows: field.rows, values };
  return massLevels(grid, shares).flatMap((level) => contour(grid, level));
}

export function paintSegments(axes: Axes, segments: readonly Segment[], name: string, width = 1.5): void {
  const { pen } = axes;
  axes.inside(() => {
    pen.strokeStyle = colour(name);
    pen.lineWidth = width;
    pen.beginPath();
    for (const [x0, y0, x1, y1] of segments) {
      pen.moveTo(axes.x(x0), axes.y(y0));
      pen.lineTo(axes.x(x1), axes.y(y1));
    }
    pen.stroke();
  });
}

/** Ellipses of one and two standard deviations. */
export function paintEllipse(axes: Axes, e: Ellipse, name = "posterior", isFilled = true): void {
  const { pen } = axes;
  const half = (e.xx + e.yy) / 2;
  const root = Math.hypot((e.xx - e.yy) / 2, e.xy);
  const angle = 0.5 * Math.atan2(2 * e.xy, e.xx - e.yy);
  const scale = (axes.right - axes.left) / (axes.xs[1] - axes.xs[0]);
  const long = Math.sqrt(Math.max(0, half + root)) * scale;
  const short = Math.sqrt(Math.max(0, half - root)) * scale;
  axes.inside(() => {
    for (const radius of [2, 1]) {
      pen.beginPath();
      pen.ellipse(axes.x(e.x), axes.y(e.y), radius * long, radius * short, -angle, 0, 7);
      pen.fillStyle = colour(`${name}-fill`);
      if (isFilled) pen.fill();
      pen.strokeStyle = colour(name);
      pen.lineWidth = radius === 1 ? 2 : 1.25;
      pen.stroke();
    }
  });
}

export function dot(axes: Axes, x: number, y: number, radius: number, name: string): void {
  const { pen } = axes;
  axes.inside(() => {
    pen.beginPath();
    pen.arc(axes.x(x), axes.y(y), radius, 0, 7);
    pen.fillStyle = colour(name);
    pen.fill();
    pen.strokeStyle = colour("panel");
    pen.lineWidth = 1;
    pen.stroke();
  });
}

/** A curve through points, in pixels of the axes. */
export function curve(axes: Axes, xs: ArrayLike<number>, ys: ArrayLike<number>, name: string, width = 2): void {
  const { pen } = axes;
  axes.inside(() => {
    pen.strokeStyle = colour(name);
    pen.lineWidth = width;
    pen.lineJoin = "round";
    pen.beginPath();
    for (let i = 0; i < xs.length; i++) pen.lineTo(axes.x(xs[i]), axes.y(ys[i]));
    pen.stroke();
  });
}

/** A level line over the whole width, dashed. */
export function level(axes: Axes, value: number, name: string): void {
  const { pen } = axes;
  pen.strokeStyle = colour(name);
  pen.lineWidth = 1.75;
  pen.setLineDash([6, 4]);
  line(pen, axes.left, axes.y(value), axes.right, axes.y(value));
  pen.setLineDash([]);
}

/** The name of a line, in the colour of the line, readable over it. */
export function tag(axes: Axes, text: string, x: number, y: number, name: string, align: CanvasTextAlign = "left"): void {
  const { pen } = axes;
  pen.font = `600 12px ${colour("sans")}`;
  pen.textAlign = align;
  pen.lineJoin = "round";
  pen.strokeStyle = colour("paper");
  pen.lineWidth = 4;
  pen.strokeText(text, x, y);
  pen.fillStyle = colour(name);
  pen.fillText(text, x, y);
}

/** A figure with a heading (a formula and words) and a note below. */
export function panel(heading: Node | string, element: HTMLElement, note: Node | string | null = null): HTMLElement {
  const caption = note === null ? null : h("p", { class: "note" }, note);
  return h("figure", { class: "scene-panel" }, h("div", { class: "scene-heading" }, heading), element, caption);
}

/** A heading of a formula with words beside it. */
export function named(name: string, words: string): HTMLElement {
  return h("span", {}, formula(name), words === "" ? null : h("span", { class: "words" }, words));
}

/** Numbers with their names; each has its value as data for tests and for reading on. */
export class Facts {
  readonly element = h("dl", { class: "scene-facts", "aria-live": "off" });
  private readonly values = new Map<string, HTMLElement>();

  /** A row; `isStrong` for the result of a sum. */
  add(name: string, label: Node | string, isStrong = false): this {
    const value = h("dd", { "data-name": name }, "–");
    this.values.set(name, value);
    const kind = isStrong ? "strong" : "";
    this.element.append(h("div", { class: kind }, h("dt", {}, label), value));
    return this;
  }

  show(name: string, value: number | null, text?: string): void {
    const element = this.values.get(name)!;
    element.textContent = text ?? format(value);
    if (value === null) delete element.dataset.value;
    else element.dataset.value = String(value);
  }
}
