// Sliders of the features with traversal strips; upper groups kept; codes by place; classes.
import type { PageContext, RunContext } from "./context";
import type { Feature, Site } from "../data/manifest";
import { Random } from "../distributions/random";
import type { Scope } from "../state";
import { t } from "../texts/texts";
import { button, format, h, section, segmented, select, slider } from "../widgets/dom";
import { onceAFrame } from "../widgets/frames";
import { Strip } from "../widgets/strip";
import { columnsNote, conditionControl } from "./explore";
import { featureName, siteName } from "./plane_data";

const STEPS = 9;
const FIRST = 8;
const MOST_ENTRIES = 48; // of a codebook that are shown

export function featuresView(page: PageContext, scope: Scope): HTMLElement {
  const run = page.main;
  const { kind, sites } = run.model.run.latent;
  const isCodes = kind === "codes";
  return h(
    "div",
    { class: "view" },
    columnsNote(run),
    conditionControl(run, scope),
    ...sites.filter((site) => isClassSite(run, site)).map((site) => classControl(page, run, site, scope)),
    kind === "hierarchy" ? upperGroups(page, run, scope) : null,
    isCodes ? codeControl(page, run, scope) : sliders(page, run, scope),
  );
}

function isClassSite(run: RunContext, site: Site): boolean {
  return site.name in (run.model.run.latent.classes ?? {});
}

/** Sliders sorted by KL, each with the examples along its feature. */
function sliders(page: PageContext, run: RunContext, scope: Scope): HTMLElement {
  const features = run.model.run.latent.features;
  const hasKl = features.some((feature) => feature.kl !== null);
  const holder = h("div", { class: "sliders" });
  let count = Math.min(FIRST, features.length);
  const more = button("", () => {
    count = count < features.length ? Math.min(features.length, count + 16) : FIRST;
    fill();
  }, "quiet");
  const rows: HTMLElement[] = [];
  const fill = () => {
    while (rows.length < count) {
      const row = featureRow(page, run, features[rows.length], scope);
      rows.push(row);
      holder.append(row);
    }
    for (const row of rows.splice(count)) row.remove();
    const left = features.length - count;
    more.textContent = left > 0 ? t("features.more", { n: Math.min(16, left) }) : t("features.few");
    more.hidden = features.length <= FIRST;
  };
  fill();
  return section(page.titled(t(hasKl ? "features.sliders" : "features.activity"), run), holder, more);
}

/** The range of a slider: that of the codes, and of N(0, 1) where that is the prior. */
function rangeOf(run: RunContext, feature: Feature): [number, number] {
  const { mean, sd } = feature;
  const reach = 3 * Math.max(sd, run.model.run.prior.kind === "standard" ? 0.5 : 1e-3);
  const isStandard = run.model.run.prior.kind === "standard" && run.model.run.has_bound;
  if (isStandard) return [Math.min(-3, mean - reach), Math.max(3, mean + reach)];
  return [mean - reach, mean + reach];
}

function featureRow(page: PageContext, run: RunContext, feature: Feature, scope: Scope): HTMLElement {
  const { model, state } = run;
  const name = featureName(model, feature.index);
  const [low, high] = rangeOf(run, feature);
  const control = slider({
    label: name,
    min: low,
    max: high,
    step: (high - low) / 240,
    value: state.z.value[feature.index],
    format: (value) => format(value),
    oninput: (value) => {
      const z = state.z.value.slice();
      z[feature.index] = value;
      page.move(run, z);
    },
  });
  const label = t("features.strip", { name, a: format(low, 1), b: format(high, 1) });
  const strip = new Strip(model.run.data, label, "traversal");
  let last: Float64Array | null = null;
  let turn = 0;
  const update = onceAFrame(() => {
    const z = state.z.value;
    const isSame = last !== null && z.every((value, i) => i === feature.index || value === last![i]);
    if (isSame && strip.element.childElementCount > 0) return;
    last = z;
    turn += 1;
    void traverse(page, run, feature, [low, high], strip, turn, () => turn);
  });
  state.z.watch((z) => {
    control.set(z[feature.index]);
    if (isNear(strip.element)) update();
  }, scope);
  state.condition.watch(() => {
    last = null;
    update();
  }, scope);
  const observer = new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) update();
  });
  observer.observe(strip.element);
  scope.add(() => observer.disconnect());
  const kl = feature.kl === null ? "" : t("features.kl", { kl: format(feature.kl) });
  const note = feature.active ? kl : `${kl} ${t("features.inactive")}`.trim();
  return h("div", { class: "feature-row" }, control.element, h("span", { class: "kl" }, note), strip.element);
}

function isNear(element: HTMLElement): boolean {
  const box = element.getBoundingClientRect();
  return box.bottom > -50 && box.top < innerHeight + 50;
}

async function traverse(
  page: PageContext,
  run: RunContext,
  feature: Feature,
  [low, high]: [number, number],
  strip: Strip,
  turn: number,
  newest: () => number,
): Promise<void> {
  const { model, state } = run;
  const z = new Float64Array(STEPS * model.width);
  for (let k = 0; k < STEPS; k++) {
    z.set(state.z.value, k * model.width);
    z[k * model.width + feature.index] = low + (k / (STEPS - 1)) * (high - low);
  }
  const means = await model.means(z, STEPS, state.condition.value);
  if (turn !== newest()) return;
  const size = means.length / STEPS;
  strip.show(
    Array.from({ length: STEPS }, (_, k) => ({
      values: means.slice(k * size, (k + 1) * size),
      label: `${featureName(model, feature.index)} ${format(z[k * model.width + feature.index], 1)}`,
      onclick: () => page.move(run, z.slice(k * model.width, (k + 1) * model.width)),
    })),
  );
}

/** Of a hierarchy: keep the upper sites of a draw and draw the rest again. */
function upperGroups(page: PageContext, run: RunContext, scope: Scope): HTMLElement {
  const { model, state } = run;
  const order = model.run.latent.order ?? model.run.export.sites;
  const strip = new Strip(model.run.data, t("features.upper"), "small");
  const count = 12;
  let keep = Math.max(1, Math.floor(order.length / 2));
  let seed = 3;
  const draw = async () => {
    const condition = state.condition.value;
    const first = model.noise("prior_sample", 1, new Random(7), 1);
    const noise = model.noise("prior_sample", count, new Random(seed), 1);
    for (const name of order.slice(0, keep)) {
      const key = `noise.${name}`;
      if (!(key in noise)) continue;
      const size = noise[key].length / count;
      for (let i = 0; i < count; i++) noise[key].set(first[key], i * size);
    }
    const z = await model.fromNoise(noise, count, condition);
    if (z === null) return;
    const means = await model.means(z, count, condition);
    const size = means.length / count;
    strip.show(
      Array.from({ length: count }, (_, i) => ({
        values: means.subarray(i * size, (i + 1) * size),
        label: `${t("draws")} ${i + 1}`,
        onclick: () => page.move(run, Float64Array.from(z.subarray(i * model.width, (i + 1) * model.width))),
      })),
    );
  };
  if (!model.has("prior_sample")) return section(t("features.upper"), h("p", {}, t("draw.none", { reason: model.run.export.left_out?.prior_sample ?? "" })));
  const options = Array.from({ length: order.length }, (_, k): [string, string] => [
    String(k),
    k === 0 ? t("features.keep.none") : t("features.keep.to", { name: siteName(order[k - 1]) }),
  ]);
  state.condition.watch(() => void draw(), scope);
  return section(
    t("features.upper"),
    h(
      "div",
      { class: "row" },
      select(t("features.keep"), options, String(keep), (value) => {
        keep = Number(value);
        void draw();
      }),
      button(t("features.resample"), () => {
        seed += 1;
        void draw();
      }),
    ),
    strip.element,
  );
}

/** A class site of a semi-supervised model: one-hot. */
function classControl(page: PageContext, run: RunContext, site: Site, scope: Scope): HTMLElement {
  const { state } = run;
  const names = run.model.run.export.spec.labels ?? Array.from({ length: site.width }, (_, k) => String(k));
  const holder = h("div");
  const render = () => {
    const hot = state.z.value.subarray(site.start, site.start + site.width);
    const chosen = hot.indexOf(Math.max(...hot));
    const options = names.map((name, k): [string, string] => [String(k), name]);
    holder.replaceChildren(
      segmented(t("features.classes"), options, String(chosen), (k) => {
        const z = state.z.value.slice();
        z.fill(0, site.start, site.start + site.width);
        z[site.start + Number(k)] = 1;
        page.move(run, z);
      }),
    );
  };
  state.input.watch(render, scope);
  return section(t("features.classes"), holder);
}

/** The codes of a model of codes: a place, then one of its entries. */
function codeControl(page: PageContext, run: RunContext, scope: Scope): HTMLElement {
  const { model, state } = run;
  const [site] = model.run.latent.sites;
  const places = site.codes ?? 1;
  const entries = site.entries ?? 1;
  const side = Math.round(Math.sqrt(places));
  const columns = side * side === places ? side : Math.min(places, 8);
  const grid = h("div", { class: "code-grid", role: "group", "aria-label": t("features.codes") });
  grid.style.setProperty("--columns", String(columns));
  const strip = new Strip(model.run.data, t("features.code.entry"), "small");
  let chosen = 0;
  let index: Int32Array = new Int32Array(places);
  let vectors: Float32Array | null = null;
  const cells = Array.from({ length: places }, (_, place) => {
    const cell = button("", () => {
      chosen = place;
      render();
      void showEntries();
    }, "code");
    grid.append(cell);
    return cell;
  });
  const width = site.width / places;
  const render = () =>
    cells.forEach((cell, place) => {
      cell.textContent = String(index[place]);
      cell.setAttribute("aria-pressed", String(place === chosen));
      cell.setAttribute("aria-label", `${t("features.code.place")} ${place + 1}: ${index[place]}`);
    });
  /** Entry numbers of a z by the nearest vectors. */
  const read = async (z: Float64Array) => {
    vectors ??= await allVectors();
    if (vectors === null) return;
    for (let place = 0; place < places; place++) index[place] = nearestEntry(z, vectors, place, width, site.width, entries);
    render();
  };
  const allVectors = async (): Promise<Float32Array | null> => {
    if (!model.has("codebook")) return null;
    const all = new Float64Array(entries * places);
    for (let k = 0; k < entries; k++) all.fill(k, k * places, (k + 1) * places);
    return model.codeVectors(all, entries);
  };
  const showEntries = async () => {
    const numbers = entriesByUse(run, chosen, places, entries).slice(0, MOST_ENTRIES);
    const shown = numbers.length;
    const all = new Float64Array(shown * places);
    numbers.forEach((entry, k) => {
      all.set(index, k * places);
      all[k * places + chosen] = entry;
    });
    const z = await model.codeVectors(all, shown);
    const means = await model.means(z, shown, state.condition.value);
    const size = means.length / shown;
    strip.show(
      Array.from({ length: shown }, (_, k) => ({
        values: means.subarray(k * size, (k + 1) * size),
        label: `${t("features.code.entry")} ${numbers[k]}`,
        caption: String(numbers[k]),
        onclick: () => {
          page.move(run, Float64Array.from(z.subarray(k * model.width, (k + 1) * model.width)));
        },
      })),
    );
  };
  state.z.watch((z) => void read(z), scope);
  void read(state.z.value).then(showEntries);
  return section(
    t("features.codes"),
    h("p", { class: "note" }, t("features.code.text", { k: entries })),
    grid,
    strip.element,
  );
}

/** Entries of a place by how many of the points have them there. */
function entriesByUse(run: RunContext, place: number, places: number, entries: number): number[] {
  const counts = new Int32Array(entries);
  const { codes, n } = run.model.points;
  if (codes !== null) for (let row = 0; row < n; row++) counts[codes[row * places + place]] += 1;
  return Array.from(counts.keys()).sort((a, b) => counts[b] - counts[a] || a - b);
}

function nearestEntry(
  z: Float64Array,
  vectors: Float32Array,
  place: number,
  width: number,
  stride: number,
  entries: number,
): number {
  let best = 0;
  let least = Infinity;
  for (let k = 0; k < entries; k++) {
    let sum = 0;
    for (let i = place * width; i < (place + 1) * width; i++) sum += (vectors[k * stride + i] - z[i]) ** 2;
    if (sum < least) [least, best] = [sum, k];
  }
  return best;
}
