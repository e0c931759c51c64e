// Points painted pixel by pixel, where there is no graphics processor: fast for 100,000 of them.
import { Random } from "../distributions/random";

const MOVING_MS = 4; // for the points of a frame while the view moves
const LEAST_MOVING = 8_000; // points of such a frame

/** How many of n points are painted while the view moves, where a point takes so many ms. */
export function countWhileMoving(n: number, msPerPoint: number): number {
  if (!(msPerPoint > 0)) return n;
  return Math.min(n, Math.max(LEAST_MOVING, Math.floor(MOVING_MS / msPerPoint)));
}

/** The numbers below n in a random order, the same one each time. */
export function randomOrder(n: number): Uint32Array {
  const order = Uint32Array.from({ length: n }, (_, i) => i);
  const random = new Random(n);
  for (let i = n - 1; i > 0; i--) {
    const other = random.below(i + 1);
    [order[i], order[other]] = [order[other], order[i]];
  }
  return order;
}

/** Paints many points on a canvas. */
export interface PointsLayer {
  /** Coordinates x, y, x, y, ... of n points. */
  setPlaces(xy: Float32Array): void;
  /** Red, green, blue, alpha of 0..255 of n points. */
  setTints(rgba: Uint8Array): void;
  /** Paint: clip = place * scale + offset; size in pixels of the canvas. */
  paint(scale: [number, number], offset: [number, number], size: number, isMoving: boolean): void;
}

export class PointsRaster implements PointsLayer {
  private image: ImageData | null = null;
  /** Points in a random order: the first ones of them are a fair part of all. */
  private order: Uint32Array = new Uint32Array();
  private places: Float32Array = new Float32Array();
  private tints: Uint32Array = new Uint32Array();
  private msPerPoint = 0; // of the last time when all were painted

  constructor(private readonly canvas: HTMLCanvasElement) {}

  setPlaces(xy: Float32Array): void {
    const n = xy.length / 2;
    if (this.order.length !== n) this.order = randomOrder(n);
    this.places = new Float32Array(2 * n);
    this.order.forEach((point, i) => {
      this.places[2 * i] = xy[2 * point];
      this.places[2 * i + 1] = xy[2 * point + 1];
    });
  }

  setTints(rgba: Uint8Array): void {
    const tints = new Uint32Array(rgba.buffer);
    this.tints = Uint32Array.from(this.order, (point) => tints[point]);
  }

  private cleared(pen: CanvasRenderingContext2D): ImageData {
    const { width, height } = this.canvas;
    if (this.image === null || this.image.width !== width || this.image.height !== height) {
      this.image = pen.createImageData(width, height);
    } else this.image.data.fill(0);
    return this.image;
  }

  /**
   * Paint as `PointsGl` does; while the view moves, as many points as fit into a frame, and all
   * of them when it rests.
   */
  paint(scale: [number, number], offset: [number, number], size: number, isMoving: boolean): void {
    const pen = this.canvas.getContext("2d")!;
    const image = this.cleared(pen);
    const n = this.tints.length;
    const count = isMoving ? countWhileMoving(n, this.msPerPoint) : n;
    if (size > 0 && n > 0) {
      const start = performance.now();
      this.fill(image, scale, offset, Math.max(1, Math.round(size)), count);
      if (count === n) this.msPerPoint = (performance.now() - start) / n;
    }
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.putImageData(image, 0, 0);
  }

  private fill(
    image: ImageData,
    scale: [number, number],
    offset: [number, number],
    size: number,
    count: number,
  ): void {
    const { width, height } = image;
    const pixels = new Uint32Array(image.data.buffer);
    const { places, tints } = this;
    const ax = (scale[0] * width) / 2;
    const bx = ((offset[0] + 1) * width - size) / 2 + 0.5;
    const ay = (-scale[1] * height) / 2;
    const by = ((1 - offset[1]) * height - size) / 2 + 0.5;
    for (let i = 0; i < count; i++) {
      const x = Math.floor(places[2 * i] * ax + bx);
      const y = Math.floor(places[2 * i + 1] * ay + by);
      if (!(x >= 0 && y >= 0 && x + size <= width && y + size <= height)) continue;
      for (let row = y; row < y + size; row++) {
        const start = row * width + x;
        for (let at = start; at < start + size; at++) {
          pixels[at] = pixels[at] === 0 ? tints[i] : over(tints[i], pixels[at]);
        }
      }
    }
  }
}

/** A colour over another one, as alpha, blue, green, red of 8 bits each from the top. */
function over(above: number, below: number): number {
  const alpha = above >>> 24;
  const old = below >>> 24;
  const total = alpha + (((255 - alpha) * old) >> 8);
  const share = ((alpha << 8) / total) | 0; // of 256
  const redBlue = (((above & 0xff00ff) * share + (below & 0xff00ff) * (256 - share)) >>> 8) & 0xff00ff;
  const green = (((above & 0xff00) * share + (below & 0xff00) * (256 - share)) >>> 8) & 0xff00;
  return ((total << 24) | redBlue | green) >>> 0;
}
