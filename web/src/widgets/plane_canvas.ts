// The latent plane: points, contours, holes, ellipses and the hand; zoom, pan, drag, lasso, keys.
import type { Frame, Grid, Segment } from "../distributions/density";
import type { Ellipse } from "../distributions/projection";
import { Signal } from "../state";
import { h } from "./dom";
import { isInside, niceStep, overlaps, shortNumber } from "./geometry";
import { indexOf } from "./point_index";
import { PointsGl } from "./points_gl";
import type { PointsLayer } from "./points_raster";
import { PointsRaster } from "./points_raster";
import { classColours, colour, rgb } from "./theme";

export type Mode = "hand" | "pan" | "lasso";

export const MANY_POINTS = 20_000; // above, points are painted by WebGL where it is fast
const ROUND_POINTS = 4_000; // above, points are small squares

export interface Marker {
  x: number;
  y: number;
  text: string;
}

export interface PlaneContent {
  xy: Float32Array;
  labels: Int32Array | null;
  classes: string[];
  contours: { segments: Segment[]; level: number }[];
  holes: { grid: Grid; mask: Uint8Array } | null;
  axisLabels: readonly [string, string];
}

export interface PlaneLayers {
  points: boolean;
  prior: boolean;
  holes: boolean;
  names: boolean;
}

export interface PlaneHandlers {
  label: string;
  /** The hand was moved to these coordinates. */
  onHand?: (x: number, y: number) => void;
  /** A data point was clicked, or chosen by Enter. */
  onPick?: (point: number) => void;
  /** The mouse is over a data point, at these pixels; null where it is over none. */
  onHover?: (point: number | null, px: number, py: number) => void;
  /** Points were chosen by the lasso; null where it was cleared. */
  onLasso?: (points: number[] | null) => void;
}

/** Sizes in CSS pixels. */
const HIT = 9;
const CLICK = 4;
const REST_MS = 140; // after the last movement of the view

function context(canvas: HTMLCanvasElement): CanvasRenderingContext2D {
  return canvas.getContext("2d")!;
}

export class PlaneCanvas {
  readonly element: HTMLElement;
  readonly mode = new Signal<Mode>("hand");
  layers: PlaneLayers = { points: true, prior: true, holes: true, names: true };
  private readonly back = h("canvas", { "aria-hidden": "true" });
  private readonly dots = h("canvas", { "aria-hidden": "true" });
  private readonly lines = h("canvas", { "aria-hidden": "true" });
  private readonly front = h("canvas", { "aria-hidden": "true" });
  private fast: PointsLayer | null = null;
  private content: PlaneContent | null = null;
  private chosen: Set<number> | null = null;
  private highlighted: number | null = null;
  private hand: [number, number] | null = null;
  private ellipses: Ellipse[] = [];
  private trail: [number, number][] = [];
  private markers: Marker[] = [];
  private draws: Float32Array | null = null;
  private hovered: number | null = null;
  private lasso: [number, number][] | null = null;
  private inLasso: readonly number[] | null = null;
  private isLassoByKeys = false; // arrow keys draw its line
  private size = { width: 0, height: 0, ratio: 1 };
  private center: [number, number] = [0, 0];
  private scale = 50;
  private whole: Frame = { x0: -3, x1: 3, y0: -3, y1: 3 };
  private pending = { back: false, front: false };
  private moving = 0; // the timer that ends a movement of the view
  private readonly pointers = new Map<number, [number, number]>();
  private press: { x: number; y: number; moved: boolean; kind: Mode } | null = null;

  constructor(private readonly handlers: PlaneHandlers) {
    this.element = h(
      "div",
      { class: "plane", tabindex: 0, role: "application", "aria-label": handlers.label },
      this.back,
      this.dots,
      this.lines,
      this.front,
    );
    this.element.addEventListener("pointerdown", (e) => this.onDown(e));
    this.element.addEventListener("pointermove", (e) => this.onMove(e));
    this.element.addEventListener("pointerup", (e) => this.onUp(e));
    this.element.addEventListener("pointercancel", (e) => this.onUp(e));
    this.element.addEventListener("pointerleave", () => this.hover(null, 0, 0));
    this.element.addEventListener("wheel", (e) => this.onWheel(e), { passive: false });
    this.element.addEventListener("keydown", (e) => this.onKey(e));
    new ResizeObserver(() => this.resize()).observe(this.element);
  }

  // ---- what is shown

  setContent(content: PlaneContent): void {
    this.content = content;
    this.fast?.setPlaces(content.xy);
    this.lasso = null; // its corners are places of the plane before
    this.isLassoByKeys = false;
    this.tint();
    this.repaint();
  }

  /** The frame that holds everything; the view goes there. */
  setFrame(frame: Frame): void {
    this.whole = frame;
    this.reset();
  }

  setHand(x: number, y: number): void {
    this.hand = [x, y];
    this.request("front");
  }

  setEllipses(ellipses: Ellipse[]): void {
    this.ellipses = ellipses;
    this.request("front");
  }

  setTrail(trail: [number, number][]): void {
    this.trail = trail;
    this.request("front");
  }

  setMarkers(markers: Marker[]): void {
    this.markers = markers;
    this.request("front");
  }

  /** Draws as crosses, x, y, x, y, ...; null for none. */
  setDraws(xy: Float32Array | null): void {
    this.draws = xy;
    this.request("front");
  }

  /** Show only points of one class strongly; null for all. */
  highlight(label: number | null): void {
    this.highlighted = label;
    this.tint();
    this.repaint();
  }

  clearLasso(): void {
    this.isLassoByKeys = false;
    this.choose(null);
    this.handlers.onLasso?.(null);
  }

  /** Show some points strongly; null for all. A lasso that did not choose them is removed. */
  choose(points: readonly number[] | null): void {
    if (points === null || points !== this.inLasso) this.lasso = null;
    this.chosen = points === null ? null : new Set(points);
    this.tint();
    this.repaint();
  }

  repaint(): void {
    this.request("back");
    this.request("front");
  }

  /** After a change of colours. */
  recolour(): void {
    this.tint();
    this.repaint();
  }

  reset(): void {
    const { x0, x1, y0, y1 } = this.whole;
    this.center = [(x0 + x1) / 2, (y0 + y1) / 2];
    const { width, height } = this.size;
    if (width > 0) this.scale = Math.min(width / (x1 - x0), height / (y1 - y0));
    this.repaint();
  }

  zoom(factor: number, x = this.size.width / 2, y = this.size.height / 2): void {
    const before = this.toWorld(x, y);
    this.scale = Math.max(1e-3, Math.min(1e6, this.scale * factor));
    const after = this.toWorld(x, y);
    this.center = [this.center[0] + before[0] - after[0], this.center[1] + before[1] - after[1]];
    this.moveView();
  }

  /** Paint the view where it is now, and once more with all points when it rests. */
  private moveView(): void {
    clearTimeout(this.moving);
    this.moving = window.setTimeout(() => {
      this.moving = 0;
      if (this.fast instanceof PointsRaster) this.request("back");
    }, REST_MS);
    this.repaint();
  }

  /** The data point nearest to coordinates, within some pixels. */
  nearest(x: number, y: number, reach = Infinity): number | null {
    if (this.content === null) return null;
    const [point] = indexOf(this.content.xy).nearest(x, y, 1, reach / this.scale);
    return point ?? null;
  }

  // ---- coordinates

  toPixels(x: number, y: number): [number, number] {
    const { width, height } = this.size;
    return [
      (x - this.center[0]) * this.scale + width / 2,
      height / 2 - (y - this.center[1]) * this.scale,
    ];
  }

  toWorld(px: number, py: number): [number, number] {
    const { width, height } = this.size;
    return [
      this.center[0] + (px - width / 2) / this.scale,
      this.center[1] - (py - height / 2) / this.scale,
    ];
  }

  // ---- pointer and keys

  private at(event: MouseEvent): [number, number] {
    const box = this.element.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  private onDown(event: PointerEvent): void {
    if (event.pointerType === "mouse" && event.button > 1) return;
    this.element.setPointerCapture(event.pointerId);
    this.hover(null, 0, 0);
    const [x, y] = this.at(event);
    this.pointers.set(event.pointerId, [x, y]);
    if (this.pointers.size > 1) {
      this.press = null;
      return;
    }
    const isPan = event.shiftKey || event.button === 1;
    const kind = isPan ? "pan" : this.mode.value;
    this.press = { x, y, moved: false, kind };
    this.isLassoByKeys = false;
    if (kind === "lasso") this.lasso = [this.toWorld(x, y)];
  }

  private onMove(event: PointerEvent): void {
    const before = this.pointers.get(event.pointerId);
    const [x, y] = this.at(event);
    if (before === undefined) {
      const isOver = event.pointerType === "mouse" && this.layers.points && this.handlers.onHover;
      if (isOver) this.hover(this.nearest(...this.toWorld(x, y), HIT), x, y);
      return;
    }
    if (this.pointers.size === 2) this.pinch(event.pointerId, before, [x, y]);
    this.pointers.set(event.pointerId, [x, y]);
    const { press } = this;
    if (press === null) return;
    press.moved ||= Math.hypot(x - press.x, y - press.y) > CLICK;
    if (!press.moved) return;
    if (press.kind === "pan") this.pan(x - before[0], y - before[1]);
    else if (press.kind === "lasso") {
      this.lasso?.push(this.toWorld(x, y));
      this.request("front");
    } else this.moveHand(...this.toWorld(x, y));
  }

  private hover(point: number | null, x: number, y: number): void {
    if (point === this.hovered) return;
    this.hovered = point;
    this.element.classList.toggle("over-point", point !== null);
    this.handlers.onHover?.(point, x, y);
  }

  private onUp(event: PointerEvent): void {
    this.pointers.delete(event.pointerId);
    const { press } = this;
    this.press = null;
    if (press === null) return;
    if (press.kind === "lasso") this.endLasso(press.moved);
    if (press.moved || press.kind === "pan") return;
    const [x, y] = this.toWorld(press.x, press.y);
    const point = this.layers.points ? this.nearest(x, y, HIT) : null;
    if (point !== null && this.handlers.onPick) this.handlers.onPick(point);
    else if (press.kind === "hand") this.moveHand(x, y);
  }

  private moveHand(x: number, y: number): void {
    this.setHand(x, y);
    this.handlers.onHand?.(x, y);
  }

  private pan(dx: number, dy: number): void {
    this.center = [this.center[0] - dx / this.scale, this.center[1] + dy / this.scale];
    this.moveView();
  }

  private pinch(id: number, before: [number, number], after: [number, number]): void {
    const other = [...this.pointers].find(([key]) => key !== id)![1];
    const old = Math.hypot(before[0] - other[0], before[1] - other[1]);
    const now = Math.hypot(after[0] - other[0], after[1] - other[1]);
    this.pan((after[0] - before[0]) / 2, (after[1] - before[1]) / 2);
    if (old > 0) this.zoom(now / old, (after[0] + other[0]) / 2, (after[1] + other[1]) / 2);
  }

  private onWheel(event: WheelEvent): void {
    event.preventDefault();
    this.zoom(Math.exp(-event.deltaY * 0.0015), ...this.at(event));
  }

  private onKey(event: KeyboardEvent): void {
    const step = (event.shiftKey ? 40 : 8) / this.scale;
    const arrows: Record<string, [number, number]> = {
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
      ArrowUp: [0, 1],
      ArrowDown: [0, -1],
    };
    const arrow = arrows[event.key];
    const [x, y] = this.hand ?? this.center;
    if (arrow && event.altKey) this.pan(-40 * arrow[0], 40 * arrow[1]);
    else if (arrow) this.moveByKey(x + step * arrow[0], y + step * arrow[1]);
    else if (event.key === " " && this.mode.value === "lasso") this.lassoByKey(x, y);
    else if (event.key === "+" || event.key === "=") this.zoom(1.25);
    else if (event.key === "-") this.zoom(0.8);
    else if (event.key === "0") this.reset();
    else if (event.key === "Escape") this.clearLasso();
    else if (event.key === "Enter") {
      const point = this.nearest(x, y);
      if (point !== null) this.handlers.onPick?.(point);
    } else return;
    event.preventDefault();
  }

  private moveByKey(x: number, y: number): void {
    if (this.isLassoByKeys) this.lasso?.push([x, y]);
    this.moveHand(x, y);
  }

  /** Begin a lasso at the hand, or end the one that arrow keys have drawn. */
  private lassoByKey(x: number, y: number): void {
    this.isLassoByKeys = !this.isLassoByKeys;
    if (this.isLassoByKeys) this.lasso = [[x, y]];
    else this.endLasso(this.lasso !== null && this.lasso.length > 2);
    this.request("front");
  }

  private endLasso(moved: boolean): void {
    this.isLassoByKeys = false;
    if (!moved || this.lasso === null || this.content === null) {
      this.clearLasso();
      return;
    }
    const { xy } = this.content;
    const inside: number[] = [];
    for (let i = 0; i < xy.length / 2; i++) {
      if (isInside(this.lasso, xy[2 * i], xy[2 * i + 1])) inside.push(i);
    }
    this.inLasso = inside;
    this.choose(inside);
    this.handlers.onLasso?.(inside);
  }

  // ---- painting

  private resize(): void {
    const box = this.element.getBoundingClientRect();
    const ratio = Math.min(2, devicePixelRatio || 1);
    if (box.width < 2 || box.height < 2) return;
    const isFirst = this.size.width === 0;
    this.scale *= isFirst ? 1 : box.width / this.size.width;
    this.size = { width: box.width, height: box.height, ratio };
    for (const canvas of [this.back, this.dots, this.lines, this.front]) {
      canvas.width = Math.round(box.width * ratio);
      canvas.height = Math.round(box.height * ratio);
    }
    if (isFirst) this.reset();
    this.repaint();
  }

  private request(layer: "back" | "front"): void {
    const isWaiting = this.pending.back || this.pending.front;
    this.pending[layer] = true;
    if (!isWaiting) requestAnimationFrame(() => this.paint());
  }

  /** Paint what has changed; called once a frame. */
  paint(): void {
    const { back, front } = this.pending;
    this.pending = { back: false, front: false };
    if (this.size.width === 0) return;
    if (back) {
      this.paintBack();
      this.paintPoints();
      this.paintLines();
    }
    if (back || front) this.paintFront();
  }

  private clear(canvas: HTMLCanvasElement): CanvasRenderingContext2D {
    const pen = context(canvas);
    const { ratio, width, height } = this.size;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    return pen;
  }

  private paintBack(): void {
    const pen = this.clear(this.back);
    this.paintAxes(pen);
    const { content, layers } = this;
    if (content === null) return;
    if (layers.holes && content.holes !== null) this.paintHoles(pen, content.holes);
  }

  private paintAxes(pen: CanvasRenderingContext2D): void {
    const { width, height } = this.size;
    const step = niceStep(70 / this.scale);
    const [x0, y1] = this.toWorld(0, 0);
    const [x1, y0] = this.toWorld(width, height);
    pen.font = `11px ${colour("sans")}`;
    pen.lineWidth = 1;
    const numbers: [string, number, number, boolean][] = [];
    for (const isX of [true, false]) {
      const [low, high] = isX ? [x0, x1] : [y0, y1];
      for (let k = Math.ceil(low / step); k * step <= high; k++) {
        const value = k * step;
        const [px, py] = this.toPixels(value, value);
        pen.strokeStyle = k === 0 ? colour("axis") : colour("grid");
        pen.beginPath();
        if (isX) {
          pen.moveTo(Math.round(px) + 0.5, 0);
          pen.lineTo(Math.round(px) + 0.5, height);
        } else {
          pen.moveTo(0, Math.round(py) + 0.5);
          pen.lineTo(width, Math.round(py) + 0.5);
        }
        pen.stroke();
        numbers.push([shortNumber(value, step), px, py, isX]);
      }
    }
    pen.fillStyle = colour("muted");
    for (const [text, px, py, isX] of numbers) {
      pen.textAlign = isX ? "center" : "left";
      if (isX && px > 26 && px < width - 40) pen.fillText(text, px, height - 6);
      if (!isX && py > 26 && py < height - 18) pen.fillText(text, 5, py - 3);
    }
    if (this.content === null) return;
    const [right, up] = this.content.axisLabels;
    pen.fillStyle = colour("ink");
    pen.font = `italic 14px ${colour("serif")}`;
    pen.textAlign = "right";
    pen.fillText(right, width - 7, height - 7);
    pen.textAlign = "left";
    pen.fillText(up, 6, 17);
  }

  private paintHoles(pen: CanvasRenderingContext2D, holes: { grid: Grid; mask: Uint8Array }): void {
    const { grid, mask } = holes;
    const dx = (grid.x1 - grid.x0) / grid.columns;
    const dy = (grid.y1 - grid.y0) / grid.rows;
    pen.save();
    pen.beginPath();
    for (let j = 0; j < grid.rows; j++) {
      for (let i = 0; i < grid.columns; i++) {
        if (!mask[j * grid.columns + i]) continue;
        let last = i;
        while (last + 1 < grid.columns && mask[j * grid.columns + last + 1]) last += 1;
        const [px, py] = this.toPixels(grid.x0 + i * dx, grid.y0 + (j + 1) * dy);
        pen.rect(px, py, (last + 1 - i) * dx * this.scale, dy * this.scale + 0.3);
        i = last;
      }
    }
    pen.clip();
    const { width, height } = this.size;
    pen.fillStyle = colour("hole-fill");
    pen.fillRect(0, 0, width, height);
    pen.strokeStyle = colour("hole");
    pen.lineWidth = 1;
    pen.beginPath();
    for (let at = -height; at < width; at += 7) {
      pen.moveTo(at, height);
      pen.lineTo(at + height, 0);
    }
    pen.stroke();
    pen.restore();
  }

  private alphas(): { alpha: number; size: number } {
    const n = (this.content?.xy.length ?? 0) / 2;
    const alpha = n <= 500 ? 0.9 : n <= 3000 ? 0.75 : n <= 30000 ? 0.5 : 0.3;
    const size = n <= 500 ? 5.5 : n <= 3000 ? 4.5 : n <= 30000 ? 3 : 2.2;
    return { alpha, size };
  }

  /** Colour and alpha of a point: its class, weaker where it is not among the chosen ones. */
  private isWeak(point: number): boolean {
    const label = this.content?.labels?.[point] ?? -1;
    if (this.chosen !== null && !this.chosen.has(point)) return true;
    return this.highlighted !== null && label !== this.highlighted;
  }

  private tint(): void {
    const { content } = this;
    if (content === null) return;
    const n = content.xy.length / 2;
    if (n > ROUND_POINTS && this.fast === null) {
      this.fast = (n > MANY_POINTS ? PointsGl.open(this.dots) : null) ?? new PointsRaster(this.dots);
      this.fast.setPlaces(content.xy);
    }
    if (this.fast === null) return;
    const palette = classColours(Math.max(1, content.classes.length)).map(rgb);
    const plain = rgb(colour("point"));
    const { alpha } = this.alphas();
    const rgba = new Uint8Array(4 * n);
    for (let i = 0; i < n; i++) {
      const label = content.labels?.[i] ?? -1;
      const strength = this.isWeak(i) ? 0.12 : alpha;
      const tint = label >= 0 ? palette[label] : plain;
      for (let c = 0; c < 3; c++) rgba[4 * i + c] = tint[c];
      rgba[4 * i + 3] = 255 * strength;
    }
    this.fast.setTints(rgba);
  }

  private paintPoints(): void {
    const { content, size } = this;
    if (content === null) return;
    const dot = this.alphas().size;
    if (this.fast === null) {
      this.paintPointsFlat(content, dot);
      return;
    }
    const sx = (2 * this.scale) / size.width;
    const sy = (2 * this.scale) / size.height;
    const visible = this.layers.points ? dot * size.ratio : 0;
    this.fast.paint([sx, sy], [-this.center[0] * sx, -this.center[1] * sy], visible, this.moving !== 0);
  }

  private paintPointsFlat(content: PlaneContent, dot: number): void {
    const pen = this.clear(this.dots);
    if (!this.layers.points) return;
    const palette = classColours(Math.max(1, content.classes.length));
    const n = content.xy.length / 2;
    for (let label = -1; label < Math.max(1, content.classes.length); label++) {
      for (const weak of [true, false]) {
        pen.fillStyle = label < 0 ? colour("point") : palette[label];
        pen.globalAlpha = weak ? 0.12 : this.alphas().alpha;
        for (let i = 0; i < n; i++) {
          if ((content.labels?.[i] ?? -1) !== label || this.isWeak(i) !== weak) continue;
          const [px, py] = this.toPixels(content.xy[2 * i], content.xy[2 * i + 1]);
          pen.beginPath();
          pen.arc(px, py, dot / 2 + 0.3, 0, 7);
          pen.fill();
        }
      }
    }
    pen.globalAlpha = 1;
  }

  /** What is over the points and stays where it is while z moves. */
  private paintLines(): void {
    const pen = this.clear(this.lines);
    this.paintContours(pen);
    if (this.layers.names) this.paintNames(pen);
  }

  private paintFront(): void {
    const pen = this.clear(this.front);
    this.paintDraws(pen);
    this.paintTrail(pen);
    this.ellipses.forEach((ellipse) => this.paintEllipse(pen, ellipse));
    this.paintMarkers(pen);
    if (this.lasso !== null) this.paintLasso(pen, this.lasso);
    if (this.hand !== null) this.paintHand(pen, this.hand);
  }

  /** Contours of p(z), over the points. */
  private paintContours(pen: CanvasRenderingContext2D): void {
    if (this.content === null || !this.layers.prior) return;
    pen.strokeStyle = colour("prior");
    pen.lineWidth = 1.4;
    for (const { segments, level } of this.content.contours) {
      pen.globalAlpha = level < 0.6 ? 0.95 : level < 0.95 ? 0.75 : 0.55;
      pen.beginPath();
      for (const [x0, y0, x1, y1] of segments) {
        pen.moveTo(...this.toPixels(x0, y0));
        pen.lineTo(...this.toPixels(x1, y1));
      }
      pen.stroke();
    }
    pen.globalAlpha = 1;
  }

  private paintDraws(pen: CanvasRenderingContext2D): void {
    if (this.draws === null) return;
    pen.strokeStyle = colour("prior");
    pen.lineWidth = 1.5;
    pen.beginPath();
    for (let i = 0; i < this.draws.length; i += 2) {
      const [px, py] = this.toPixels(this.draws[i], this.draws[i + 1]);
      pen.moveTo(px - 4, py - 4);
      pen.lineTo(px + 4, py + 4);
      pen.moveTo(px - 4, py + 4);
      pen.lineTo(px + 4, py - 4);
    }
    pen.stroke();
  }

  private paintTrail(pen: CanvasRenderingContext2D): void {
    if (this.trail.length < 2) return;
    pen.strokeStyle = colour("ink");
    pen.lineWidth = 1.5;
    pen.setLineDash([5, 4]);
    pen.beginPath();
    this.trail.forEach(([x, y], k) => {
      if (k === 0) pen.moveTo(...this.toPixels(x, y));
      else pen.lineTo(...this.toPixels(x, y));
    });
    pen.stroke();
    pen.setLineDash([]);
  }

  /** Ellipses of one and two standard deviations of a normal. */
  private paintEllipse(pen: CanvasRenderingContext2D, e: Ellipse): void {
    const half = (e.xx + e.yy) / 2;
    const root = Math.hypot((e.xx - e.yy) / 2, e.xy);
    const angle = 0.5 * Math.atan2(2 * e.xy, e.xx - e.yy);
    const long = Math.sqrt(Math.max(0, half + root)) * this.scale;
    const short = Math.sqrt(Math.max(0, half - root)) * this.scale;
    const [px, py] = this.toPixels(e.x, e.y);
    for (const radius of [2, 1]) {
      pen.beginPath();
      pen.ellipse(px, py, Math.max(1, radius * long), Math.max(1, radius * short), -angle, 0, 7);
      pen.fillStyle = colour("posterior-fill");
      pen.fill();
      pen.strokeStyle = colour("posterior");
      pen.lineWidth = radius === 1 ? 1.75 : 1;
      pen.stroke();
    }
  }

  private paintMarkers(pen: CanvasRenderingContext2D): void {
    pen.font = `600 12px ${colour("sans")}`;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    for (const { x, y, text } of this.markers) {
      const [px, py] = this.toPixels(x, y);
      pen.beginPath();
      pen.arc(px, py, 9.5, 0, 7);
      pen.fillStyle = colour("panel");
      pen.fill();
      pen.strokeStyle = colour("ink");
      pen.lineWidth = 1.5;
      pen.stroke();
      pen.fillStyle = colour("ink");
      pen.fillText(text, px, py + 0.5);
    }
    pen.textBaseline = "alphabetic";
  }

  /** The name of each class at the median of its points. */
  private paintNames(pen: CanvasRenderingContext2D): void {
    const { content } = this;
    if (content === null || content.labels === null || !this.layers.points) return;
    pen.font = `700 14px ${colour("sans")}`;
    pen.textAlign = "center";
    pen.lineJoin = "round";
    const taken: Frame[] = [];
    for (const [label, [x, y]] of this.medians(content)) {
      if (this.highlighted !== null && label !== this.highlighted) continue;
      const [px, py] = this.toPixels(x, y);
      const half = pen.measureText(content.classes[label]).width / 2;
      const box = { x0: px - half, x1: px + half, y0: py - 7, y1: py + 7 };
      if (taken.some((other) => overlaps(box, other))) continue; // the legend has it
      taken.push(box);
      pen.strokeStyle = colour("panel");
      pen.lineWidth = 4;
      pen.strokeText(content.classes[label], px, py + 5);
      pen.fillStyle = classColours(content.classes.length)[label];
      pen.fillText(content.classes[label], px, py + 5);
    }
  }

  private kept: { content: PlaneContent; medians: Map<number, [number, number]> } | null = null;

  private medians(content: PlaneContent): Map<number, [number, number]> {
    if (this.kept?.content === content) return this.kept.medians;
    const groups = new Map<number, [number[], number[]]>();
    for (let i = 0; i < content.xy.length / 2; i++) {
      const label = content.labels![i];
      if (label < 0) continue;
      const group = groups.get(label) ?? [[], []];
      groups.set(label, group);
      group[0].push(content.xy[2 * i]);
      group[1].push(content.xy[2 * i + 1]);
    }
    const medians = new Map<number, [number, number]>();
    if (groups.size <= 24) {
      for (const [label, [xs, ys]] of groups) medians.set(label, [median(xs), median(ys)]);
    }
    this.kept = { content, medians };
    return medians;
  }

  private paintLasso(pen: CanvasRenderingContext2D, lasso: [number, number][]): void {
    pen.beginPath();
    lasso.forEach(([x, y]) => pen.lineTo(...this.toPixels(x, y)));
    if (this.press === null && !this.isLassoByKeys) pen.closePath();
    pen.fillStyle = colour("accent-fill");
    pen.fill();
    pen.strokeStyle = colour("accent");
    pen.lineWidth = 1.5;
    pen.stroke();
  }

  private paintHand(pen: CanvasRenderingContext2D, [x, y]: [number, number]): void {
    const [px, py] = this.toPixels(x, y);
    pen.beginPath();
    pen.arc(px, py, 8, 0, 7);
    pen.strokeStyle = colour("panel");
    pen.lineWidth = 5;
    pen.stroke();
    pen.strokeStyle = colour("accent");
    pen.lineWidth = 2.5;
    pen.stroke();
    pen.beginPath();
    pen.arc(px, py, 2.2, 0, 7);
    pen.fillStyle = colour("accent");
    pen.fill();
  }
}

function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}
