// Scene: mean and variance. The encoder gives a mean and a variance for each feature of x.
import type { Scene } from "./index";
import { exampleSlider } from "./example";
import { Axes, curve, Facts, named, paintEllipse, panel, planeAxes } from "./figure";
import { Normal2 } from "./normal2";
import { both } from "./texts";
import { latest } from "./work";
import { Chart } from "../widgets/charts";
import { format, h } from "../widgets/dom";
import { exampleView } from "../widgets/example_view";
import { classColours, colour } from "../widgets/theme";

const SAMPLES = 241;

function normal(x: number, mean: number, sd: number): number {
  return Math.exp(-0.5 * ((x - mean) / sd) ** 2) / (sd * Math.sqrt(2 * Math.PI));
}

/** p(z) and q of one feature as densities on one scale. */
function paintDensities(pen: CanvasRenderingContext2D, width: number, height: number, name: string, mean: number, sd: number): void {
  const reach = Math.max(3.4, Math.abs(mean) + 4 * sd);
  const top = 1.08 * Math.max(0.4, normal(mean, mean, sd));
  const axes = new Axes(pen, width, height, {
    x: [-reach, reach],
    y: [0, top],
    labels: [name, both(["density", "밀도"])],
  });
  const paint = (m: number, s: number, tint: string) => {
    // the peak is among the places, so that narrow curves keep their height
    const xs = Array.from({ length: SAMPLES }, (_, k) => -reach + (2 * reach * k) / (SAMPLES - 1));
    const near = Array.from({ length: 81 }, (_, k) => m + s * (k / 10 - 4));
    const all = [...xs, ...near].sort((a, b) => a - b);
    const ys = all.map((x) => normal(x, m, s));
    axes.inside(() => {
      pen.fillStyle = colour(`${tint}-fill`);
      pen.beginPath();
      all.forEach((x, i) => pen.lineTo(axes.x(x), axes.y(ys[i])));
      pen.lineTo(axes.x(all[all.length - 1]), axes.y(0));
      pen.lineTo(axes.x(all[0]), axes.y(0));
      pen.fill();
    });
    curve(axes, all, ys, tint);
  };
  paint(0, 1, "prior");
  paint(mean, sd, "posterior");
}

export const meanAndVariance: Scene = {
  id: "mean-and-variance",
  name: ["Mean and variance", "평균과 분산"],
  sentence: [
    "Choose another x: the encoder answers not with a point but with a mean and a variance for each feature, a small normal distribution inside p(z).",
    "다른 x를 골라 보세요. 인코더는 점이 아니라 특징마다 평균과 분산, 곧 p(z) 안의 작은 정규분포를 내놓습니다.",
  ],
  formulas: ["mean-and-variance"],
  needs: "vae",
  mount(element, { vae }, scope) {
    const { model } = vae;
    const x = exampleView(model.run.data, both(["Input x", "입력 x"]), scope);
    const plane = new Chart(both(["q(z|x) in the plane", "평면의 q(z|x)"]), "plane-chart", scope);
    const charts = ["z₁", "z₂"].map((name) => new Chart(name, "wide-chart", scope));
    const facts = new Facts();
    for (const i of [0, 1]) {
      const letter = "₁₂"[i];
      facts.add(`mean-${i + 1}`, `μ${letter}`).add(`variance-${i + 1}`, `σ${letter}²`);
    }
    const { xy, frame } = vae.planeData.value;
    const show = latest<number>(element, scope, async (point) => {
      const raw = model.points.x.row(point);
      const q = await model.posterior(raw, model.conditionOf(point));
      x.show(raw);
      charts.forEach((chart, i) => {
        const [mean, sd] = [q.mean[i], q.sd[i]];
        const name = `z${"₁₂"[i]}`;
        chart.paint((pen, width, height) => paintDensities(pen, width, height, name, mean, sd));
        chart.label = `${name}: μ ${format(mean)}, σ² ${format(sd ** 2, 3)}`;
        facts.show(`mean-${i + 1}`, mean, format(mean));
        facts.show(`variance-${i + 1}`, sd ** 2, format(sd ** 2, 4));
      });
      const normal2 = Normal2.diagonal(q.mean, q.sd);
      plane.paint((pen, width, height) => {
        const axes = planeAxes(pen, width, height, frame);
        const { labels } = model.points;
        const tints = classColours(Math.max(1, model.run.data.classes?.length ?? 1));
        axes.inside(() => {
          pen.globalAlpha = 0.4;
          for (let i = 0; i < xy.length / 2; i++) {
            const label = labels?.[i] ?? -1;
            pen.fillStyle = label < 0 ? colour("point") : tints[label];
            pen.beginPath();
            pen.arc(axes.x(xy[2 * i]), axes.y(xy[2 * i + 1]), 2.2, 0, 7);
            pen.fill();
          }
          pen.globalAlpha = 1;
        });
        paintEllipse(axes, { x: 0, y: 0, xx: 1, xy: 0, yy: 1 }, "prior", false);
        paintEllipse(axes, normal2.ellipse);
      });
    });
    const note = both([
      "Blue-grey: p(z) = N(0, I). Orange: q(z|x), one and two standard deviations. Dots: means of other x.",
      "청회색: p(z) = N(0, I). 주황: q(z|x)의 표준편차 1배와 2배. 점: 다른 x의 평균.",
    ]);
    const image = h("div", { class: "scene-small" }, x.element);
    element.append(
      exampleSlider(model, show, scope),
      h(
        "div",
        { class: "scene-two" },
        panel(named("q", both(["and p(z) in the plane", "와 p(z), 평면에서"])), plane.element, note),
        h(
          "div",
          { class: "scene-stack" },
          h("div", { class: "scene-images side" }, panel(named("x", ""), image), facts.element),
          charts[0].element,
          charts[1].element,
        ),
      ),
    );
  },
};
