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
  z: Float64Array;
}

type Path = (a: Float64Array, b: Float64Array, share: number) => Float64Array;

export function betweenView(page: PageContext, scope: Scope): HTMLElement {
  const { model } = page.main;
  const slots = new Slots(page, scope);
  const isCodes = model.run.latent.kind === "codes";
  scope.add(() => page.main.overlay.set(NOTHING));
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
      const set = async (point: number) => {
        await this.setPoint(k, name, point);
        view.show(this.slots[k].x);
      };
      const input = button(t("between.set"), () => {
        const current = page.main.state.input.value;
        if (current === null) return;
        this.slots[k] = { name, x: current.x, z: current.posterior.mean };
        view.show(current.x);
        this.changed();
      }, "quiet");
      page.main.state.input.watch((value) => (input.disabled = value === null), scope);
      const any = button(t("between.any"), () => void set(random.below(model.points.n)), "quiet");
      this.element.append(
        h("div", { class: "slot" }, h("h4", {}, name), view.element, h("div", { class: "row" }, any, input)),
      );
      void set(firstPoint(page.main, k));
    });
  }

  private async setPoint(k: number, name: string, point: number): Promise<void> {
    const { model } = this.page.main;
    const x = model.points.x.row(point);
    const start = point * model.width;
    const z = Float64Array.from(model.points.z.subarray(start, start + model.width));
    this.slots[k] = { name, x, z };
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
  const run = page.main;
  const { model } = run;
  const strip = new Strip(model.run.data, t("between.title"), "traversal");
  let path: Path = spherical;
  const control = slider({
    label: t("between.t"),
    min: 0,
    max: 1,
    step: 0.005,
    value: 0,
    oninput: (share) => page.move(run, path(slots.slots[0].z, slots.slots[1].z, share)),
  });
  const update = async () => {
    if (!slots.isComplete) return;
    const [a, b] = slots.slots;
    const z = new Float64Array(STEPS * model.width);
    for (let k = 0; k < STEPS; k++) z.set(path(a.z, b.z, k / (STEPS - 1)), k * model.width);
    const trail = Array.from({ length: 33 }, (_, k) => path(a.z, b.z, k / 32));
    run.overlay.set({ trail, markers: slots.slots.map(({ name, z: at }) => ({ z: at, text: name })), draws: null });
    const means = await model.means(z, STEPS, run.state.condition.value);
    const size = means.length / STEPS;
    strip.show(
      Array.from({ length: STEPS }, (_, k) => ({
        values: means.subarray(k * size, (k + 1) * size),
        label: `${t("between.t")} ${(k / (STEPS - 1)).toFixed(2)}`,
        onclick: () => {
          control.set(k / (STEPS - 1));
          page.move(run, z.slice(k * model.width, (k + 1) * model.width));
        },
      })),
    );
  };
  slots.watch(() => void update());
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
      void update();
    }),
    control.element,
    strip.element,
  );
}

function arithmetic(page: PageContext, slots: Slots): HTMLElement {
  const run = page.main;
  const { model } = run;
  const view = exampleView(model.run.data, t("between.result"));
  const strip = h("div", { class: "equation" });
  let z: Float64Array | null = null;
  slots.watch(() => {
    if (!slots.isComplete) return;
    const [a, b, c] = slots.slots;
    z = a.z.map((value, i) => value - b.z[i] + c.z[i]);
    const views = [a, b, c].map(({ name, x }) => {
      const each = exampleView(model.run.data, name);
      each.show(x);
      return h("figure", {}, each.element, h("figcaption", {}, name));
    });
    const sign = (text: string) => h("span", { class: "sign" }, text);
    const result = h("figure", {}, view.element, h("figcaption", {}, "A − B + C"));
    strip.replaceChildren(views[0], sign("−"), views[1], sign("+"), views[2], sign("="), result);
    void model.means(z, 1, run.state.condition.value).then((mean) => view.show(mean));
  });
  const go = button(t("plane.hand"), () => {
    if (z !== null) page.move(run, z);
  }, "quiet");
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
