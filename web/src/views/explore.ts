// Explore: data encoded near z or inside the lasso, draws from the prior, the condition.
import { NOTHING } from "./context";
import type { PageContext, RunContext } from "./context";
import { Random } from "../distributions/random";
import type { Scope } from "../state";
import { t } from "../texts/texts";
import { button, format, h, section, select, slider } from "../widgets/dom";
import { onceAFrame } from "../widgets/frames";
import { indexOf } from "../widgets/point_index";
import { Strip } from "../widgets/strip";
import { labelOf } from "./plane_data";

const NEAR = 12;
const MOST_SELECTED = 48;
const DRAWS = 24;

export function exploreView(page: PageContext, scope: Scope): HTMLElement {
  scope.add(() => page.shown.forEach((run) => run.overlay.set(NOTHING)));
  return h(
    "div",
    { class: "view" },
    h("p", { class: "hint" }, t("explore.hint")),
    columnsNote(page.main),
    conditionControl(page.main, scope),
    ...page.shown.map((run) => nearSection(page, run, scope)),
    ...page.shown.map((run) => drawsSection(page, run, scope)),
  );
}

/** How rows of a table look in a strip. */
export function columnsNote(run: RunContext): HTMLElement | null {
  return run.model.run.data.columns.length > 0 ? h("p", { class: "note" }, t("columns.text")) : null;
}

/** Examples whose codes are nearest to z in the plane, or inside the lasso. */
function nearSection(page: PageContext, run: RunContext, scope: Scope): HTMLElement {
  const { lasso } = page;
  const strip = new Strip(run.model.run.data, page.titled(t("near"), run), "small");
  const title = h("h3", {}, page.titled(t("near"), run));
  const clear = button(t("selected.clear"), () => lasso.set(null), "quiet");
  const show = (points: number[]) =>
    strip.show(
      points.map((point) => ({
        values: run.model.points.x.row(point),
        label: labelOf(run, point),
        onclick: () => void page.followPoint(run, point),
      })),
    );
  const update = onceAFrame(() => {
    const chosen = lasso.value;
    clear.hidden = chosen === null;
    title.textContent = chosen === null ? page.titled(t("near"), run) : t("selected", { n: chosen.length });
    show(chosen === null ? nearestInPlane(run, NEAR) : chosen.slice(0, MOST_SELECTED));
  });
  run.state.z.watch(() => {
    if (lasso.value === null) update();
  }, scope);
  lasso.watch(update, scope);
  run.planeData.watch(update, scope);
  const element = h("section", { class: "block" }, h("div", { class: "row" }, title, clear), strip.element);
  // the lasso holds the same examples in both runs: one strip shows them
  if (run !== page.main) lasso.watch((points) => (element.hidden = points !== null), scope);
  return element;
}

function nearestInPlane(run: RunContext, count: number): number[] {
  return indexOf(run.planeData.value.xy).nearest(...run.position(), count);
}

/** Draws from p(z), decoded, with their temperature. */
function drawsSection(page: PageContext, run: RunContext, scope: Scope): HTMLElement {
  const { model, state } = run;
  const title = page.titled(t("draws"), run);
  if (model.run.prior.kind === "none" && !model.has("prior_sample")) {
    return section(title, h("p", {}, t("draw.none", { reason: model.run.prior.reason ?? "" })));
  }
  const strip = new Strip(model.run.data, title, "small");
  let temperature = 1;
  let seed = 1;
  const draw = async (isMarked = true) => {
    const condition = state.condition.value;
    const z = await model.samplePrior(DRAWS, new Random(seed), temperature, condition);
    if (z === null) return;
    const means = await model.means(z, DRAWS, condition);
    if (isMarked) run.overlay.set({ ...NOTHING, draws: z });
    const size = means.length / DRAWS;
    strip.show(
      Array.from({ length: DRAWS }, (_, i) => ({
        values: means.subarray(i * size, (i + 1) * size),
        label: `${t("draws")} ${i + 1}`,
        onclick: () => page.move(run, Float64Array.from(z.subarray(i * model.width, (i + 1) * model.width))),
      })),
    );
  };
  const again = () => {
    seed += 1;
    void draw();
  };
  const heat = slider({
    label: t("temperature"),
    min: 0,
    max: 1.5,
    step: 0.05,
    value: 1,
    oninput: (value) => {
      temperature = value;
      void draw();
    },
  });
  state.condition.watch(() => void draw(run.overlay.value.draws !== null), scope);
  const hasTemperature = model.hasStandardPrior || model.has("prior_sample");
  const note = model.run.has_bound || model.run.latent.kind !== "vector" ? t("temperature.text") : t("draws.ae");
  return section(
    title,
    h("div", { class: "row" }, button(t("draw.prior"), again), hasTemperature ? heat.element : null),
    hasTemperature ? h("p", { class: "note" }, note) : null,
    strip.element,
  );
}

/** The condition of a conditional model: a class, or numbers. */
export function conditionControl(run: RunContext, scope: Scope): HTMLElement | null {
  const condition = run.model.run.data.condition;
  if (condition === null) return null;
  const { state } = run;
  const holder = h("div", { class: "condition" });
  const render = () => {
    const value = state.condition.value ?? new Float64Array(condition.names.length);
    if (condition.kind === "class") {
      const options = condition.names.map((name, k): [string, string] => [String(k), name]);
      holder.replaceChildren(
        select(t("condition"), options, String(value[0]), (k) => state.setCondition(Float64Array.of(Number(k)))),
      );
      return;
    }
    const sliders = condition.names.map((name, k) => {
      const sd = condition.sd[k] || 1;
      return slider({
        label: name,
        min: condition.mean[k] - 3 * sd,
        max: condition.mean[k] + 3 * sd,
        step: sd / 50,
        value: value[k],
        format: (number) => format(number),
        oninput: (number) => {
          const next = (state.condition.value ?? value).slice();
          next[k] = number;
          state.setCondition(next);
        },
      }).element;
    });
    holder.replaceChildren(...sliders);
  };
  state.input.watch(render, scope);
  return section(t("condition"), holder);
}
