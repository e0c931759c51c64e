// The plane of a run with its axes, layers and legend, and the example decoded at z.
import type { RunContext } from "./context";
import type { PageContext } from "./context";
import type { Scope } from "../state";
import { sentence, t } from "../texts/texts";
import type { TextKey } from "../texts/texts";
import { button, checkbox, format, h, percent, segmented, select } from "../widgets/dom";
import { onceAFrame } from "../widgets/frames";
import type { ExampleView } from "../widgets/example_view";
import { exampleView, smallView } from "../widgets/example_view";
import type { Mode } from "../widgets/plane_canvas";
import { MANY_POINTS, PlaneCanvas } from "../widgets/plane_canvas";
import { classColours, painted } from "../widgets/theme";
import { componentPlane, featureName, labelOf, featurePlane, isInHole } from "./plane_data";
import type { PlaneData } from "./plane_data";
import type { Plane } from "../distributions/projection";

const MOST_AXES = 64; // features in the choice of axes

export function planePanel(page: PageContext, run: RunContext, scope: Scope): HTMLElement {
  const { model, state } = run;
  const tip = new Tip(run, () => canvas.element);
  const canvas = new PlaneCanvas({
    label: planeLabel(state.plane.value),
    onHand: (x, y) => page.moveTo(run, x, y),
    onPick: (point) => void page.followPoint(run, point),
    onHover: (point, x, y) => tip.show(point, x, y),
    onLasso: (points) => page.lasso.set(points),
  });
  canvas.element.dataset.run = model.run.role;
  const notes = h("div", { class: "notes" });
  run.planeData.watch((data) => {
    const plane = state.plane.value;
    canvas.element.setAttribute("aria-label", planeLabel(plane));
    canvas.setContent({
      xy: data.xy,
      labels: model.points.labels,
      classes: model.run.data.classes ?? [],
      contours: data.contours,
      holes: data.holes && data.prior ? { grid: data.prior, mask: data.holes.mask } : null,
      axisLabels: plane.labels,
    });
    canvas.setFrame(data.frame);
    canvas.setHand(...run.position());
    notes.replaceChildren(...noteTexts(run, data).map((text) => h("p", {}, text)));
  }, scope);
  state.z.watch(() => canvas.setHand(...run.position()), scope);
  state.input.watch((input) => {
    if (input === null) return;
    canvas.setEllipses(ellipsesOf(run, input.posterior));
  }, scope);
  run.planeData.watch(() => {
    const input = state.input.value;
    canvas.setEllipses(input === null ? [] : ellipsesOf(run, input.posterior));
  }, scope);
  run.overlay.watch(({ trail, markers, draws }) => {
    const at = (z: ArrayLike<number>): [number, number] => run.position(z);
    canvas.setTrail(trail.map(at));
    canvas.setMarkers(markers.map(({ z, text }) => ({ x: at(z)[0], y: at(z)[1], text })));
    canvas.setDraws(draws === null ? null : state.plane.value.coordinates(draws, draws.length / model.width));
  }, scope);
  page.lasso.watch((points) => canvas.choose(points), scope);
  painted.watch(() => canvas.recolour(), scope);
  return h(
    "section",
    { class: "plane-panel", "aria-label": model.run.name },
    toolbar(canvas, run),
    h("div", { class: "plane-holder" }, canvas.element, zoomButtons(canvas), tip.element),
    legend(canvas, run, scope),
    layers(canvas, run),
    notes,
  );
}

const MOST_TIP_COLUMNS = 10; // of a table; more are marks without names

/** The example under the mouse, beside it. */
class Tip {
  readonly element: HTMLElement;
  private readonly view: ExampleView;
  private readonly text = h("span", {});

  constructor(
    private readonly run: RunContext,
    private readonly plane: () => HTMLElement,
  ) {
    const { data } = run.model.run;
    const isShort = data.raw_shape.reduce((product, length) => product * length, 1) <= MOST_TIP_COLUMNS;
    const make = isShort ? exampleView : smallView;
    this.view = make(data, t("plane.point"));
    this.element = h("div", { class: "tip", hidden: true, "aria-hidden": "true" }, this.view.element, this.text);
  }

  show(point: number | null, x: number, y: number): void {
    this.element.hidden = point === null;
    if (point === null) return;
    this.text.textContent = labelOf(this.run, point);
    this.view.show(this.run.model.points.x.row(point));
    const { clientWidth, clientHeight } = this.plane();
    const { offsetWidth, offsetHeight } = this.element;
    const left = x + 14 + offsetWidth > clientWidth ? x - 14 - offsetWidth : x + 14;
    const top = Math.max(4, Math.min(clientHeight - offsetHeight - 4, y - offsetHeight / 2));
    this.element.style.setProperty("left", `${Math.max(4, left)}px`);
    this.element.style.setProperty("top", `${top}px`);
  }
}

function planeLabel(plane: Plane): string {
  return t("plane.label", { x: plane.labels[0], y: plane.labels[1] });
}

function ellipsesOf(run: RunContext, posterior: NonNullable<RunContext["state"]["input"]["value"]>["posterior"]) {
  const width = run.model.width;
  const sd = posterior.sd;
  const full = new Map<number, { start: number; width: number; factor: Float64Array }>();
  for (const { site, q } of posterior.sites) {
    if (q.factor === null) continue;
    for (let i = 0; i < site.width; i++) {
      full.set(site.start + i, { start: site.start, width: site.width, factor: q.factor });
    }
  }
  const [a, b] = run.state.plane.value.axes;
  const isPlain = run.state.plane.value.name === "features";
  if (isPlain && (Number.isNaN(sd[a]) || Number.isNaN(sd[b]))) return [];
  if (width > 512 && !isPlain) return [];
  const covariance = (i: number, j: number): number => {
    const group = full.get(i);
    if (group === undefined || group.factor !== full.get(j)?.factor) {
      return i === j && !Number.isNaN(sd[i]) ? sd[i] ** 2 : 0;
    }
    const { start, width: d, factor } = group;
    let sum = 0;
    for (let k = 0; k < d; k++) sum += factor[(i - start) * d + k] * factor[(j - start) * d + k];
    return sum;
  };
  return [run.state.plane.value.ellipse(posterior.mean, covariance)];
}

function noteTexts(run: RunContext, data: PlaneData): string[] {
  const texts: string[] = [];
  const { model } = run;
  const h = data.holes?.bandwidth.map((value) => format(value, 2)).join(" × ") ?? "";
  if (data.prior === null) {
    texts.push(t("plane.no.prior", { reason: model.run.prior.reason ?? "" }));
  } else if (!model.run.has_bound && model.run.latent.kind === "vector") {
    texts.push(t("plane.no.bound"));
  } else if (data.kernel === null) {
    texts.push(t("plane.contours"));
  } else {
    const width = data.kernel.bandwidth.map((value) => format(value, 2)).join(" × ");
    texts.push(t("plane.contours.draws", { n: data.kernel.draws, h: width }));
  }
  if (model.points.n > MANY_POINTS) texts.push(t("plane.moving", { n: model.points.n }));
  if (data.holes !== null) {
    texts.push(
      t(data.holes.share > 0 ? "holes.text" : "holes.none", {
        share: percent(data.holes.share),
        region: percent(data.holes.region),
        threshold: percent(data.holes.threshold),
        h,
      }),
    );
  }
  if (model.run.latent.shown !== null) texts.push(sentence(model.run.latent.shown));
  return texts;
}

function toolbar(canvas: PlaneCanvas, run: RunContext): HTMLElement {
  const modes: [Mode, string][] = [
    ["hand", t("plane.hand")],
    ["pan", t("plane.pan")],
    ["lasso", t("plane.lasso")],
  ];
  return h("div", { class: "toolbar" }, segmented(t("plane.mode"), modes, "hand", (mode) => canvas.mode.set(mode)), axes(run));
}

function zoomButtons(canvas: PlaneCanvas): HTMLElement {
  const icon = (text: string, key: TextKey, onclick: () => void) => {
    const element = button(text, onclick, "icon");
    element.setAttribute("aria-label", t(key));
    element.title = t(key);
    return element;
  };
  return h(
    "div",
    { class: "zoom" },
    icon("+", "plane.zoom.in", () => canvas.zoom(1.3)),
    icon("−", "plane.zoom.out", () => canvas.zoom(1 / 1.3)),
    icon("⤢", "plane.reset", () => canvas.reset()),
  );
}

/** The choice of two features, or of two principal components. */
function axes(run: RunContext): HTMLElement {
  const { model, state } = run;
  const holder = h("div", { class: "axes" });
  const features = model.run.latent.features.slice(0, MOST_AXES);
  if (features.length <= 2) return holder;
  const count = Math.min(model.run.latent.components?.shape[0] ?? 0, 8);
  const options: [string, string][] = features.map((f) => [
    `f${f.index}`,
    f.kl === null ? featureName(model, f.index) : `${featureName(model, f.index)} · ${format(f.kl)}`,
  ]);
  for (let k = 0; k < count; k++) options.push([`c${k}`, t("plane.component", { k: k + 1 })]);
  const current = state.plane.value;
  const prefix = current.name === "features" ? "f" : "c";
  const chosen = current.axes.map((axis) => `${prefix}${axis}`);
  const change = async (axis: 0 | 1, value: string) => {
    chosen[axis] = value;
    if (chosen[0][0] !== chosen[1][0]) {
      const other = value[0] === "c" ? `c${value === "c0" ? 1 : 0}` : `f${features.find((f) => `f${f.index}` !== value)!.index}`;
      chosen[1 - axis] = other;
    }
    const [x, y] = chosen.map((key) => Number(key.slice(1)));
    const plane =
      chosen[0][0] === "c"
        ? await componentPlane(model, [x, y], (k) => t("plane.component", { k }))
        : featurePlane(model, [x, y]);
    if (plane !== null) await run.setPlane(plane);
    render();
  };
  const render = () =>
    holder.replaceChildren(
      select(t("plane.horizontal"), options, chosen[0], (value) => void change(0, value)),
      select(t("plane.vertical"), options, chosen[1], (value) => void change(1, value)),
    );
  render();
  return holder;
}

function layers(canvas: PlaneCanvas, run: RunContext): HTMLElement {
  const toggle = (key: "points" | "prior" | "holes" | "names", text: TextKey) =>
    checkbox(t(text), canvas.layers[key], (value) => {
      canvas.layers[key] = value;
      canvas.repaint();
    });
  const hasLabels = run.model.points.labels !== null;
  const hasPrior = run.planeData.value.prior !== null;
  return h(
    "div",
    { class: "layers", role: "group", "aria-label": t("plane.layers") },
    toggle("points", "plane.points"),
    hasPrior ? toggle("prior", "plane.prior") : null,
    hasPrior ? toggle("holes", "plane.holes") : null,
    hasLabels ? toggle("names", "plane.names") : null,
  );
}

const MOST_LEGEND = 24;

function legend(canvas: PlaneCanvas, run: RunContext, scope: Scope): HTMLElement | null {
  const classes = run.model.run.data.classes;
  if (classes === null || run.model.points.labels === null || classes.length > MOST_LEGEND) return null;
  let chosen: number | null = null;
  const swatches: HTMLElement[] = [];
  const buttons = classes.map((name, label) => {
    const swatch = h("span", { class: "swatch", "aria-hidden": "true" });
    swatches.push(swatch);
    const element = h("button", { type: "button", class: "key", "aria-pressed": "false" }, swatch, name);
    element.addEventListener("click", () => {
      chosen = chosen === label ? null : label;
      buttons.forEach((b, k) => b.setAttribute("aria-pressed", String(k === chosen)));
      canvas.highlight(chosen);
    });
    return element;
  });
  painted.watch(() => {
    const colours = classColours(classes.length);
    swatches.forEach((swatch, k) => swatch.style.setProperty("background-color", colours[k]));
  }, scope);
  return h("div", { class: "legend", role: "group", "aria-label": t("legend") }, ...buttons);
}

/** Whether the run was trained without p(z), so that N(0, I) only stands in for one. */
function isWithoutPrior(model: RunContext["model"]): boolean {
  return !model.run.has_bound && model.run.latent.kind === "vector" && model.hasStandardPrior;
}

/** The example decoded at z, with what the model says of this place. */
export function decodedCard(run: RunContext, scope: Scope): HTMLElement {
  const { model, state } = run;
  const view = exampleView(model.run.data, t("at.hand"), scope);
  view.element.classList.add("decoded");
  const logPrior = h("dd", {});
  const distance = h("dd", {});
  const place = h("dd", { class: "place" });
  const warning = h("p", { class: "warning", "aria-live": "polite" });
  const failure = h("p", { class: "failure", role: "alert", hidden: true });
  const showFailure = () => {
    const mean = state.decoded.value?.mean;
    const isFinite = mean?.every(Number.isFinite) ?? true;
    const text = state.failure.value ?? (isFinite ? null : t("decoded.not.finite"));
    failure.hidden = text === null;
    failure.textContent = text ?? "";
  };
  state.decoded.watch((decoded) => {
    if (decoded === null) return;
    view.show(decoded.mean);
    showFailure();
  }, scope);
  let last = 0;
  const read = onceAFrame(() => {
    const z = state.z.value;
    const [x, y] = run.position(z);
    const labels = state.plane.value.labels;
    place.replaceChildren(
      h("span", {}, `${labels[0]} ${format(x)}`),
      h("span", {}, `${labels[1]} ${format(y)}`),
    );
    const isHole = isInHole(run.planeData.value, x, y);
    const text = isHole ? t("in.hole") : "";
    if (warning.textContent !== text) warning.textContent = text;
    last += 1;
    const turn = last;
    void model.logPrior(z, 1, state.condition.value).then((value) => {
      if (turn === last) logPrior.textContent = value === null ? "–" : format(value[0]);
    });
    distance.textContent = format(nearestCode(run, z));
  });
  state.z.watch(read, scope);
  run.planeData.watch(read, scope);
  state.failure.watch(showFailure, scope);
  return h(
    "div",
    { class: "decoded-card" },
    h("h3", {}, t("at.hand")),
    view.element,
    h(
      "dl",
      { class: "facts" },
      h("dt", {}, "z"),
      place,
      h("dt", {}, t(isWithoutPrior(model) ? "density.normal" : "density.prior")),
      logPrior,
      h("dt", {}, t("distance")),
      distance,
    ),
    warning,
    failure,
  );
}

const MOST_COMPARED = 4_000_000; // numbers in one search of the nearest code

/** Distance from z to the nearest code, over all features. */
function nearestCode(run: RunContext, z: Float64Array): number {
  const { points, width } = run.model;
  const n = Math.min(points.n, Math.floor(MOST_COMPARED / width));
  let least = Infinity;
  for (let row = 0; row < n; row++) {
    let sum = 0;
    for (let i = 0; i < width && sum < least; i++) sum += (points.z[row * width + i] - z[i]) ** 2;
    least = Math.min(least, sum);
  }
  return Math.sqrt(least);
}
