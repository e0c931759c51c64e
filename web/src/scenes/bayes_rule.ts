// Scene: Bayes' rule. Prior times likelihood over p(x) is the posterior; q is beside it.
import type { Scene } from "./index";
import { centres, fieldOn, squareAround, threeTerms } from "./bayes";
import { exampleSlider, exampleOf } from "./example";
import { densityShade, Facts, massContours, named, paintEllipse, paintField, paintSegments, panel, planeAxes } from "./figure";
import { both } from "./texts";
import { latest } from "./work";
import { Chart } from "../widgets/charts";
import { h } from "../widgets/dom";
import { exampleView } from "../widgets/example_view";
import { colour } from "../widgets/theme";

const CELLS = 64;

export const bayesRule: Scene = {
  id: "bayes-rule",
  name: ["Bayes' rule", "베이즈 정리"],
  sentence: [
    "Choose another x: the likelihood cuts a small region out of the prior, which is the true posterior p(z|x), and q of the encoder is a normal laid over it.",
    "다른 x를 골라 보세요. 가능도가 사전분포에서 작은 영역을 도려낸 것이 진짜 사후분포 p(z|x)이고, 인코더의 q는 그 위에 놓인 정규분포입니다.",
  ],
  formulas: ["bayes-rule"],
  needs: "vae",
  mount(element, { vae }, scope) {
    const { model } = vae;
    const x = exampleView(model.run.data, both(["Input x", "입력 x"]), scope);
    const labels: [string, string][] = [
      ["prior", both(["before x is seen", "x를 보기 전"])],
      ["likelihood", both(["how well z explains x", "z가 x를 설명하는 정도"])],
      ["posterior", both(["the true posterior", "진짜 사후분포"])],
      ["q", both(["the encoder", "인코더"])],
    ];
    const charts = labels.map(([name, words]) => new Chart(`${name}, ${words}`, "plane-chart", scope));
    const facts = new Facts()
      .add("log-px", named("log-px", both(["by a grid over z, nats", "z의 격자로 구함, nat"])))
      .add("gap", named("gap", both(["nats", "nat"])));
    const show = latest<number>(element, scope, async (point) => {
      const example = await exampleOf(vae, point);
      const { q, evaluate, wide, evidence } = example;
      const zoom = squareAround(evidence.box, q, 1.15);
      const near = await fieldOn(evaluate, zoom, CELLS, CELLS);
      const { gap } = await threeTerms(evaluate, q, evidence.logPx);
      x.show(example.raw);
      facts.show("log-px", evidence.logPx);
      facts.show("gap", gap);
      const { x0, x1, y0, y1 } = zoom;
      const whole = vae.planeData.value.frame;
      const outside = centres(wide.frame, wide.columns, wide.rows);
      const isOutside = (place: number) => {
        const [zx, zy] = [outside[2 * place], outside[2 * place + 1]];
        return zx < x0 || zx > x1 || zy < y0 || zy > y1;
      };
      const parts = [
        { name: "prior", far: wide.logPrior, close: near.logPrior },
        { name: "likelihood", far: wide.logLikelihood, close: near.logLikelihood },
      ];
      parts.forEach(({ name, far, close }, k) => {
        const highest = Math.max(...far, ...close);
        charts[k].paint((pen, width, height) => {
          const axes = planeAxes(pen, width, height, whole);
          const isWide = name === "prior"; // smooth, so that the finer cells are not needed
          const shade = densityShade(far, highest);
          paintField(axes, wide, (place) => (isWide || isOutside(place) ? shade(place) : 0), name);
          if (!isWide) paintField(axes, near, densityShade(close, highest), name);
          pen.strokeStyle = colour("ink");
          pen.lineWidth = 1.25;
          pen.strokeRect(axes.x(x0), axes.y(y1), axes.x(x1) - axes.x(x0), axes.y(y0) - axes.y(y1));
        });
      });
      charts[2].paint((pen, width, height) => {
        const axes = planeAxes(pen, width, height, zoom);
        paintField(axes, near, densityShade(near.logJoint), "truth");
        paintSegments(axes, massContours(near, near.logJoint), "truth");
      });
      charts[3].paint((pen, width, height) => {
        const axes = planeAxes(pen, width, height, zoom);
        paintSegments(axes, massContours(near, near.logJoint), "truth");
        paintEllipse(axes, q.ellipse);
      });
    });
    const notes = [
      null,
      both(["The frame is the region of the panels below.", "테두리는 아래 그림의 영역입니다."]),
      both(["Prior times likelihood, divided by p(x). Contours: 50 and 90 %.", "사전분포와 가능도의 곱을 p(x)로 나눈 것. 등고선: 50 %와 90 %."]),
      both(["Orange: one and two standard deviations of q. Violet: the true posterior.", "주황: q의 표준편차 1배와 2배. 보라: 진짜 사후분포."]),
    ];
    const panels = charts.map((chart, k) => panel(named(labels[k][0], labels[k][1]), chart.element, notes[k]));
    const image = h("div", { class: "scene-small" }, x.element);
    element.append(
      exampleSlider(model, show, scope),
      h("div", { class: "scene-images side wide" }, panel(named("x", ""), image), facts.element),
      h("div", { class: "scene-four" }, ...panels),
    );
  },
};
