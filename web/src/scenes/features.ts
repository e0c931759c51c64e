// Scene: features and z. One plane; the decoded example follows the hand.
import type { Scene } from "./index";
import { exampleView } from "../widgets/example_view";
import { h } from "../widgets/dom";
import { PlaneCanvas } from "../widgets/plane_canvas";
import { painted } from "../widgets/theme";
import { t } from "../texts/texts";

export const featuresScene: Scene = {
  id: "features",
  name: ["Features and z", "특징과 z"],
  sentence: [
    "Drag z: two numbers, the features, are all that the decoder reads, and near z give similar examples.",
    "z를 끌어 보세요. 디코더가 읽는 것은 특징이라는 두 숫자뿐이고, 가까운 z에서는 비슷한 예가 나옵니다.",
  ],
  formula: "z = (z₁, z₂)",
  needs: "vae",
  mount(element, { vae }, scope) {
    const { model, state } = vae;
    const data = vae.planeData.value;
    const plane = new PlaneCanvas({
      label: t("plane.label", { x: "z₁", y: "z₂" }),
      onHand: (x, y) => vae.moveTo(x, y),
    });
    plane.layers = { points: true, prior: false, holes: false, names: true };
    plane.setContent({
      xy: data.xy,
      labels: model.points.labels,
      classes: model.run.data.classes ?? [],
      contours: [],
      holes: null,
      axisLabels: state.plane.value.labels,
    });
    plane.setFrame(data.frame);
    painted.watch(() => plane.recolour(), scope);
    const view = exampleView(model.run.data, t("at.hand"), scope);
    state.z.watch(() => plane.setHand(...vae.position()), scope);
    state.decoded.watch((decoded) => {
      if (decoded !== null) view.show(decoded.mean);
    }, scope);
    state.refresh();
    element.append(h("div", { class: "pair" }, plane.element, view.element));
  },
};
