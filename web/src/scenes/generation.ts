// Scene: p(z), p(x|z) and theta. A hand moves z; p(x|z) is shown as a distribution of x.
import type { Scene } from "./index";
import { Axes, Facts, named, panel } from "./figure";
import { liveliest, probabilities } from "./one_value";
import { codePlane } from "./planes";
import { both } from "./texts";
import { latest } from "./work";
import { Random } from "../distributions/random";
import { standardDeviations } from "../distributions/spread";
import { Chart } from "../widgets/charts";
import { format, h } from "../widgets/dom";
import { exampleView, isImage } from "../widgets/example_view";
import { Strip } from "../widgets/strip";
import { colour } from "../widgets/theme";

const SAMPLES = 5;

export const generation: Scene = {
  id: "generation",
  name: ["p(z), p(x|z) and θ", "p(z), p(x|z)와 θ"],
  sentence: [
    "Drag z: p(z) says how common z is, and the decoder, with the same parameters θ for every z, makes of it a whole distribution of x and not one x.",
    "z를 끌어 보세요. p(z)는 그 z가 얼마나 흔한지를 말하고, 디코더는 모든 z에 같은 매개변수 θ를 써서 x 하나가 아니라 x의 분포를 만듭니다.",
  ],
  formulas: ["generation"],
  needs: "vae",
  mount(element, { vae }, scope) {
    const { model, state } = vae;
    const { data } = model.run;
    const layers = { points: false, prior: true, holes: false, names: false };
    const plane = codePlane(vae, layers, (x, y) => vae.moveTo(x, y), scope);
    const mean = exampleView(data, both(["Mean of p(x|z)", "p(x|z)의 평균"]), scope);
    const spread = exampleView(data, both(["Spread of p(x|z)", "p(x|z)의 퍼짐"]), scope, "spread");
    const samples = new Strip(data, both(["Samples of p(x|z)", "p(x|z)의 표본"]));
    const one = liveliest(model);
    const chart = one === null ? null : new Chart(one.name, "wide-chart", scope);
    const facts = new Facts()
      .add("prior", named("prior", both(["density at z", "z에서의 밀도"])))
      .add("theta", both(["θ: the decoder in this page, in all", "θ: 이 페이지의 디코더 전체"]));
    const bytes = model.run.graphs.decoder.bytes;
    facts.show("theta", bytes, bytes > 0 ? `${format(bytes / 1000, 0)} kB` : both(["on the server", "서버에 있음"]));
    const show = latest<Float64Array>(element, scope, async (z) => {
      const condition = state.condition.value;
      const outputs = await model.decode(z, 1, condition);
      const decoded = outputs.mean.data as Float32Array;
      const logPrior = await model.logPrior(z, 1, condition);
      const density = logPrior === null ? null : Math.exp(logPrior[0]);
      facts.show("prior", density, format(density, 4));
      const px = model.likelihood(outputs, 0);
      if (px === null) throw new Error("p(x|z) of this run has no formula in the page");
      const sd = model.units.spreadToRaw(standardDeviations(px));
      mean.show(decoded, sd);
      if (isImage(data)) spread.show(sd);
      const random = new Random(5);
      const drawn: Float64Array[] = [];
      for (let k = 0; k < SAMPLES; k++) drawn.push((await model.sample(z, outputs, random, condition))!);
      samples.show(drawn.map((values) => ({ values, label: both(["Sample", "표본"]) })));
      if (one === null || chart === null) return;
      const shares = probabilities(model, px, one, decoded);
      const best = shares.indexOf(Math.max(...shares));
      const [value, share] = [format(one.values[best]), format(shares[best], 4)];
      chart.label = both([
        `${one.name}: highest at ${value}, there ${share}`,
        `${one.name}: ${value}에서 가장 높으며 ${share}`,
      ]);
      chart.paint((pen, width, height) => paintMarginal(pen, width, height, one.values, shares, one.isDiscrete));
    });
    state.z.watch((z) => {
      plane.setHand(...vae.position());
      show(z);
    }, scope);
    const note = one?.isDiscrete
      ? both(["Bars: probability of each value.", "막대: 각 값의 확률."])
      : both(["Curve: density of the value.", "곡선: 값의 밀도."]);
    const images = h(
      "div",
      { class: "scene-images trio" },
      isImage(data)
        ? panel(both(["Mean", "평균"]), h("div", { class: "scene-small" }, mean.element))
        : panel(both(["Mean, and two standard deviations", "평균과 표준편차의 2배"]), mean.element),
      isImage(data)
        ? panel(both(["Standard deviation", "표준편차"]), h("div", { class: "scene-small" }, spread.element))
        : null,
    );
    element.append(
      h(
        "div",
        { class: "scene-two" },
        h("div", { class: "scene-stack" }, panel(named("prior", both(["50, 90 and 99 % of its mass", "질량의 50, 90, 99 %"])), plane.element), facts.element),
        h(
          "div",
          { class: "scene-stack" },
          panel(named("likelihood", both(["at this z", "이 z에서"])), images),
          panel(both(["Samples x from p(x|z)", "p(x|z)의 표본 x"]), samples.element),
          ...(one === null || chart === null
            ? []
            : [panel(named("likelihood", both([`of one value: ${one.name}`, `값 하나: ${one.name}`])), chart.element, note)]),
        ),
      ),
    );
  },
};

function paintMarginal(
  pen: CanvasRenderingContext2D,
  width: number,
  height: number,
  values: number[],
  shares: number[],
  isDiscrete: boolean,
): void {
  const step = values[1] - values[0];
  const pad = isDiscrete ? step / 2 : 0;
  const top = 1.1 * Math.max(...shares.filter(Number.isFinite), 1e-9);
  const axes = new Axes(pen, width, height, {
    x: [values[0] - pad, values[values.length - 1] + pad],
    y: [0, top],
    labels: [both(["value", "값"]), isDiscrete ? both(["probability", "확률"]) : both(["density", "밀도"])],
  });
  axes.inside(() => {
    pen.fillStyle = colour("likelihood");
    if (isDiscrete) {
      const bar = Math.max(1, (axes.x(step) - axes.x(0)) * 0.78);
      values.forEach((value, i) => {
        pen.fillRect(axes.x(value) - bar / 2, axes.y(shares[i]), bar, axes.bottom - axes.y(shares[i]));
      });
      return;
    }
    pen.beginPath();
    pen.moveTo(axes.x(values[0]), axes.bottom);
    values.forEach((value, i) => pen.lineTo(axes.x(value), axes.y(shares[i])));
    pen.lineTo(axes.x(values[values.length - 1]), axes.bottom);
    pen.globalAlpha = 0.35;
    pen.fill();
    pen.globalAlpha = 1;
    pen.strokeStyle = colour("likelihood");
    pen.lineWidth = 2;
    pen.stroke();
  });
}
