// Colours of the page: the choice of light or dark, colours for canvases, class colours.
import { Signal } from "../state";

export type Theme = "auto" | "light" | "dark";

export const theme = new Signal<Theme>("auto");
/** Set after each change of colours, so that canvases are painted again. */
export const painted = new Signal<number>(0);

const system = matchMedia("(prefers-color-scheme: dark)");
export const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");

export function isDark(): boolean {
  return theme.value === "dark" || (theme.value === "auto" && system.matches);
}

function apply(): void {
  document.documentElement.dataset.theme = isDark() ? "dark" : "light";
  painted.set(painted.value + 1);
}

export function startTheme(): void {
  system.addEventListener("change", apply);
  apply();
}

export function setTheme(value: Theme): void {
  theme.set(value);
  apply();
}

/** The value of a colour variable of the style sheet. */
export function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

// Tol's muted scheme with a grey, apart for all kinds of colour vision; lighter ones for dark.
const LIGHT = ["#332288", "#4a9fd0", "#0f8a72", "#117733", "#8a8a1f", "#b8860b", "#cc6677", "#882255", "#aa4499", "#6b6b6b"];
const DARK = ["#8f86f0", "#88ccee", "#44bba4", "#5cbf7a", "#bcbc4a", "#e3c565", "#ee8899", "#d0639a", "#d583cb", "#b5b5b5"];

/** Colours of n classes, as texts. */
export function classColours(n: number): string[] {
  const base = isDark() ? DARK : LIGHT;
  if (n <= base.length) return base.slice(0, n);
  const light = isDark() ? 68 : 42;
  return Array.from({ length: n }, (_, k) => `hsl(${(k * 137.508) % 360} 55% ${light + 9 * ((k % 3) - 1)}%)`);
}

/** Red, green, blue of 0..255 of a colour text. */
export function rgb(text: string): [number, number, number] {
  const canvas = document.createElement("canvas");
  canvas.width = 1;
  canvas.height = 1;
  const context = canvas.getContext("2d", { willReadFrequently: true })!;
  context.fillStyle = text;
  context.fillRect(0, 0, 1, 1);
  const [r, g, b] = context.getImageData(0, 0, 1, 1).data;
  return [r, g, b];
}
