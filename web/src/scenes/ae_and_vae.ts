// Scene: AE against VAE. One hand moves the same z in both; holes of p(z) are hatched.
import type { Scene } from "./index";
import { Facts, named, panel } from "./figure";
import { codePlane } from "./planes";
import { both } from "./texts";
import type { Frame } from "../distributions/density";
import { Signal } from "../state";
import type { RunContext } from "../views/context";
import { isInHole } from "../views/plane_data";
import { h, percent } from "../widgets/dom";
import { exampleView } from "../widgets/example_view";

const SHARE = 0.99; // of p(z) inside the outer contour

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
    "Drag z in either plane: inside the contours of p(z), from which new z are drawn, the AE has holes without any code and decodes mixtures there, while the VAE has filled them.",
    "어느 평면에서든 z를 끌어 보세요. 새 z를 뽑는 p(z)의 등고선 안에서 AE에는 코드가 없는 구멍이 있어 뒤섞인 것이 나오지만, VAE는 그 안을 채웠습니다.",
  ],
  formulas: ["ae-and-vae"],
  needs: "vae and ae",
  mount(element, context, scope) {
    const runs = [context.ae!, context.vae];
    const hand = new Signal<[number, number]>(startOf(context.ae!, context.vae));
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
        .add(`${name}-outside`, both(["Codes outside 99 % of p(z)", "p(z)의 99 % 밖에 있는 코드"]));
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
      );
    });
    const holes = runs[0].planeData.value.holes;
    const [threshold, region] = [percent(holes?.threshold ?? 0.1), percent(holes?.region ?? 0.9)];
    const note = both([
      `Contours hold 50, 90 and 99 % of p(z). Hatched: inside the ${region} contour, where the codes are less dense than ${threshold} of p(z).`,
      `등고선은 p(z)의 50, 90, 99 %입니다. 빗금: ${region} 등고선 안에서 코드의 밀도가 p(z)의 ${threshold}보다 낮은 곳입니다.`,
    ]);
    element.append(h("div", { class: "scene-two" }, ...sides), h("p", { class: "note" }, note));
    element.dataset.ready = "true";
  },
};
