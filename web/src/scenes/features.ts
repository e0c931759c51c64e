// Scene: features and z. One plane; the decoded example follows the hand.
import type { Scene } from "./index";
import { named, panel } from "./figure";
import { codePlane } from "./planes";
import { both } from "./texts";
import { latest } from "./work";
import { format, h } from "../widgets/dom";
import { exampleView } from "../widgets/example_view";
import { Strip } from "../widgets/strip";

const STEPS = 9;

export const featuresScene: Scene = {
  id: "features",
  name: ["Features and z", "특징과 z"],
  sentence: [
    "Drag z: two numbers, the features, are all that the decoder reads, and each of them changes x in its own way.",
    "z를 끌어 보세요. 디코더가 읽는 것은 특징이라는 두 숫자뿐이고, 각 특징은 저마다 다른 방식으로 x를 바꿉니다.",
  ],
  formulas: ["features"],
  needs: "vae",
  mount(element, { vae }, scope) {
    const { model, state } = vae;
    const { frame } = vae.planeData.value;
    const layers = { points: true, prior: false, holes: false, names: true };
    const plane = codePlane(vae, layers, (x, y) => vae.moveTo(x, y), scope);
    const view = exampleView(model.run.data, both(["x decoded from z", "z를 복원한 x"]), scope);
    const strips = [0, 1].map(
      (axis) => new Strip(model.run.data, both([`z${"₁₂"[axis]} alone`, `z${"₁₂"[axis]}만`]), "traversal"),
    );
    const place = h("p", { class: "note", "data-name": "z" });
    const traverse = latest<Float64Array>(element, scope, async (z) => {
      const rows: number[] = [];
      const bounds = [[frame.x0, frame.x1], [frame.y0, frame.y1]];
      for (const axis of [0, 1]) {
        for (let k = 0; k < STEPS; k++) {
          const [low, high] = bounds[axis];
          const value = low + (0.1 + (0.8 * k) / (STEPS - 1)) * (high - low);
          rows.push(axis === 0 ? value : z[0], axis === 1 ? value : z[1]);
        }
      }
      const means = await model.means(rows, 2 * STEPS, state.condition.value);
      const size = means.length / (2 * STEPS);
      strips.forEach((strip, axis) => {
        const items = Array.from({ length: STEPS }, (_, k) => {
          const row = axis * STEPS + k;
          const value = format(rows[2 * row + axis], 1);
          return {
            values: means.subarray(row * size, (row + 1) * size),
            label: `z${"₁₂"[axis]}`,
            caption: value,
            onclick: () => vae.moveTo(rows[2 * row], rows[2 * row + 1]),
          };
        });
        strip.show(items);
      });
    });
    state.z.watch((z) => {
      plane.setHand(...vae.position());
      place.textContent = `z = (${format(z[0])}, ${format(z[1])})`;
      traverse(z);
    }, scope);
    state.decoded.watch((decoded) => {
      if (decoded !== null) view.show(decoded.mean);
    }, scope);
    state.refresh();
    const codes = both(["The codes of the data, by class", "데이터의 코드와 클래스"]);
    const decoded = h("div", { class: "scene-side" }, view.element, place);
    element.append(
      h("div", { class: "scene-sides" }, panel(named("z", codes), plane.element), panel(named("mean-x", both(["decoded from z", "z를 복원한 것"])), decoded)),
      panel(both(["Only z₁ changes", "z₁만 바꿀 때"]), strips[0].element),
      panel(both(["Only z₂ changes", "z₂만 바꿀 때"]), strips[1].element),
    );
  },
};
