// Scene: why p(x) is out of reach. Draws of p(z) against draws of q; grids of d features.
import type { Scene } from "./index";
import { carriers, fieldOn, runningLogMean, squareAround } from "./bayes";
import { chosenPoint, exampleOf } from "./example";
import { Axes, curve, Facts, level, massContours, named, paintSegments, panel, planeAxes, tag } from "./figure";
import { both } from "./texts";
import { latest } from "./work";
import { Random } from "../distributions/random";
import { Chart } from "../widgets/charts";
import { format, h, slider } from "../widgets/dom";
import { colour } from "../widgets/theme";

const LOG_MOST = 12; // 4096 draws
const MOST = 2 ** LOG_MOST;
const SHARE = 0.99;
const CELLS = 48; // of the grid around the posterior
const PER_SD = 2; // grid points per standard deviation of the posterior
const SPAN = 8; // standard deviations of p(z) that a grid covers
const YEAR = 365.25 * 24 * 3600;

/** Draws with their log-weights and the running estimate. */
interface Estimate {
  z: Float64Array;
  logWeights: Float64Array;
  running: Float64Array;
}

function powerText(log10: number): Node {
  if (log10 < 6) return h("span", {}, Math.round(10 ** log10).toLocaleString("en"));
  return h("span", {}, "10", h("sup", {}, String(Math.round(log10))));
}

function durationText(log10Seconds: number): Node | string {
  if (log10Seconds < 0) return both(["under 1 s", "1초 미만"]);
  const seconds = 10 ** log10Seconds;
  if (seconds < 120) return both([`${format(seconds, 0)} s`, `${format(seconds, 0)}초`]);
  if (seconds < 7200) return both([`${format(seconds / 60, 0)} min`, `${format(seconds / 60, 0)}분`]);
  if (seconds < 2 * 86400) return both([`${format(seconds / 3600, 0)} h`, `${format(seconds / 3600, 0)}시간`]);
  if (seconds < 2 * YEAR) return both([`${format(seconds / 86400, 0)} days`, `${format(seconds / 86400, 0)}일`]);
  const years = powerText(log10Seconds - Math.log10(YEAR));
  return h("span", {}, years, both([" years", "년"]));
}

export const outOfReach: Scene = {
  id: "out-of-reach",
  name: ["Why p(x) is out of reach", "p(x)를 구할 수 없는 까닭"],
  sentence: [
    "Draw more z: of the draws from p(z) only a few hit the z that explain x, so that their mean is far off for long, while a few draws from q suffice; and a grid grows beyond all time with the number of features.",
    "z를 더 뽑아 보세요. p(z)의 표본은 x를 설명하는 z에 드물게만 닿아 오래 빗나가지만 q의 표본은 몇 개로 충분하고, 격자는 특징의 수에 따라 끝없이 커집니다.",
  ],
  formulas: ["out-of-reach"],
  needs: "vae",
  mount(element, { vae, main }, scope) {
    const { model } = vae;
    const point = chosenPoint(model).value;
    const chart = new Chart(both(["Estimates of log p(x)", "log p(x)의 추정"]), "tall-chart", scope);
    const plane = new Chart(both(["Draws in the plane of z", "z 평면의 표본"]), "plane-chart", scope);
    const facts = new Facts()
      .add("from-prior", named("prior", both(["estimate of log p(x)", "log p(x)의 추정"])))
      .add("from-q", named("q", both(["estimate of log p(x)", "log p(x)의 추정"])))
      .add("log-px", named("log-px", both(["by a grid over z", "z의 격자로 구한 값"])), true)
      .add("carriers-prior", named("prior", both(["draws that carry 99 %", "99 %를 이루는 표본"])))
      .add("carriers-q", named("q", both(["draws that carry 99 %", "99 %를 이루는 표본"])));
    const table = h("tbody");
    let show = (_: number) => {};
    let exponent = 5;
    const control = slider({
      label: both(["draws n", "표본 n"]),
      min: 0,
      max: LOG_MOST,
      step: 1,
      value: exponent,
      format: (value) => String(2 ** value),
      oninput: (value) => {
        exponent = value;
        show(value);
      },
    });
    const open = latest<null>(element, scope, async () => {
      const example = await exampleOf(vae, point);
      const { q, evaluate } = example;
      const { logPx, box } = example.evidence;
      const random = new Random(2);
      const [fromPrior, fromQ] = [random.normals(2 * MOST), new Float64Array(2 * MOST)];
      for (let i = 0; i < MOST; i++) fromQ.set(q.sample(random), 2 * i);
      const started = performance.now();
      const prior = await evaluate(fromPrior, MOST);
      const rate = MOST / Math.max(1e-3, (performance.now() - started) / 1000);
      const posterior = await evaluate(fromQ, MOST);
      const weights = posterior.logLikelihood.map(
        (value, i) => value + posterior.logPrior[i] - q.logDensity(fromQ[2 * i], fromQ[2 * i + 1]),
      );
      const estimates: [Estimate, Estimate] = [
        { z: fromPrior, logWeights: prior.logLikelihood, running: runningLogMean(prior.logLikelihood) },
        { z: fromQ, logWeights: weights, running: runningLogMean(weights) },
      ];
      facts.show("log-px", logPx);
      const near = await fieldOn(evaluate, squareAround(box, null, 1.1), CELLS, CELLS);
      const contours = massContours(near, near.logJoint, [0.9]);
      const span = squareAround({ x0: -3.2, x1: 3.2, y0: -3.2, y1: 3.2 }, q, 1);
      const low = Math.min(estimates[0].running[0], logPx - 8);
      show = (k) => {
        const n = 2 ** k;
        estimates.forEach(({ running, logWeights }, i) => {
          const name = i === 0 ? "prior" : "q";
          facts.show(`from-${name}`, running[n - 1]);
          const count = carriers(logWeights.slice(0, n), SHARE);
          facts.show(`carriers-${name}`, count, both([`${count} of ${n}`, `${n}개 중 ${count}개`]));
        });
        chart.paint((pen, width, height) => paintEstimates(pen, width, height, estimates, logPx, n, low));
        plane.paint((pen, width, height) => {
          const axes = planeAxes(pen, width, height, span);
          paintSegments(axes, contours, "truth", 2);
          axes.inside(() => {
            for (const [i, name] of [[0, "prior"], [1, "posterior"]] as const) {
              pen.fillStyle = colour(name);
              pen.globalAlpha = n > 500 ? 0.45 : 0.85;
              const { z } = estimates[i];
              for (let j = 0; j < n; j++) {
                pen.beginPath();
                pen.arc(axes.x(z[2 * j]), axes.y(z[2 * j + 1]), n > 500 ? 1.6 : 2.8, 0, 7);
                pen.fill();
              }
            }
            pen.globalAlpha = 1;
          });
        });
      };
      show(exponent);
      fillTable(Math.min(box.x1 - box.x0, box.y1 - box.y0), rate);
    });
    const fillTable = (side: number, rate: number) => {
      // the box reaches to exp(-9) of the peak: 4.24 standard deviations of a normal to each side
      const sd = side / (2 * Math.sqrt(18));
      const perFeature = Math.max(2, Math.ceil((PER_SD * SPAN) / sd));
      const sizes = [...new Set([1, 2, 3, 4, 8, main.model.width])].sort((a, b) => a - b);
      table.replaceChildren(
        ...sizes.map((d) => {
          const log10 = d * Math.log10(perFeature);
          return h(
            "tr",
            {},
            h("td", {}, d === main.model.width ? both([`${d} (${main.model.run.name})`, `${d} (${main.model.run.name})`]) : String(d)),
            h("td", { "data-name": `grid-${d}`, "data-value": String(log10) }, powerText(log10)),
            h("td", {}, durationText(log10 - Math.log10(rate))),
          );
        }),
      );
      tableNote.textContent = both([
        `${perFeature} points per feature, ${PER_SD} for each standard deviation of p(z|x). Time at the speed just measured in this page.`,
        `특징마다 ${perFeature}점, p(z|x)의 표준편차마다 ${PER_SD}점. 시간은 방금 이 페이지에서 잰 속도로 셈한 값입니다.`,
      ]);
    };
    const tableNote = h("p", { class: "note" });
    const head = [both(["features", "특징"]), both(["grid points", "격자점"]), both(["time", "시간"])];
    element.append(
      control.element,
      h(
        "div",
        { class: "scene-two" },
        h(
          "div",
          { class: "scene-stack" },
          panel(both(["The estimate after n draws", "표본 n개의 추정"]), chart.element),
          panel(
            both(["A grid over all z instead", "모든 z의 격자라면"]),
            h("table", { class: "scene-table" }, h("thead", {}, h("tr", {}, ...head.map((text) => h("th", { scope: "col" }, text)))), table),
            tableNote,
          ),
        ),
        h(
          "div",
          { class: "scene-stack" },
          panel(
            both(["The draws", "표본"]),
            plane.element,
            both([
              "Blue-grey: draws of p(z). Orange: draws of q. Violet: 90 % of p(z|x).",
              "청회색: p(z)의 표본. 주황: q의 표본. 보라: p(z|x)의 90 %.",
            ]),
          ),
          facts.element,
        ),
      ),
    );
    open(null);
  },
};

function paintEstimates(
  pen: CanvasRenderingContext2D,
  width: number,
  height: number,
  estimates: readonly [Estimate, Estimate],
  logPx: number,
  n: number,
  low: number,
): void {
  const axes = new Axes(pen, width, height, {
    x: [1, MOST],
    y: [Math.max(low, logPx - 60), logPx + 6],
    labels: [both(["draws n", "표본 n"]), both(["log p(x), nats", "log p(x), nat"])],
    isLogX: true,
  });
  const xs = Float64Array.from({ length: n }, (_, i) => i + 1);
  curve(axes, xs, estimates[0].running.subarray(0, n), "prior");
  curve(axes, xs, estimates[1].running.subarray(0, n), "posterior");
  level(axes, logPx, "ink");
  tag(axes, "log p(x)", axes.right - 4, axes.y(logPx) - 8, "ink", "right");
  for (const [i, name, text] of [[0, "prior", "z ~ p(z)"], [1, "posterior", "z ~ q(z|x)"]] as const) {
    const y = estimates[i].running[n - 1];
    axes.inside(() => {
      pen.fillStyle = colour(name);
      pen.beginPath();
      pen.arc(axes.x(n), axes.y(y), 4, 0, 7);
      pen.fill();
    });
    tag(axes, text, axes.right - 8, axes.bottom - 10 - 18 * (1 - i), name, "right");
  }
}
