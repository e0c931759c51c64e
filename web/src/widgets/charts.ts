// Small charts on canvases: densities of a feature, and bars of log-terms.
import type { Scope } from "../state";
import { format, h } from "./dom";
import { colour, painted } from "./theme";

/** A canvas that is painted again when its size or the colours change. */
export class Chart {
  readonly element: HTMLElement;
  private readonly canvas: HTMLCanvasElement;
  private painter: ((pen: CanvasRenderingContext2D, width: number, height: number) => void) | null = null;

  constructor(label: string, kind: string, scope: Scope) {
    this.canvas = h("canvas", { role: "img", "aria-label": label });
    this.element = h("div", { class: `chart ${kind}` }, this.canvas);
    const observer = new ResizeObserver(() => this.repaint());
    observer.observe(this.element);
    scope.add(() => observer.disconnect());
    painted.watch(() => this.repaint(), scope);
  }

  set label(text: string) {
    this.canvas.setAttribute("aria-label", text);
  }

  paint(painter: (pen: CanvasRenderingContext2D, width: number, height: number) => void): void {
    this.painter = painter;
    this.repaint();
  }

  repaint(): void {
    const { clientWidth: width, clientHeight: height } = this.element;
    if (this.painter === null || width < 2) return;
    const ratio = Math.min(2, devicePixelRatio || 1);
    const pixels = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.canvas.width !== pixels[0] || this.canvas.height !== pixels[1]) {
      [this.canvas.width, this.canvas.height] = pixels;
    }
    const pen = this.canvas.getContext("2d")!;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    this.painter(pen, width, height);
  }
}

function normal(x: number, mean: number, sd: number): number {
  return Math.exp(-0.5 * ((x - mean) / sd) ** 2) / sd;
}

/** q of one feature as a curve over N(0, 1), with a line at z. */
export function paintFeature(
  pen: CanvasRenderingContext2D,
  width: number,
  height: number,
  q: { mean: number; sd: number },
  z: number,
  hasPrior: boolean,
): void {
  const reach = Math.max(3.2, Math.abs(q.mean) + 2.5 * (q.sd || 0));
  const x = (value: number) => ((value + reach) / (2 * reach)) * width;
  const base = height - 1;
  const curve = (density: (value: number) => number, top: number, stroke: string, fill: string) => {
    pen.beginPath();
    pen.moveTo(0, base);
    for (let px = 0; px <= width; px += 1) {
      pen.lineTo(px, base - density((px / width) * 2 * reach - reach) * top);
    }
    pen.lineTo(width, base);
    pen.fillStyle = fill;
    pen.fill();
    pen.strokeStyle = stroke;
    pen.lineWidth = 1.25;
    pen.stroke();
  };
  // both curves are scaled to the box by the root of their peaks, so that narrow ones stay readable
  const tall = 1 / Math.max(q.sd || 1, 0.02);
  const unit = (height - 4) / Math.sqrt(Math.max(1, tall));
  if (hasPrior) curve((v) => normal(v, 0, 1), unit, colour("prior"), colour("prior-fill"));
  if (q.sd > 0) {
    const top = (height - 4) * Math.min(1, Math.sqrt(tall / Math.max(1, tall))) * q.sd;
    curve((v) => normal(v, q.mean, q.sd), top, colour("posterior"), colour("posterior-fill"));
  }
  pen.strokeStyle = colour("accent");
  pen.lineWidth = 2;
  pen.beginPath();
  pen.moveTo(x(z), 0);
  pen.lineTo(x(z), height);
  pen.stroke();
}

export interface Bar {
  name: string;
  value: number | null;
  /** Name of a colour of the style sheet. */
  tint: string;
  strong?: boolean;
}

/** Bars to both sides of 0 on one scale, each with its name and number. */
export class Bars {
  readonly element: HTMLElement;
  private readonly rows: { bar: HTMLElement; value: HTMLElement; name: HTMLElement }[] = [];
  private reach = 1;

  constructor(label: string, private readonly digits = 2) {
    this.element = h("div", { class: "bars", role: "group", "aria-label": label });
  }

  private row(i: number): (typeof this.rows)[number] {
    while (this.rows.length <= i) {
      const bar = h("span", { class: "bar" });
      const name = h("span", { class: "name" });
      const value = h("span", { class: "value" });
      const track = h("span", { class: "track", "aria-hidden": "true" }, bar);
      this.element.append(h("div", { class: "row" }, name, track, value));
      this.rows.push({ bar, value, name });
    }
    return this.rows[i];
  }

  /** Show the bars; the scale grows with the values and shrinks when they are far below it. */
  show(bars: readonly Bar[]): void {
    const sizes = bars.map((bar) => Math.abs(bar.value ?? 0)).filter(Number.isFinite);
    const largest = Math.max(1e-9, ...sizes);
    if (largest > this.reach || largest < 0.35 * this.reach) this.reach = 1.15 * largest;
    bars.forEach((bar, i) => {
      const row = this.row(i);
      row.name.textContent = bar.name;
      row.value.textContent = format(bar.value, this.digits);
      const line = row.name.parentElement!;
      line.classList.toggle("strong", bar.strong ?? false);
      const share = Math.max(-1, Math.min(1, (bar.value ?? 0) / this.reach));
      row.bar.style.setProperty("--from", String(Math.min(0, share)));
      row.bar.style.setProperty("--size", String(Math.abs(share)));
      row.bar.style.setProperty("background-color", `var(--${bar.tint})`);
    });
  }
}
