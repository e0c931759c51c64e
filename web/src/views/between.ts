// Between examples: interpolation, arithmetic of three, a tour over k-means centres.
import type { PageContext, RunContext } from "./context";
import { NOTHING } from "./context";
import { kMeans, shortPath, spherical, straight } from "../distributions/paths";
import { Random } from "../distributions/random";
import type { Scope } from "../state";
import { t } from "../texts/texts";
import { button, h, section, segmented, slider } from "../widgets/dom";
import { exampleView } from "../widgets/example_view";
import { Strip } from "../widgets/strip";
import { reducedMotion } from "../widgets/theme";

const STEPS = 9;
const CENTRES = 12;
const MOST_CLUSTERED = 4000;
const SECONDS_PER_CENTRE = 1.4;

interface Slot {
  name: string;
  x: Float64Array;
  /** Its code in each run that is shown. */
  zs: readonly Float64Array[];
}

type Path = (a: Float64Array, b: Float64Array, share: number) => Float64Array;

export function betweenView(page: PageContext, scope: Scope): HTMLElement {
  const { model } = page.main;
  const slots = new Slots(page, scope);
  const isCodes = model.run.latent.kind === "codes";
  scope.add(() => page.shown.forEach((run) => run.overlay.set(NOTHING)));
  return h(
    "div",
    { class: "view" },
    section(t("between.title"), slots.element),
    interpolation(page, slots),
    arithmetic(page, slots),
    isCodes ? null : tour(page, scope),
  );
}

/** The three examples A, B and C. */
class Slots {
  readonly element: HTMLElement;
  readonly slots: Slot[] = [];
  private readonly listeners: (() => void)[] = [];

  constructor(private readonly page: PageContext, scope: Scope) {
    const { model } = page.main;
    const random = new Random(41);
    this.element = h("div", { class: "slots" });
    ["A", "B", "C"].forEach((name, k) => {
      const view = exampleView(model.run.data, t("between.slot", { name }), scope);
      const set = (point: number) => {
        this.setPoint(k, name, point);
        view.show(this.slots[k].x);
      };
      const input = button(t("between.set"), () => {
        const inputs = page.shown.map((run) => run.state.input.value);
        if (inputs.some((each) => each === null)) return;
        this.slots[k] = { name, x: inputs[0]!.x, zs: inputs.map((each) => each!.posterior.mean) };
        view.show(this.slots[k].x);
        this.changed();
      }, "quiet");
      page.main.state.input.watch((value) => (input.disabled = value === null), scope);
      const any = button(t("between.any"), () => set(random.below(this.count)), "quiet");
      this.element.append(
        h("div", { class: "slot" }, h("h4", {}, name), view.element, h("div", { class: "row" }, any, input)),
      );
      set(firstPoint(page.main, k));
    });
  }

  /** How many points all runs have. */
  private get count(): number {
    return Math.min(...this.page.shown.map(({ model }) => model.points.n));
  }

  private setPoint(k: number, name: string, point: number): void {
    const zs = this.page.shown.map(({ model: { points, width } }) =>
      Float64Array.from(points.z.subarray(point * width, (point + 1) * width)),
    );
    this.slots[k] = { name, x: this.page.main.model.points.x.row(point), zs };
    this.changed();
  }

  get isComplete(): boolean {
    return [0, 1, 2].every((k) => this.slots[k] !== undefined);
  }

  watch(listener: () => void): void {
    this.listeners.push(listener);
    listener();
  }

  private changed(): void {
    if (this.isComplete) for (const listener of this.listeners) listener();
  }
}

/** The first point of the k-th class, so that A, B and C differ. */
function firstPoint(run: RunContext, k: number): number {
  const { labels, n } = run.model.points;
  const point = labels === null ? -1 : labels.indexOf(2 * k + 1);
  return point >= 0 ? point : Math.min(n - 1, k * Math.floor(n / 3));
}

function interpolation(page: PageContext, slots: Slots): HTMLElement {
  let path: Path = spherical;
  let share = 0;
  /** z of each run at a share of the way. */
  const at = (share: number) => {
    const [a, b] = slots.slots;
    return page.shown.map((_, i) => path(a.zs[i], b.zs[i], share));
  };
  const control = slider({
    label: t("between.t"),
    min: 0,
    max: 1,
    step: 0.005,
    value: 0,
    oninput: (value) => {
      share = value;
      page.moveEach(at(share));
    },
  });
  const goTo = (value: number) => {
    share = value;
    control.set(share);
    page.moveEach(at(share));
  };
  const rows = page.shown.map((run, i) => {
    const strip = new Strip(run.model.run.data, page.titled("A → B", run), "traversal");
    return { strip, update: () => showPath(run, slots, (k) => at(k)[i], strip, goTo, i) };
  });
  const update = () => {
    if (slots.isComplete) for (const row of rows) void row.update();
  };
  slots.watch(update);
  const kinds: ["spherical" | "straight", string][] = [
    ["spherical", t("between.spherical")],
    ["straight", t("between.straight")],
  ];
  return h(
    "section",
    { class: "block" },
    h("h3", {}, "A → B"),
    segmented(t("between.title"), kinds, "spherical", (kind) => {
      path = kind === "straight" ? straight : spherical;
      update();
    }),
    control.element,
    ...rows.flatMap(({ strip }, i) => [
      page.second === null ? null : h("h4", {}, page.shown[i].model.run.name),
      strip.element,
    ]),
  );
}

/** The path of one run in its plane, and the examples along it. */
async function showPath(
  run: RunContext,
  slots: Slots,
  at: (share: number) => Float64Array,
  strip: Strip,
  goTo: (share: number) => void,
  number: number,
): Promise<void> {
  const { model } = run;
  const z = new Float64Array(STEPS * model.width);
  for (let k = 0; k < STEPS; k++) z.set(at(k / (STEPS - 1)), k * model.width);
  const trail = Array.from({ length: 33 }, (_, k) => at(k / 32));
  const markers = slots.slots.map(({ name, zs }) => ({ z: zs[number], text: name }));
  run.overlay.set({ trail, markers, draws: null });
  const means = await model.means(z, STEPS, run.state.condition.value);
  const size = means.length / STEPS;
  strip.show(
    Array.from({ length: STEPS }, (_, k) => ({
      values: means.subarray(k * size, (k + 1) * size),
      label: `${t("between.t")} ${(k / (STEPS - 1)).toFixed(2)}`,
      onclick: () => goTo(k / (STEPS - 1)),
    })),
  );
}

function arithmetic(page: PageContext, slots: Slots): HTMLElement {
  const { data } = page.main.model.run;
  const strip = h("div", { class: page.second === null ? "equation" : "equation two" });
  const results = page.shown.map((run) => ({
    run,
    view: exampleView(data, page.titled(t("between.result"), run)),
    caption: page.titled("A − B + C", run),
  }));
  let zs: Float64Array[] = [];
  slots.watch(() => {
    if (!slots.isComplete) return;
    const [a, b, c] = slots.slots;
    zs = page.shown.map((_, i) => a.zs[i].map((value, k) => value - b.zs[i][k] + c.zs[i][k]));
    const views = [a, b, c].map(({ name, x }) => {
      const each = exampleView(data, name);
      each.show(x);
      return h("figure", {}, each.element, h("figcaption", {}, name));
    });
    const sign = (text: string) => h("span", { class: "sign" }, text);
    strip.replaceChildren(views[0], sign("−"), views[1], sign("+"), views[2]);
    results.forEach(({ run, view, caption }, i) => {
      strip.append(sign(i === 0 ? "=" : ","), h("figure", {}, view.element, h("figcaption", {}, caption)));
      void run.model.means(zs[i], 1, run.state.condition.value).then((mean) => view.show(mean));
    });
  });
  const go = button(t("between.go"), () => page.moveEach(zs), "quiet");
  return section(t("between.arithmetic"), strip, go);
}

/** A tour over k-means centres, by steps or as a movement. */
function tour(page: PageContext, scope: Scope): HTMLElement {
  const run = page.main;
  const { model } = run;
  const n = Math.min(model.points.n, MOST_CLUSTERED);
  let centres: Float64Array[] | null = null;
  let at = 0;
  let frame = 0;
  const path = () => {
    centres ??= shortPath(kMeans(model.points.z, n, model.width, CENTRES, new Random(2)));
    const markers = centres.map((z, k) => ({ z, text: String(k + 1) }));
    run.overlay.set({ trail: centres, markers, draws: null });
    return centres;
  };
  const stop = () => {
    cancelAnimationFrame(frame);
    frame = 0;
    play.textContent = t("between.play");
  };
  const step = () => {
    stop();
    const places = path();
    at = (Math.floor(at) + 1) % places.length;
    page.move(run, places[at]);
  };
  const start = () => {
    const places = path();
    let last = performance.now();
    play.textContent = t("between.stop");
    const tick = (now: number) => {
      at = (at + (now - last) / 1000 / SECONDS_PER_CENTRE) % places.length;
      last = now;
      const from = Math.floor(at);
      const share = at - from;
      const eased = share * share * (3 - 2 * share);
      page.move(run, straight(places[from], places[(from + 1) % places.length], eased));
      frame = requestAnimationFrame(tick);
    };
    frame = requestAnimationFrame(tick);
  };
  const play = button(t("between.play"), () => (frame === 0 ? start() : stop()));
  play.hidden = reducedMotion.matches;
  scope.add(() => cancelAnimationFrame(frame));
  return section(
    t("between.tour"),
    h("p", { class: "note" }, t("between.tour.text", { k: Math.min(CENTRES, n) })),
    h("div", { class: "row" }, play, button(t("between.step"), step)),
  );
}
