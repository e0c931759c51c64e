// Scene: the three terms. The width of q is moved; the terms change, their sum does not.
import type { Scene } from "./index";
import type { ThreeTerms } from "./bayes";
import { threeTerms } from "./bayes";
import { chosenPoint, exampleOf } from "./example";
import { Axes, curve, Facts, level, line, named, panel, tag } from "./figure";
import { both } from "./texts";
import { pause } from "../compute/pauses";
import { latest } from "./work";
import { Chart } from "../widgets/charts";
import { format, h, slider } from "../widgets/dom";
import { exampleView } from "../widgets/example_view";
import { colour } from "../widgets/theme";

const STEPS = 16;
const LOG2_REACH = 2; // from a quarter of the encoder's width to four times it
const HIGHEST = 30; // nats below log p(x) that the curves show at most

function factorOf(step: number): number {
  return 2 ** (LOG2_REACH * (step / (STEPS / 2) - 1));
}

export const threeTermsScene: Scene = {
  id: "three-terms",
  name: ["The three terms", "세 항"],
  sentence: [
    "Make q narrower or wider: a narrow q reconstructs better and pays more KL, a wide one the reverse, and the third term, which nobody can compute with many features, always fills the sum up to the same log p(x).",
    "q를 좁히거나 넓혀 보세요. 좁은 q는 재구성이 낫지만 KL을 더 치르고 넓은 q는 그 반대이며, 특징이 많으면 계산할 수 없는 셋째 항이 합을 언제나 같은 log p(x)로 채웁니다.",
  ],
  formulas: ["three-terms-1", "three-terms-2"],
  needs: "vae",
  mount(element, { vae }, scope) {
    const { model } = vae;
    const point = chosenPoint(model).value;
    const x = exampleView(model.run.data, both(["Input x", "입력 x"]), scope);
    const fall = new Chart(both(["The three terms", "세 항"]), "wide-chart", scope);
    const chart = new Chart(both(["ELBO over the width of q", "q의 너비에 따른 ELBO"]), "wide-chart", scope);
    const facts = new Facts()
      .add("reconstruction", named("reconstruction", both(["reconstruction", "재구성"])))
      .add("minus-kl", named("minus-kl", both(["cost of the code", "코드의 비용"])))
      .add("gap", named("gap", both(["not computable in general", "일반적으로 계산 불가"])))
      .add("sum", both(["Sum of the three, nats", "세 항의 합, nat"]), true)
      .add("log-px", named("log-px", both(["by a grid over z, nats", "z의 격자로 구함, nat"])));
    let all: ThreeTerms[] = [];
    let logPx = 0;
    const paint = (step: number) => {
      const terms = all[step];
      if (terms === undefined) return;
      const { reconstruction, kl, gap } = terms;
      facts.show("reconstruction", reconstruction);
      facts.show("minus-kl", -kl);
      facts.show("gap", gap, `+ ${format(gap)}`);
      facts.show("sum", reconstruction - kl + gap);
      facts.show("log-px", logPx);
      const visible = all.filter((each) => each.elbo > logPx - HIGHEST);
      const right = Math.max(...visible.map((each) => each.reconstruction));
      const left = Math.min(...visible.map((each) => each.elbo), logPx - 4);
      const pad = 0.08 * (right - left);
      fall.paint((pen, width, height) => paintFall(pen, width, height, terms, logPx, [left - pad, right + pad]));
      fall.label = `${format(reconstruction)} − ${format(kl)} + ${format(gap)} = ${format(logPx)}`;
      chart.paint((pen, width, height) => paintCurves(pen, width, height, all, logPx, step));
    };
    const control = slider({
      label: both(["width of q", "q의 너비"]),
      min: 0,
      max: STEPS,
      step: 1,
      value: STEPS / 2,
      format: (value) => `${format(factorOf(value))} σ`,
      oninput: paint,
    });
    const open = latest<null>(element, scope, async () => {
      const example = await exampleOf(vae, point);
      logPx = example.evidence.logPx;
      x.show(example.raw);
      const terms: ThreeTerms[] = [];
      for (let step = 0; step <= STEPS; step++) {
        await pause();
        terms.push(await threeTerms(example.evaluate, example.q.scaled(factorOf(step)), logPx));
      }
      all = terms;
      paint(Number(control.input.value));
    });
    const image = h("div", { class: "scene-small" }, x.element);
    element.append(
      control.element,
      h("div", { class: "scene-images side wide" }, panel(named("x", ""), image), facts.element),
      h(
        "div",
        { class: "scene-two" },
        panel(
          both(["From the first term to log p(x), in nats", "첫 항에서 log p(x)까지, nat"]),
          fall.element,
          both([
            "Green: where E_q[log p(x|z)] ends. Blue-grey: the KL to the prior, downwards. Violet: the KL to the posterior, up to log p(x).",
            "초록: E_q[log p(x|z)]의 끝. 청회색: 사전분포까지의 KL만큼 내려감. 보라: 사후분포까지의 KL만큼 log p(x)로 올라감.",
          ]),
        ),
        panel(
          both(["The same for every width of q", "q의 모든 너비에 대해"]),
          chart.element,
          both(["Orange: ELBO, the first two terms. Violet: what is missing to log p(x).", "주황: 앞의 두 항인 ELBO. 보라: log p(x)까지 모자란 것."]),
        ),
      ),
    );
    open(null);
  },
};

/** The terms one after another: down from the reconstruction by the KL, up by the gap. */
function paintFall(
  pen: CanvasRenderingContext2D,
  width: number,
  height: number,
  terms: ThreeTerms,
  logPx: number,
  span: [number, number],
): void {
  const axes = new Axes(pen, width, height, {
    x: span,
    y: [0, 3],
    labels: [both(["nats", "nat"]), ""],
    hasYTicks: false,
  });
  const { reconstruction, elbo } = terms;
  const bars: [number, number, string, string][] = [
    [span[0], reconstruction, "likelihood", "E_q[log p(x|z)]"],
    [elbo, reconstruction, "prior", "− KL(q || p(z))"],
    [elbo, logPx, "truth", "+ KL(q || p(z|x))"],
  ];
  bars.forEach(([from, to, name, text], k) => {
    const y = axes.y(2.8 - k);
    const bar = (axes.bottom - axes.top) / 3 - 22;
    axes.inside(() => {
      pen.fillStyle = colour(name);
      pen.globalAlpha = k === 0 ? 0.35 : 0.9;
      pen.fillRect(axes.x(from), y + 16, Math.max(1.5, axes.x(to) - axes.x(from)), bar);
      pen.globalAlpha = 1;
    });
    tag(axes, text, axes.left + 4, y + 11, name);
  });
  pen.strokeStyle = colour("ink");
  pen.lineWidth = 1.75;
  pen.setLineDash([6, 4]);
  line(pen, axes.x(logPx), axes.top, axes.x(logPx), axes.bottom);
  pen.setLineDash([]);
  const isRight = axes.x(logPx) > (axes.left + axes.right) / 2;
  tag(axes, "log p(x)", axes.x(logPx), 16, "ink", isRight ? "right" : "center");
}

function paintCurves(
  pen: CanvasRenderingContext2D,
  width: number,
  height: number,
  all: ThreeTerms[],
  logPx: number,
  step: number,
): void {
  const lowest = Math.max(logPx - HIGHEST, Math.min(...all.map((each) => each.elbo)));
  const axes = new Axes(pen, width, height, {
    x: [factorOf(0), factorOf(STEPS)],
    y: [lowest - 0.5, logPx + 0.14 * (logPx - lowest) + 0.3],
    labels: [both(["width of q, in σ of the encoder", "q의 너비, 인코더의 σ 단위"]), both(["nats", "nat"])],
    isLogX: true,
  });
  const xs = all.map((_, k) => factorOf(k));
  const ys = all.map((each) => each.elbo);
  axes.inside(() => {
    pen.beginPath();
    xs.forEach((value, k) => pen.lineTo(axes.x(value), axes.y(ys[k])));
    pen.lineTo(axes.right, axes.y(logPx));
    pen.lineTo(axes.left, axes.y(logPx));
    pen.fillStyle = colour("truth-fill");
    pen.fill();
  });
  curve(axes, xs, ys, "posterior", 2.25);
  level(axes, logPx, "ink");
  tag(axes, "log p(x)", axes.left + 8, axes.y(logPx) - 7, "ink");
  const at = axes.x(factorOf(step));
  pen.strokeStyle = colour("truth");
  pen.lineWidth = 3;
  axes.inside(() => line(pen, at, axes.y(logPx), at, axes.y(ys[step])));
  axes.inside(() => {
    pen.beginPath();
    pen.arc(at, axes.y(ys[step]), 5, 0, 7);
    pen.fillStyle = colour("posterior");
    pen.fill();
  });
  tag(axes, "ELBO", axes.left + 8, axes.y(ys[0]) + 18, "posterior");
}
