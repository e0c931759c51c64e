// Scene: mean and variance. The encoder gives a mean and a variance for each feature of x.
import type { Scene } from "./index";
import { Chart, paintFeature } from "../widgets/charts";
import { format, h, slider } from "../widgets/dom";
import { exampleView } from "../widgets/example_view";
import { t } from "../texts/texts";

export const meanAndVariance: Scene = {
  id: "mean-and-variance",
  name: ["Mean and variance", "평균과 분산"],
  sentence: [
    "Choose another x: the encoder answers with a mean and a variance for each feature, a curve and not a point.",
    "다른 x를 골라 보세요. 인코더는 특징마다 점이 아니라 평균과 분산, 곧 곡선 하나를 내놓습니다.",
  ],
  formula: "q(z|x) = N(z; μ(x), σ²(x))",
  needs: "vae",
  mount(element, { vae }, scope) {
    const { model } = vae;
    const x = exampleView(model.run.data, t("input.x"), scope);
    const charts = ["z₁", "z₂"].map((name) => ({ name, chart: new Chart(name, "feature tall", scope) }));
    const numbers = charts.map(() => h("span", { class: "numbers" }));
    const show = async (point: number) => {
      const raw = model.points.x.row(point);
      const q = await model.posterior(raw, model.conditionOf(point));
      x.show(raw);
      charts.forEach(({ name, chart }, i) => {
        const each = { mean: q.mean[i], sd: q.sd[i] };
        chart.paint((pen, width, height) => paintFeature(pen, width, height, each, each.mean, true));
        numbers[i].textContent = `μ ${format(each.mean)}  σ² ${format(each.sd ** 2, 3)}`;
        chart.label = `${name}: ${numbers[i].textContent}`;
      });
    };
    const control = slider({
      label: "x",
      min: 0,
      max: model.points.n - 1,
      step: 1,
      value: 0,
      format: (value) => String(value),
      oninput: (value) => void show(value),
    });
    void show(0);
    const rows = charts.map(({ name, chart }, i) =>
      h("div", { class: "density" }, h("span", { class: "math" }, name), chart.element, numbers[i]),
    );
    element.append(control.element, h("div", { class: "pair" }, x.element, h("div", { class: "densities one" }, ...rows)));
  },
};
