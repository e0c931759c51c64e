// One input followed through: q over the prior, z, p(x|z), the terms of the bound.
import type { PageContext, RunContext } from "./context";
import { Random } from "../distributions/random";
import { standardDeviations } from "../distributions/spread";
import type { Decoded, Input, Scope } from "../state";
import { t } from "../texts/texts";
import { Bars, Chart, paintFeature } from "../widgets/charts";
import type { Bar } from "../widgets/charts";
import { button, format, h, section } from "../widgets/dom";
import { drawPad, rawOfFile } from "../widgets/draw_pad";
import type { ExampleView } from "../widgets/example_view";
import { exampleView, isImage } from "../widgets/example_view";
import { onceAFrame } from "../widgets/frames";
import { Strip } from "../widgets/strip";
import { featureName } from "./plane_data";

const VARIATIONS = 12;
const SHOWN_FEATURES = 12;
const ESTIMATE = 64;

export function inputView(page: PageContext, scope: Scope): HTMLElement {
  const columns = page.shown.map((run) => followed(page, run, scope));
  const rest = h("div", { class: "followed" }, ...columns);
  const empty = h("p", { class: "hint" }, t("input.none"));
  page.main.state.input.watch((input) => {
    rest.hidden = input === null;
    empty.hidden = input !== null;
  }, scope);
  return h("div", { class: "view" }, chooser(page, scope), empty, rest);
}

/** The choice of an input: a row, a file, a drawing. */
function chooser(page: PageContext, scope: Scope): HTMLElement {
  const run = page.main;
  const { model } = run;
  const message = h("p", { class: "failure", role: "alert", hidden: true });
  const attempt = async (work: () => Promise<void>) => {
    message.hidden = true;
    try {
      await work();
    } catch (error) {
      message.textContent = error instanceof Error ? error.message : String(error);
      message.hidden = false;
    }
  };
  const row = h("input", { type: "number", min: 0, max: model.points.n - 1, step: 1, value: 0 });
  const go = () => {
    const point = Math.max(0, Math.min(model.points.n - 1, Math.round(Number(row.value) || 0)));
    row.value = String(point);
    void attempt(() => page.followPoint(run, point));
  };
  row.addEventListener("change", go);
  run.state.input.watch((input) => {
    if (input !== null && input.point !== null) row.value = String(input.point);
  }, scope);
  const random = new Random(Date.now());
  const any = () => {
    row.value = String(random.below(model.points.n));
    go();
  };
  const controls = h(
    "div",
    { class: "row" },
    h("label", { class: "field" }, h("span", { class: "name" }, t("input.row")), row),
    button(t("input.random"), any),
  );
  if (model.run.data.kind !== "image") return section(t("input.choose"), controls, message);
  const use = (x: Float64Array) => void attempt(() => page.follow(x));
  return section(t("input.choose"), controls, images(run, use, attempt), message);
}

type Attempt = (work: () => Promise<void>) => Promise<void>;

function images(run: RunContext, use: (x: Float64Array) => void, attempt: Attempt): HTMLElement {
  const { data } = run.model.run;
  const read = (file: Blob | null | undefined) => {
    if (file) void attempt(async () => use(await rawOfFile(data, file)));
  };
  const file = h("input", { type: "file", accept: "image/*", class: "unseen" });
  file.addEventListener("change", () => read(file.files?.[0]));
  const zone = h(
    "div",
    { class: "drop" },
    h("p", {}, t("input.drop")),
    h("label", { class: "button" }, file, h("span", {}, t("input.file"))),
  );
  zone.addEventListener("dragover", (event) => {
    event.preventDefault();
    zone.classList.add("over");
  });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    read(event.dataTransfer?.files[0]);
  });
  const pad = h("div", { class: "pad-holder" }, h("h4", {}, t("input.draw")), drawPad(data, use));
  return h("div", { class: "sources" }, zone, pad);
}

/** Everything of one input in one run. */
function followed(page: PageContext, run: RunContext, scope: Scope): HTMLElement {
  const { model, state } = run;
  state.needsOutputs += 1;
  scope.add(() => (state.needsOutputs -= 1));
  state.refresh();
  const title = page.second === null ? null : h("h3", { class: "run-name" }, model.run.name);
  return h(
    "div",
    { class: "run" },
    title,
    pictures(run, scope),
    termsSection(run, scope),
    posteriorSection(page, run, scope),
    variations(page, run, scope),
  );
}

function figure(view: ExampleView, caption: string, note: HTMLElement | null = null): HTMLElement {
  return h("figure", {}, view.element, h("figcaption", {}, caption), note);
}

function pictures(run: RunContext, scope: Scope): HTMLElement {
  const { model, state } = run;
  const { data } = model.run;
  const x = exampleView(data, t("input.x"), scope);
  const reconstruction = exampleView(data, t("input.reconstruction"), scope);
  const mean = exampleView(data, t("input.at.z"), scope);
  const spread = exampleView(data, t("input.spread"), scope, "spread");
  const sample = exampleView(data, t("input.sample"), scope);
  const nearest = exampleView(data, t("input.nearest"), scope);
  const distance = h("small", {});
  state.input.watch((input) => {
    if (input === null) return;
    x.show(input.x);
    void model.means(input.posterior.mean, 1, input.condition).then((values) => reconstruction.show(values));
    void model.training()?.then((training) => {
      const best = training.nearest(input.x, model.distanceScales);
      nearest.show(training.row(best.row));
      distance.textContent = t(model.distanceScales === null ? "input.nearest.distance" : "input.nearest.scaled", { d: format(best.distance) });
    });
  }, scope);
  const random = new Random(5);
  const more = onceAFrame(() => {
    const { value } = state.decoded;
    if (value === null || value.outputs === null) return;
    const px = model.likelihood(value.outputs, 0);
    if (px === null) return;
    const sd = model.units.spreadToRaw(standardDeviations(px));
    if (isImage(data)) spread.show(sd);
    else mean.show(value.mean, sd);
    void model.sample(value.z, value.outputs, random, state.condition.value).then((drawn) => {
      if (drawn !== null && value === state.decoded.value) sample.show(drawn);
    });
  });
  state.decoded.watch((decoded) => {
    if (decoded === null) return;
    mean.show(decoded.mean);
    more();
  }, scope);
  const hasFamily = model.hasLikelihood;
  return h(
    "div",
    { class: "figures" },
    figure(x, t("input.x")),
    figure(reconstruction, t("input.reconstruction")),
    figure(mean, t(data.domain === "mixed" ? "input.at.z.mixed" : "input.at.z")),
    hasFamily && isImage(data) ? figure(spread, t("input.spread")) : null,
    hasFamily ? figure(sample, t("input.sample")) : null,
    model.run.training === null ? null : figure(nearest, t("input.nearest"), distance),
  );
}

/** log p(x|z), log p(z) and log q(z|x) as bars that move with z. */
function termsSection(run: RunContext, scope: Scope): HTMLElement {
  const { model, state } = run;
  const bars = new Bars(t("terms"));
  bars.element.dataset.run = model.run.role;
  const note = h("p", { class: "note" });
  const estimate = h("p", { class: "note", "aria-live": "polite" });
  const update = (decoded: Decoded | null) => {
    if (decoded === null || state.input.value === null) return;
    const { terms } = decoded;
    note.textContent = termsNote(run, decoded);
    if (terms === null) return;
    const rows: Bar[] = [{ name: t("terms.reconstruction"), value: terms.reconstruction, tint: "likelihood" }];
    if (model.run.has_bound) {
      const minus = terms.logPosterior === null ? null : -terms.logPosterior;
      rows.push({ name: t("terms.prior"), value: terms.logPrior, tint: "prior" });
      rows.push({ name: t("terms.posterior"), value: minus, tint: "posterior" });
      rows.push({ name: t("terms.weight"), value: terms.logWeight, tint: "ink", strong: true });
    }
    bars.show(rows);
  };
  state.decoded.watch(update, scope);
  state.input.watch(() => (estimate.textContent = ""), scope);
  const average = async () => {
    const input = state.input.value;
    if (input === null) return;
    estimate.textContent = t("computing");
    const result = await averageWeight(run, input);
    estimate.textContent =
      result === null
        ? t("terms.moved")
        : t("terms.text", { n: ESTIMATE, mean: format(result[0]), se: format(result[1]) });
  };
  const isSingle =
    model.run.latent.sites.length === 1 || model.has("posterior_sample") || model.has("posterior");
  const canAverage = model.run.has_bound && isSingle && model.hasLikelihood;
  return section(
    t("terms"),
    bars.element,
    note,
    canAverage ? button(t("terms.estimate"), () => void average(), "quiet") : null,
    estimate,
  );
}

function termsNote(run: RunContext, decoded: Decoded): string {
  const { model, state } = run;
  if (decoded.terms === null) return t("terms.no.family");
  if (!model.run.has_bound) return t("terms.no.bound");
  const input = state.input.value!;
  if (!model.isPosteriorKnownAt(decoded.z, input.posterior)) return t("terms.moved");
  const kl = klOf(run, input);
  return kl === null ? "" : `${t("terms.kl")}: ${format(kl)}`;
}

/** KL(q || p) of this input in closed form; null where there is none. */
function klOf(run: RunContext, input: Input): number | null {
  if (!run.model.hasStandardPrior) return null;
  let sum = 0;
  for (const { q } of input.posterior.sites) {
    const terms = q.klToStandard();
    if (terms === null) return null;
    sum += terms.reduce((total, term) => total + term, 0);
  }
  return sum;
}

/** Mean and standard error of log w over draws of q: an estimate of the ELBO of this input. */
async function averageWeight(run: RunContext, input: Input): Promise<[number, number] | null> {
  const { model } = run;
  const random = new Random(17);
  const weights: number[] = [];
  for (let k = 0; k < ESTIMATE; k++) {
    const draw = await model.samplePosterior(input.x, input.posterior, random, input.condition);
    if (draw === null || draw.logPosterior === null) return null;
    const terms = await model.terms(input.x, draw.z, input.posterior, input.condition);
    if (terms === null || terms.logPrior === null) return null;
    weights.push(terms.reconstruction + terms.logPrior - draw.logPosterior);
  }
  const mean = weights.reduce((sum, w) => sum + w, 0) / ESTIMATE;
  const square = weights.reduce((sum, w) => sum + (w - mean) ** 2, 0);
  return [mean, Math.sqrt(square / (ESTIMATE - 1) / ESTIMATE)];
}

/** Mean and variance of each feature as curves over the prior, with z. */
function posteriorSection(page: PageContext, run: RunContext, scope: Scope): HTMLElement {
  const { model, state } = run;
  const features = model.run.latent.features.slice(0, SHOWN_FEATURES);
  const hasPrior = model.hasStandardPrior && model.run.has_bound;
  const charts = features.map((feature) => {
    const name = featureName(model, feature.index);
    const chart = new Chart(`q ${name}`, "feature", scope);
    const numbers = h("span", { class: "numbers" });
    return { feature, name, chart, numbers };
  });
  const update = onceAFrame(() => {
    const input = state.input.value;
    if (input === null) return;
    const sd = input.posterior.sd;
    const z = state.z.value;
    for (const { feature, name, chart, numbers } of charts) {
      const i = feature.index;
      const q = { mean: input.posterior.mean[i], sd: Number.isNaN(sd[i]) ? 0 : sd[i] };
      chart.paint((pen, width, height) => paintFeature(pen, width, height, q, z[i], hasPrior));
      const text = `μ ${format(q.mean)}  σ ${format(q.sd || NaN)}  z ${format(z[i])}`;
      numbers.textContent = text;
      chart.label = `${name}: ${text}`;
    }
  });
  state.input.watch(update, scope);
  state.z.watch(update, scope);
  const random = new Random(23);
  const draw = async () => {
    const input = state.input.value;
    if (input === null) return;
    const drawn = await model.samplePosterior(input.x, input.posterior, random, input.condition);
    if (drawn !== null) page.move(run, drawn.z);
  };
  const toMean = () => {
    const input = state.input.value;
    if (input !== null) page.move(run, input.posterior.mean.slice());
  };
  const hasSpread = model.run.latent.sites.some((s) => model.run.export.posterior?.[s.name]?.family.startsWith("normal"));
  const canDraw = hasSpread || model.has("posterior_sample");
  return section(
    t("input.q"),
    h("p", { class: "note" }, hasSpread ? t(hasPrior ? "input.q.text" : "input.q.alone") : t("input.q.none")),
    h(
      "div",
      { class: "row" },
      canDraw ? button(t("input.draw.z"), () => void draw()) : null,
      button(t("input.mean.z"), toMean, "quiet"),
    ),
    h(
      "div",
      { class: "densities" },
      ...charts.map(({ name, chart, numbers }) =>
        h("div", { class: "density" }, h("span", { class: "math" }, name), chart.element, numbers),
      ),
    ),
  );
}

/** Draws of q, decoded. */
function variations(page: PageContext, run: RunContext, scope: Scope): HTMLElement | null {
  const { model, state } = run;
  const strip = new Strip(model.run.data, t("input.variations"), "small");
  const random = new Random(29);
  const element = section(t("input.variations"), strip.element);
  const drawn = async (input: Input): Promise<Float64Array | null> => {
    const out = new Float64Array(VARIATIONS * model.width);
    for (let i = 0; i < VARIATIONS; i++) {
      const draw = await model.samplePosterior(input.x, input.posterior, random, input.condition);
      if (draw === null) return null;
      out.set(draw.z, i * model.width);
    }
    return out;
  };
  state.input.watch((input) => {
    if (input === null) return;
    void drawn(input).then((z) => {
      element.hidden = z === null;
      if (z === null) return;
      void model.means(z, VARIATIONS, input.condition).then((means) => {
        const size = means.length / VARIATIONS;
        strip.show(
          Array.from({ length: VARIATIONS }, (_, i) => ({
            values: means.subarray(i * size, (i + 1) * size),
            label: `${t("input.variations")} ${i + 1}`,
            onclick: () => page.move(run, z.slice(i * model.width, (i + 1) * model.width)),
          })),
        );
      });
    });
  }, scope);
  return element;
}
