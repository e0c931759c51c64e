// A pad on which an example image is drawn, in the pixels and units of the data.
import type { DataDescription } from "../data/manifest";
import { button, h } from "./dom";
import { ImagePainter } from "./example_view";
import { t } from "../texts/texts";

const FINE = 4; // strokes are painted on so many pixels a side for each pixel of the data

/** A drawing pad; `onuse` gets raw values. */
export function drawPad(data: DataDescription, onuse: (x: Float64Array) => void): HTMLElement {
  const painter = new ImagePainter(data);
  const { width, height } = painter;
  const large = h("canvas", { width: width * FINE, height: height * FINE });
  const strokes = large.getContext("2d", { willReadFrequently: true })!;
  const shown = h("canvas", {
    class: "pixels pad",
    width,
    height,
    tabindex: 0,
    role: "application",
    "aria-label": `${t("input.pad", { w: width, h: height })}. ${t("input.pad.keys")}`,
  });
  const pen = { x: width / 2, y: height / 2 };
  let isDown = false;

  const values = (): Float64Array => {
    const pixels = strokes.getImageData(0, 0, width * FINE, height * FINE).data;
    return rawOf(data, (y, x) => boxMean(pixels, width * FINE, x * FINE, y * FINE, FINE, FINE));
  };
  const show = () => painter.paint(shown, values());
  const clear = () => {
    strokes.fillStyle = "#000";
    strokes.fillRect(0, 0, large.width, large.height);
    show();
  };
  const stroke = (x: number, y: number) => {
    strokes.strokeStyle = "#fff";
    strokes.lineWidth = FINE * Math.max(1.6, Math.min(width, height) / 9);
    strokes.lineCap = "round";
    strokes.beginPath();
    strokes.moveTo(pen.x * FINE, pen.y * FINE);
    strokes.lineTo(x * FINE + 0.01, y * FINE);
    strokes.stroke();
    show();
  };
  const at = (event: PointerEvent): [number, number] => {
    const box = shown.getBoundingClientRect();
    return [
      ((event.clientX - box.left) / box.width) * width,
      ((event.clientY - box.top) / box.height) * height,
    ];
  };
  shown.addEventListener("pointerdown", (event) => {
    shown.setPointerCapture(event.pointerId);
    isDown = true;
    [pen.x, pen.y] = at(event);
    stroke(pen.x, pen.y);
  });
  shown.addEventListener("pointermove", (event) => {
    if (!isDown) return;
    const [x, y] = at(event);
    stroke(x, y);
    [pen.x, pen.y] = [x, y];
  });
  const end = () => {
    if (isDown) onuse(values());
    isDown = false;
  };
  shown.addEventListener("pointerup", end);
  shown.addEventListener("pointercancel", end);
  shown.addEventListener("keydown", (event) => {
    const moves: Record<string, [number, number]> = {
      ArrowLeft: [-0.5, 0],
      ArrowRight: [0.5, 0],
      ArrowUp: [0, -0.5],
      ArrowDown: [0, 0.5],
    };
    if (event.key === " ") isDown = !isDown;
    else if (event.key === "Enter") onuse(values());
    else if (moves[event.key]) {
      const x = Math.max(0, Math.min(width, pen.x + moves[event.key][0]));
      const y = Math.max(0, Math.min(height, pen.y + moves[event.key][1]));
      if (isDown) stroke(x, y);
      [pen.x, pen.y] = [x, y];
    } else return;
    event.preventDefault();
  });
  clear();
  return h(
    "div",
    { class: "drawing" },
    shown,
    h(
      "div",
      { class: "row" },
      button(t("input.pad.clear"), clear, "quiet"),
      button(t("input.pad.use"), () => onuse(values())),
    ),
  );
}

/** The mean of red, green and blue of a box of pixels, each of 0..1. */
function boxMean(
  pixels: Uint8ClampedArray,
  stride: number,
  x0: number,
  y0: number,
  width: number,
  height: number,
): [number, number, number] {
  const sum = [0, 0, 0];
  for (let y = y0; y < y0 + height; y++) {
    for (let x = x0; x < x0 + width; x++) {
      for (let c = 0; c < 3; c++) sum[c] += pixels[4 * (y * stride + x) + c];
    }
  }
  const factor = 1 / (255 * width * height);
  return [sum[0] * factor, sum[1] * factor, sum[2] * factor];
}

/** Raw values of an image from red, green and blue of 0..1 of each pixel. */
export function rawOf(
  data: DataDescription,
  pixel: (y: number, x: number) => [number, number, number],
): Float64Array {
  const [channels, height, width] = data.shape;
  const [low, high] = data.range;
  const isWhole = data.domain === "levels" || data.domain === "binary" || data.domain === "categorical";
  const out = new Float64Array(channels * height * width);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [r, g, b] = pixel(y, x);
      const tints = channels >= 3 ? [r, g, b] : [0.299 * r + 0.587 * g + 0.114 * b];
      for (let c = 0; c < channels; c++) {
        const value = low + (tints[c] ?? 1) * (high - low);
        const at = y * width + x;
        const place = data.layout.endsWith("c") ? at * channels + c : c * height * width + at;
        out[place] = isWhole ? Math.round(value) : value;
      }
    }
  }
  return out;
}

const MOST_PIXELS = 40_000_000;

/** The number of pixels of an image file, by its header: nothing is decoded yet. */
async function pixelsOf(file: Blob): Promise<number> {
  const address = URL.createObjectURL(file);
  const image = new Image();
  try {
    await new Promise((done, fail) => {
      image.onload = done;
      image.onerror = fail;
      image.src = address;
    });
    return image.naturalWidth * image.naturalHeight;
  } finally {
    URL.revokeObjectURL(address);
  }
}

/** The pixels of an image file; raises an error with a sentence where it is none, or too large. */
async function bitmapOf(file: Blob): Promise<ImageBitmap> {
  const refuse = (): never => {
    throw new Error(t("input.no.image"));
  };
  const n = await pixelsOf(file).catch(refuse);
  if (n > MOST_PIXELS) throw new Error(t("input.too.large", { n, most: MOST_PIXELS }));
  return createImageBitmap(file).catch(refuse);
}

/** Raw values of an image file, scaled to the size of the data. */
export async function rawOfFile(data: DataDescription, file: Blob): Promise<Float64Array> {
  const image = await bitmapOf(file);
  const [, height, width] = data.shape;
  const canvas = h("canvas", { width, height });
  const pen = canvas.getContext("2d", { willReadFrequently: true })!;
  pen.imageSmoothingEnabled = image.width !== width || image.height !== height;
  pen.imageSmoothingQuality = "high";
  pen.drawImage(image, 0, 0, width, height);
  const pixels = pen.getImageData(0, 0, width, height).data;
  return rawOf(data, (y, x) => boxMean(pixels, width, x, y, 1, 1));
}
