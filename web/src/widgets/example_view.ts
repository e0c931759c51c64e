// One example as it looks: an image, a curve, or the columns of a table as small multiples.
import type { Column, DataDescription } from "../data/manifest";
import { h, format } from "./dom";
import { niceStep, shortNumber } from "./geometry";
import { colour, painted } from "./theme";
import type { Scope } from "../state";
import { t } from "../texts/texts";

export type Look = "value" | "spread";

/** Shows examples in raw units. */
export interface ExampleView {
  element: HTMLElement;
  /** Raw values, and standard deviations where a spread is drawn around them. */
  show(values: ArrayLike<number>, spread?: ArrayLike<number> | null): void;
}

interface Layout {
  channels: number;
  height: number;
  width: number;
  place: (channel: number, y: number, x: number) => number;
}

/** Where the pixels of an image or a slice of a volume are in raw values. */
function layoutOf(data: DataDescription): Layout {
  const [channels, ...space] = data.shape;
  const [height, width] = space.slice(-2);
  const slice = space.length === 3 ? Math.floor(space[0] / 2) : 0;
  const start = slice * height * width;
  const size = space.reduce((product, length) => product * length, 1);
  const isLast = data.layout.endsWith("c");
  const place = (channel: number, y: number, x: number) => {
    const pixel = start + y * width + x;
    return isLast ? pixel * channels + channel : channel * size + pixel;
  };
  return { channels, height, width, place };
}

/** Paints images: one canvas pixel for each pixel of the data. */
export class ImagePainter {
  readonly width: number;
  readonly height: number;
  private readonly layout: Layout;
  private readonly pixels: ImageData;
  private readonly places: Int32Array;

  constructor(private readonly data: DataDescription) {
    this.layout = layoutOf(data);
    const { width, height, channels, place } = this.layout;
    this.width = width;
    this.height = height;
    this.pixels = new ImageData(width, height);
    this.pixels.data.fill(255);
    this.places = new Int32Array(3 * width * height);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        for (let c = 0; c < 3; c++) {
          const channel = channels >= 3 ? c : 0;
          this.places[3 * (y * width + x) + c] = place(channel, y, x);
        }
      }
    }
  }

  /** Fill the pixels with values between low and high; one that is not finite is transparent. */
  private fill(values: ArrayLike<number>, low: number, high: number): ImageData {
    const { data } = this.pixels;
    const factor = 255 / (high - low);
    for (let i = 0, to = 0; i < this.places.length; i += 3, to += 4) {
      const [red, green, blue] = [values[this.places[i]], values[this.places[i + 1]], values[this.places[i + 2]]];
      data[to] = (red - low) * factor;
      data[to + 1] = (green - low) * factor;
      data[to + 2] = (blue - low) * factor;
      data[to + 3] = Number.isFinite(red + green + blue) ? 255 : 0;
    }
    return this.pixels;
  }

  paint(canvas: HTMLCanvasElement, values: ArrayLike<number>): void {
    const [low, high] = this.data.range;
    canvas.getContext("2d")!.putImageData(this.fill(values, low, high), 0, 0);
  }

  /** Standard deviations: white is half of the range. */
  paintSpread(canvas: HTMLCanvasElement, spread: ArrayLike<number>): void {
    const [low, high] = this.data.range;
    canvas.getContext("2d")!.putImageData(this.fill(spread, 0, (high - low) / 2), 0, 0);
  }
}

class ImageView implements ExampleView {
  readonly element: HTMLElement;
  private readonly canvas: HTMLCanvasElement;
  private readonly painter: ImagePainter;

  constructor(data: DataDescription, label: string, private readonly look: Look) {
    this.painter = new ImagePainter(data);
    const { width, height } = this.painter;
    this.canvas = h("canvas", { width, height, role: "img", "aria-label": label, class: "pixels" });
    this.element = h("div", { class: "example image" }, this.canvas);
    this.element.style.setProperty("--aspect", `${width} / ${height}`);
  }

  show(values: ArrayLike<number>): void {
    if (this.look === "spread") this.painter.paintSpread(this.canvas, values);
    else this.painter.paint(this.canvas, values);
  }
}

/** Curves: signals, and vectors with many places. */
class CurveView implements ExampleView {
  readonly element: HTMLElement;
  private readonly canvas: HTMLCanvasElement;
  private last: [ArrayLike<number>, ArrayLike<number> | null] | null = null;

  constructor(private readonly data: DataDescription, label: string, scope: Scope | null) {
    this.canvas = h("canvas", { role: "img", "aria-label": label });
    this.element = h("div", { class: "example curve" }, this.canvas);
    new ResizeObserver(() => this.paint()).observe(this.element);
    if (scope !== null) painted.watch(() => this.paint(), scope);
  }

  show(values: ArrayLike<number>, spread: ArrayLike<number> | null = null): void {
    this.last = [values, spread];
    this.paint();
  }

  /** Lines at round values, with their numbers. */
  private paintScale(pen: CanvasRenderingContext2D, width: number, y: (value: number) => number): void {
    const [low, high] = this.data.range;
    const step = niceStep((high - low) / 3);
    pen.font = `10px ${colour("sans")}`;
    pen.textAlign = "right";
    pen.lineWidth = 1;
    for (let k = Math.ceil(low / step); k * step <= high; k++) {
      const py = Math.round(y(k * step)) + 0.5;
      pen.strokeStyle = k === 0 ? colour("axis") : colour("grid");
      pen.beginPath();
      pen.moveTo(0, py);
      pen.lineTo(width, py);
      pen.stroke();
      pen.fillStyle = colour("muted");
      pen.fillText(shortNumber(k * step, step), width - 3, py - 3);
    }
  }

  private paint(): void {
    const box = this.element.getBoundingClientRect();
    if (this.last === null || box.width < 2) return;
    const ratio = Math.min(2, devicePixelRatio || 1);
    this.canvas.width = Math.round(box.width * ratio);
    this.canvas.height = Math.round(box.height * ratio);
    const pen = this.canvas.getContext("2d")!;
    pen.scale(ratio, ratio);
    const [values, spread] = this.last;
    const channels = this.data.kind === "signal" ? this.data.shape[0] : 1;
    const length = values.length / channels;
    const isLast = this.data.layout.endsWith("c");
    const { ranges, standardised } = this.data;
    const rangeAt = (group: number) => (standardised ? ranges?.[group] : null) ?? this.data.range;
    const y = (value: number, [low, high]: readonly [number, number]) =>
      box.height - 4 - ((value - low) / (high - low || 1)) * (box.height - 8);
    if (!standardised && box.height >= SCALED_HEIGHT) this.paintScale(pen, box.width, (value) => y(value, this.data.range));
    const x = (i: number) => 2 + (i / Math.max(1, length - 1)) * (box.width - 4);
    const tints = [colour("likelihood"), colour("accent"), colour("posterior"), colour("prior")];
    for (let channel = 0; channel < channels; channel++) {
      const at = (i: number) => (isLast ? i * channels + channel : channel * length + i);
      const py = (i: number, value: number) => y(value, rangeAt(channels === 1 && ranges?.length === length ? i : channel));
      pen.strokeStyle = tints[channel % tints.length];
      pen.fillStyle = tints[channel % tints.length];
      if (spread !== null) {
        pen.globalAlpha = 0.2;
        pen.beginPath();
        for (let i = 0; i < length; i++) pen.lineTo(x(i), py(i, values[at(i)] + 2 * spread[at(i)]));
        for (let i = length - 1; i >= 0; i--) pen.lineTo(x(i), py(i, values[at(i)] - 2 * spread[at(i)]));
        pen.fill();
        pen.globalAlpha = 1;
      }
      pen.lineWidth = 1.5;
      pen.beginPath();
      for (let i = 0; i < length; i++) pen.lineTo(x(i), py(i, values[at(i)]));
      pen.stroke();
    }
  }
}

const SCALED_HEIGHT = 100; // pixels, from which a curve has numbers at its scale

interface FieldRow {
  marker: HTMLElement;
  band: HTMLElement;
  text: HTMLElement;
  low: number;
  high: number;
  column: Column | null;
}

/** The text of a value of a column. */
export function valueText(column: Column | null, value: number): string {
  if (Number.isNaN(value)) return t("value.missing");
  if (column === null) return format(value);
  if (column.values.length > 0) return String(column.values[Math.round(value)] ?? value);
  if (column.time) return new Date(value * 1000).toISOString().slice(0, 16).replace("T", " ");
  if (column.whole) return format(value, 0);
  const size = Math.abs(column.sd ?? 1);
  return format(value, size >= 100 ? 0 : size >= 1 ? 1 : size >= 0.1 ? 2 : 3);
}

const COMPACT_COLUMNS = 16; // of a table in a strip

/** Columns as small multiples: name, a line over the usual range with a mark, value. */
class ColumnsView implements ExampleView {
  readonly element: HTMLElement;
  private readonly rows: FieldRow[];

  constructor(data: DataDescription, label: string, private readonly isCompact = false) {
    const kind = isCompact ? "example columns compact" : "example columns";
    this.element = h("div", { class: kind, role: "group", "aria-label": label });
    const all = data.raw_shape.reduce((product, length) => product * length, 1);
    const count = isCompact ? Math.min(all, COMPACT_COLUMNS) : all;
    this.rows = Array.from({ length: count }, (_, i) => this.row(data, data.columns[i] ?? null, i));
  }

  private row(data: DataDescription, column: Column | null, i: number): FieldRow {
    const marker = h("span", { class: "mark" });
    const band = h("span", { class: "band" });
    const text = h("span", { class: "value" });
    const name = column?.name ?? `x${i + 1}`;
    const track = h("span", { class: "track", "aria-hidden": "true" }, band, marker);
    const label = h("span", { class: "name", title: name }, name);
    this.element.append(this.isCompact ? track : h("div", { class: "column" }, label, track, text));
    let [low, high] = data.ranges?.[i] ?? data.range;
    if (column !== null && column.values.length > 0) [low, high] = [0, column.values.length - 1];
    else if (column?.mean !== undefined && column.sd !== undefined) {
      [low, high] = [column.mean - 3 * column.sd, column.mean + 3 * column.sd];
    }
    return { marker, band, text, low, high, column };
  }

  show(values: ArrayLike<number>, spread: ArrayLike<number> | null = null): void {
    this.rows.forEach((row, i) => {
      const share = (value: number) =>
        Math.max(0, Math.min(1, (value - row.low) / (row.high - row.low || 1)));
      row.text.textContent = valueText(row.column, values[i]);
      row.marker.style.setProperty("--at", String(share(values[i])));
      row.marker.hidden = Number.isNaN(values[i]);
      const sd = spread?.[i] ?? NaN;
      row.band.hidden = Number.isNaN(sd);
      row.band.style.setProperty("--from", String(share(values[i] - 2 * sd)));
      row.band.style.setProperty("--to", String(share(values[i] + 2 * sd)));
    });
    if (this.isCompact) {
      const texts = this.rows.map((row, i) => `${row.column?.name ?? `x${i + 1}`} ${valueText(row.column, values[i])}`);
      this.element.title = texts.join("\n");
      this.element.setAttribute("aria-label", texts.join(", "));
    }
  }
}

/** Whether examples are images (or slices of volumes). */
export function isImage(data: DataDescription): boolean {
  return data.kind === "image" || data.kind === "volume";
}

const MOST_COLUMNS = 40; // vectors with more places are curves

/** A small view for strips: of columns their marks alone, with the values as a title. */
export function smallView(data: DataDescription, label: string): ExampleView {
  const view = exampleView(data, label);
  return view instanceof ColumnsView ? new ColumnsView(data, label, true) : view;
}

/** A view of examples of a run. */
export function exampleView(
  data: DataDescription,
  label: string,
  scope: Scope | null = null,
  look: Look = "value",
): ExampleView {
  if (isImage(data)) return new ImageView(data, label, look);
  const isLong = data.kind === "vector" && data.shape[0] > MOST_COLUMNS;
  if (data.kind === "signal" || isLong) return new CurveView(data, label, scope);
  return new ColumnsView(data, label);
}
