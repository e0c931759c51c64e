// Scene: AE against VAE. One hand moves the same z in both; holes of p(z) are hatched.
import type { Scene } from "./index";
import { Facts, named, panel } from "./figure";
import { codePlane } from "./planes";
import { both } from "./texts";
import { latest } from "./work";
import type { Frame } from "../distributions/density";
import { Random } from "../distributions/random";
import { Signal } from "../state";
import type { RunContext } from "../views/context";
import { isInHole } from "../views/plane_data";
import { h, percent } from "../widgets/dom";
import { exampleView } from "../widgets/example_view";
import { Strip } from "../widgets/strip";

const SHARE = 0.99; // of p(z) inside the outer contour
const DRAWS = 8;

/** Share of the codes outside the circle that holds 99 % of N(0, I). */
function codesOutside(xy: Float32Array): number {
  const radius = Math.sqrt(-2 * Math.log(1 - SHARE));
  let outside = 0;
  for (let i = 0; i < xy.length; i += 2) outside += Number(Math.hypot(xy[i], xy[i + 1]) > radius);
  return outside / (xy.length / 2);
}

/** The place of p(z) that is deepest in a hole of one run and in none of the other. */
function startOf(ae: RunContext, vae: RunContext): [number, number] {
  const data = ae.planeData.value;
  let best: [number, number] = [0, 0];
  let least = Infinity;
  for (let x = -2; x <= 2; x += 0.25) {
    for (let y = -2; y <= 2; y += 0.25) {
      if (!isInHole(data, x, y) || isInHole(vae.planeData.value, x, y)) continue;
      if (Math.hypot(x, y) < least) [best, least] = [[x, y], Math.hypot(x, y)];
    }
  }
  return best;
}

function union(frames: Frame[]): Frame {
  return {
    x0: Math.min(...frames.map((f) => f.x0)),
    x1: Math.max(...frames.map((f) => f.x1)),
    y0: Math.min(...frames.map((f) => f.y0)),
    y1: Math.max(...frames.map((f) => f.y1)),
  };
}

export const aeAndVae: Scene = {
  id: "ae-and-vae",
  name: ["AE against VAE", "AE와 VAE"],
  sentence: [
    "Drag z: new z are drawn inside the contours of p(z), but nothing ties the codes of the AE to p(z), so that data lie where no draw falls and draws fall between the data, while the KL makes the codes of the VAE cover p(z).",
    "z를 끌어 보세요. 새 z는 p(z)의 등고선 안에서 뽑는데, AE의 코드는 p(z)와 묶여 있지 않아 데이터는 표본이 닿지 않는 곳에 있고 표본은 데이터 사이에 떨어지지만, VAE의 코드는 KL 덕분에 p(z)를 덮습니다.",
  ],
  formulas: ["ae-and-vae"],
  needs: "vae and ae",
  mount(element, context, scope) {
    const runs = [context.ae!, context.vae];
    const hand = new Signal<[number, number]>(startOf(context.ae!, context.vae));
    const draws = Float32Array.from(new Random(3).normals(2 * DRAWS));
    const frame = union(runs.map((run) => run.planeData.value.frame));
    const sides = runs.map((run, k) => {
      const { model, state } = run;
      const data = run.planeData.value;
      const layers = { points: true, prior: true, holes: true, names: true };
      const plane = codePlane(run, layers, (x, y) => hand.set([x, y]), scope);
      plane.setFrame(frame);
      const name = ["AE", "VAE"][k];
      const view = exampleView(model.run.data, both([`Decoded by the ${name}`, `${name}가 복원한 것`]), scope);
      const facts = new Facts()
        .add(`${name}-hole`, both(["At this z", "이 z는"]))
        .add(`${name}-holes`, both(["Share of p(z) in holes", "구멍에 든 p(z)의 비율"]))
        .add(`${name}-outside`, both(["Data where only 1 % of draws fall", "표본의 1 %만 닿는 곳의 데이터"]));
      const strip = new Strip(model.run.data, both([`Draws of p(z), decoded by the ${name}`, `${name}가 복원한 p(z)의 표본`]), "drawn");
      const decode = latest<null>(element, scope, async () => {
        const means = await model.means(draws, DRAWS, state.condition.value);
        const size = means.length / DRAWS;
        const items = Array.from({ length: DRAWS }, (_, i) => ({
          values: means.slice(i * size, (i + 1) * size),
          label: both(["Decoded draw", "복원된 표본"]),
          onclick: () => hand.set([draws[2 * i], draws[2 * i + 1]]),
        }));
        strip.show(items);
      });
      decode(null);
      plane.setDraws(draws);
      hand.watch(([x, y]) => {
        plane.setHand(x, y);
        state.move(Float64Array.of(x, y));
        const inHole = isInHole(data, x, y);
        const text = inHole ? both(["a hole", "구멍"]) : both(["codes near", "코드 있음"]);
        facts.show(`${name}-hole`, Number(inHole), text);
      }, scope);
      state.decoded.watch((decoded) => {
        if (decoded !== null) view.show(decoded.mean);
      }, scope);
      const share = data.holes?.share ?? null;
      facts.show(`${name}-holes`, share, share === null ? "–" : percent(share));
      const outside = codesOutside(data.xy);
      facts.show(`${name}-outside`, outside, percent(outside));
      const image = h("div", { class: "scene-small" }, view.element);
      return h(
        "div",
        { class: "scene-stack" },
        panel(name, plane.element),
        h("div", { class: "scene-images side" }, panel(named("mean-x", ""), image), facts.element),
        panel(both(["The crosses, eight draws of p(z), decoded", "십자 표시, p(z)의 표본 여덟 개를 복원한 것"]), strip.element),
      );
    });
    const holes = runs[0].planeData.value.holes;
    const [threshold, region] = [percent(holes?.threshold ?? 0.1), percent(holes?.region ?? 0.9)];
    const note = both([
      `Contours hold 50, 90 and 99 % of p(z). Hatched: inside the ${region} contour, where the codes are less dense than ${threshold} of p(z).`,
      `등고선은 p(z)의 50, 90, 99 %입니다. 빗금: ${region} 등고선 안에서 코드의 밀도가 p(z)의 ${threshold}보다 낮은 곳입니다.`,
    ]);
    element.append(h("div", { class: "scene-two" }, ...sides), h("p", { class: "note" }, note));
  },
};
