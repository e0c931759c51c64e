// Points painted pixel by pixel, where there is no graphics processor: fast for 100,000 of them.

export class PointsRaster {
  private image: ImageData | null = null;
  private places: Float32Array = new Float32Array();
  private tints: Uint8Array = new Uint8Array();

  constructor(private readonly canvas: HTMLCanvasElement) {}

  /** Coordinates x, y, x, y, ... of n points. */
  setPlaces(xy: Float32Array): void {
    this.places = xy;
  }

  /** Red, green, blue, alpha of 0..255 of n points. */
  setTints(rgba: Uint8Array): void {
    this.tints = rgba;
  }

  private cleared(pen: CanvasRenderingContext2D): ImageData {
    const { width, height } = this.canvas;
    if (this.image === null || this.image.width !== width || this.image.height !== height) {
      this.image = pen.createImageData(width, height);
    } else this.image.data.fill(0);
    return this.image;
  }

  /** Paint: clip = place * scale + offset, as `PointsGl` does; size in pixels of the canvas. */
  paint(scale: [number, number], offset: [number, number], size: number): void {
    const pen = this.canvas.getContext("2d")!;
    const image = this.cleared(pen);
    if (size > 0) this.fill(image, scale, offset, Math.max(1, Math.round(size)));
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.putImageData(image, 0, 0);
  }

  private fill(
    image: ImageData,
    scale: [number, number],
    offset: [number, number],
    size: number,
  ): void {
    const { width, height } = image;
    const pixels = new Uint32Array(image.data.buffer);
    const tints = new Uint32Array(this.tints.buffer);
    const { places } = this;
    const ax = (scale[0] * width) / 2;
    const bx = ((offset[0] + 1) * width - size) / 2 + 0.5;
    const ay = (-scale[1] * height) / 2;
    const by = ((1 - offset[1]) * height - size) / 2 + 0.5;
    for (let i = 0; i < tints.length; i++) {
      const x = Math.floor(places[2 * i] * ax + bx);
      const y = Math.floor(places[2 * i + 1] * ay + by);
      if (x < 0 || y < 0 || x + size > width || y + size > height) continue;
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
