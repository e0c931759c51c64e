// Scene: marginalisation. The integral over z fills in from left to right.
import type { Scene } from "./index";
import { chosenPoint, exampleOf } from "./example";
import type { Field } from "./bayes";
import { centres, fieldOn, squareAround } from "./bayes";
import { Axes, curve, densityShade, Facts, line, named, paintField, panel, planeAxes } from "./figure";
import { both } from "./texts";
import { latest } from "./work";
import { logSumExp } from "../distributions/special";
import { Chart } from "../widgets/charts";
import { button, format, h, percent, slider } from "../widgets/dom";
import { exampleView } from "../widgets/example_view";
import { colour, reducedMotion } from "../widgets/theme";

const CELLS = 80;
const SECONDS = 5; // of the sweep

/** The integral over z₂ of each column, relative to p(x), and its running sum in nats. */
interface Columns {
  z: Float64Array;
  density: Float64Array;
  logSoFar: Float64Array;
  best: Float64Array;
}

function columnsOf(field: Field, logPx: number): Columns {
  const { columns, rows, frame, logJoint, cell } = field;
  const width = (frame.x1 - frame.x0) / columns;
  const places = centres(frame, columns, rows);
  const z = new Float64Array(columns);
  const density = new Float64Array(columns);
  const logSoFar = new Float64Array(columns);
  const best = new Float64Array(2 * columns);
  let sum = -Infinity;
  for (let i = 0; i < columns; i++) {
    const values = Float64Array.from({ length: rows }, (_, j) => logJoint[j * columns + i]);
    const mass = logSumExp(values) + Math.log(cell);
    sum = logSumExp([sum, mass]);
    const highest = values.indexOf(Math.max(...values));
    z[i] = places[2 * i];
    density[i] = Math.exp(mass - logPx) / width;
    logSoFar[i] = sum;
    best.set(places.subarray(2 * (highest * columns + i), 2 * (highest * columns + i) + 2), 2 * i);
  }
  return { z, density, logSoFar, best };
}

export const marginalisation: Scene = {
  id: "marginalisation",
  name: ["Marginalisation", "주변화"],
  sentence: [
    "Sweep over z: each z adds p(z) p(x|z), the sum over all z is p(x), and almost all of it comes from the few z that explain this x.",
    "z를 훑어 보세요. z마다 p(z) p(x|z)가 더해지고 모든 z에 대한 합이 p(x)인데, 거의 전부가 이 x를 설명하는 적은 수의 z에서 나옵니다.",
  ],
  formulas: ["marginalisation"],
  needs: "vae",
  mount(element, { vae }, scope) {
    const { model } = vae;
    const { data } = model.run;
    const point = chosenPoint(model).value;
    const x = exampleView(data, both(["Input x", "입력 x"]), scope);
    const explained = exampleView(data, both(["x decoded from z", "z를 복원한 x"]), scope);
    const plane = new Chart(both(["p(z) p(x|z) over z", "z에 대한 p(z) p(x|z)"]), "plane-chart", scope);
    const chart = new Chart(both(["The integral over z₂", "z₂에 대한 적분"]), "wide-chart", scope);
    const facts = new Facts()
      .add("share", both(["Share of p(x) so far", "지금까지의 p(x) 비율"]))
      .add("so-far", both(["log of the integral so far", "지금까지 적분의 log"]))
      .add("log-px", named("log-px", both(["over all z, nats", "모든 z, nat"])), true)
      .add("outside", both(["Share outside this frame", "이 틀 밖의 비율"]));
    let ready: { field: Field; columns: Columns; means: Float32Array; logPx: number } | null = null;
    let at = reducedMotion.matches ? CELLS : 0;
    const paint = (count: number) => {
      at = Math.round(count);
      if (ready === null) return;
      const { field, columns, means, logPx } = ready;
      const { frame } = field;
      const width = (frame.x1 - frame.x0) / CELLS;
      const edge = frame.x0 + at * width;
      const soFar = at === 0 ? -Infinity : columns.logSoFar[at - 1];
      facts.show("share", Math.exp(soFar - logPx), percent(Math.exp(soFar - logPx)));
      facts.show("so-far", at === 0 ? null : soFar, at === 0 ? "−∞" : format(soFar));
      const row = Math.max(0, at - 1);
      const size = means.length / CELLS;
      explained.show(means.subarray(row * size, (row + 1) * size));
      const shade = densityShade(field.logJoint);
      plane.paint((pen, w, height) => {
        const axes = planeAxes(pen, w, height, frame);
        paintField(axes, field, (place) => 0.22 * shade(place), "muted");
        paintField(axes, field, (place) => (place % CELLS < at ? shade(place) : 0), "truth");
        pen.strokeStyle = colour("accent");
        pen.lineWidth = 2;
        line(pen, axes.x(edge), axes.top, axes.x(edge), axes.bottom);
        axes.inside(() => {
          pen.beginPath();
          pen.arc(axes.x(columns.best[2 * row]), axes.y(columns.best[2 * row + 1]), 4.5, 0, 7);
          pen.fillStyle = colour("accent");
          pen.fill();
        });
      });
      chart.paint((pen, w, height) => paintColumns(pen, w, height, field, columns, at));
      chart.label = both([`log of the integral so far: ${format(soFar)} nats`, `지금까지 적분의 log: ${format(soFar)} nat`]);
    };
    const control = slider({
      label: both(["swept", "훑은 곳"]),
      min: 0,
      max: CELLS,
      step: 1,
      value: at,
      format: (value) => percent(value / CELLS),
      oninput: (value) => {
        stop();
        paint(value);
      },
    });
    let frameRequest = 0;
    const stop = () => cancelAnimationFrame(frameRequest);
    scope.add(stop);
    const play = () => {
      stop();
      const start = performance.now();
      const step = (now: number) => {
        const count = Math.min(CELLS, Math.max(0, ((now - start) / (1000 * SECONDS)) * CELLS));
        control.set(Math.round(count));
        paint(count);
        if (count < CELLS) frameRequest = requestAnimationFrame(step);
      };
      frameRequest = requestAnimationFrame(step);
    };
    const open = latest<null>(element, scope, async () => {
      const example = await exampleOf(vae, point);
      const { logPx, box } = example.evidence;
      const field = await fieldOn(example.evaluate, squareAround(box, null, 2.2), CELLS, CELLS);
      const columns = columnsOf(field, logPx);
      const means = (await model.means(columns.best, CELLS, model.conditionOf(point))).slice();
      ready = { field, columns, means, logPx };
      x.show(example.raw);
      facts.show("log-px", logPx);
      const outside = Math.max(0, 1 - Math.exp(columns.logSoFar[CELLS - 1] - logPx));
      facts.show("outside", outside, outside < 0.0005 ? "< 0.1 %" : percent(outside));
      if (reducedMotion.matches || at > 0) paint(at);
      else play();
    });
    const replay = reducedMotion.matches ? null : button(both(["Sweep", "훑기"]), play, "quiet");
    const small = (view: HTMLElement) => h("div", { class: "scene-small" }, view);
    element.append(
      h("div", { class: "row scene-control" }, control.element, replay),
      h(
        "div",
        { class: "scene-two" },
        panel(
          h("span", {}, named("prior", ""), named("likelihood", both(["over the plane of z", "z의 평면에서"]))),
          plane.element,
          both([
            "Violet: already summed. The blue dot is the best z of the column; its decoded x stands beside x.",
            "보라: 이미 더한 곳. 파란 점은 그 열에서 가장 좋은 z이고, 그것을 복원한 x가 x 옆에 있습니다.",
          ]),
        ),
        h(
          "div",
          { class: "scene-stack" },
          h("div", { class: "scene-images trio" }, panel(named("x", ""), small(x.element)), panel(named("mean-x", both(["at the dot", "점에서"])), small(explained.element))),
          panel(
            both(["The inner integral over z₂, for each z₁", "z₁마다 z₂에 대한 안쪽 적분"]),
            chart.element,
            both(["Its area is p(x); it is drawn as a share of p(x).", "넓이가 p(x)이며, p(x)에 대한 비율로 그렸습니다."]),
          ),
          facts.element,
        ),
      ),
    );
    open(null);
  },
};

function paintColumns(pen: CanvasRenderingContext2D, width: number, height: number, field: Field, columns: Columns, at: number): void {
  const { frame } = field;
  const axes = new Axes(pen, width, height, {
    x: [frame.x0, frame.x1],
    y: [0, 1.1 * Math.max(...columns.density)],
    labels: ["z₁", both(["∫ p(z) p(x|z) dz₂ / p(x)", "∫ p(z) p(x|z) dz₂ / p(x)"])],
  });
  curve(axes, columns.z, columns.density, "axis", 1.5);
  if (at === 0) return;
  axes.inside(() => {
    pen.beginPath();
    pen.moveTo(axes.x(columns.z[0]), axes.bottom);
    for (let i = 0; i < at; i++) pen.lineTo(axes.x(columns.z[i]), axes.y(columns.density[i]));
    pen.lineTo(axes.x(columns.z[at - 1]), axes.bottom);
    pen.fillStyle = colour("truth-fill");
    pen.fill();
  });
  curve(axes, columns.z.subarray(0, at), columns.density.subarray(0, at), "truth");
}
