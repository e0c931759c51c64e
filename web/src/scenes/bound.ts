// Scene: the ELBO. q is moved by hand; the gap to log p(x) is KL(q || p(z|x)).
import type { Scene } from "./index";
import type { Example } from "./example";
import type { Field, ThreeTerms } from "./bayes";
import { fieldOn, squareAround, threeTerms } from "./bayes";
import { chosenPoint, exampleOf } from "./example";
import { Axes, densityShade, Facts, level, line, massContours, named, paintEllipse, paintField, paintSegments, panel, planeAxes, tag } from "./figure";
import { Normal2 } from "./normal2";
import { NormalHandles } from "./normal_handles";
import { minimise } from "./simplex";
import { both } from "./texts";
import { pause } from "../compute/pauses";
import { latest } from "./work";
import type { Segment } from "../distributions/density";
import { Chart } from "../widgets/charts";
import { button, format, h } from "../widgets/dom";
import { exampleView } from "../widgets/example_view";
import { colour, reducedMotion } from "../widgets/theme";

const CELLS = 64;
const MOST = 240; // evaluations of the search for the best normal
const SPANS = [8, 25, 80, 250, 800, 2500]; // nats that the column shows at most

interface Stage {
  example: Example;
  near: Field;
  contours: Segment[];
}

export const bound: Scene = {
  id: "elbo",
  name: ["The ELBO", "ELBO"],
  sentence: [
    "Move, widen and turn q by hand: the ELBO rises as q comes nearer to p(z|x), never passes log p(x), and touches it only where q is the posterior.",
    "q를 손으로 옮기고 넓히고 기울여 보세요. ELBO는 q가 p(z|x)에 가까워질수록 오르지만 log p(x)를 넘지 못하며, q가 사후분포일 때에만 닿습니다.",
  ],
  formulas: ["bound"],
  needs: "vae",
  mount(element, { vae }, scope) {
    const { model } = vae;
    const point = chosenPoint(model).value;
    const x = exampleView(model.run.data, both(["Input x", "입력 x"]), scope);
    const plane = new Chart(both(["q over the true posterior", "진짜 사후분포 위의 q"]), "plane-chart", scope);
    const column = new Chart(both(["ELBO and log p(x)", "ELBO와 log p(x)"]), "tall-chart", scope);
    const facts = new Facts()
      .add("elbo", named("elbo", both(["of this q", "이 q의 값"])))
      .add("gap", named("gap", both(["the gap", "간극"])))
      .add("sum", both(["Sum of the two, nats", "두 값의 합, nat"]), true)
      .add("log-px", named("log-px", both(["by a grid over z, nats", "z의 격자로 구함, nat"])));
    let stage: Stage | null = null;
    let q = new Normal2(0, 0, 1, 0, 1);
    let isSearching = false;
    scope.add(() => (isSearching = false));
    const handles = new NormalHandles(
      plane.element,
      q,
      (moved) => {
        isSearching = false;
        setQ(moved);
      },
      both(["q: arrow keys move it, Shift and arrow keys change its widths, comma and full stop turn it", "q: 화살표로 옮기고, Shift와 화살표로 너비를 바꾸고, 쉼표와 마침표로 기울입니다"]),
    );
    const paintPlane = () => {
      if (stage === null) return;
      const { near, contours } = stage;
      plane.paint((pen, width, height) => {
        const axes = planeAxes(pen, width, height, near.frame);
        paintField(axes, near, densityShade(near.logJoint), "truth");
        paintSegments(axes, contours, "truth", 1.25);
        paintEllipse(axes, q.ellipse);
        handles.paint(axes);
      });
    };
    const showTerms = (terms: ThreeTerms, logPx: number) => {
      facts.show("elbo", terms.elbo);
      facts.show("gap", terms.gap, format(terms.gap, terms.gap < 1 ? 3 : 2));
      facts.show("sum", terms.elbo + terms.gap);
      column.paint((pen, width, height) => paintColumn(pen, width, height, terms, logPx));
      column.label = `ELBO ${format(terms.elbo)}, KL ${format(terms.gap, 3)}, log p(x) ${format(logPx)}`;
    };
    const compute = latest<null>(element, scope, async () => {
      if (stage === null) await prepare();
      const { example } = stage!;
      showTerms(await threeTerms(example.evaluate, q, example.evidence.logPx), example.evidence.logPx);
    });
    const setQ = (moved: Normal2) => {
      q = moved;
      handles.set(q);
      paintPlane();
      compute(null);
    };
    const prepare = async () => {
      const example = await exampleOf(vae, point);
      const frame = squareAround(example.evidence.box, example.q, 1.7);
      const near = await fieldOn(example.evaluate, frame, CELLS, CELLS);
      stage = { example, near, contours: massContours(near, near.logJoint) };
      x.show(example.raw);
      facts.show("log-px", example.evidence.logPx);
      // beside the posterior and too wide, so that there is a gap to close
      const { q: encoder } = example;
      q = encoder.moved(encoder.x + 2 * encoder.a, encoder.y - 2 * encoder.c).scaled(1.4);
      handles.set(q);
      paintPlane();
    };
    const search = async () => {
      if (stage === null) return;
      isSearching = true;
      const { evaluate, evidence } = stage.example;
      const unpack = ([mx, my, a, b, c]: number[]) => new Normal2(mx, my, Math.exp(a), b, Math.exp(c));
      const steps = [q.a / 2, q.c / 2, 0.3, q.c / 3, 0.3];
      const start = [q.x, q.y, Math.log(q.a), q.b, Math.log(q.c)];
      const show = (at: number[]) => {
        q = unpack(at);
        handles.set(q);
        paintPlane();
      };
      const best = await minimise(
        async (at) => {
          await pause();
          return isSearching ? -(await threeTerms(evaluate, unpack(at), evidence.logPx)).elbo : 0;
        },
        start,
        steps,
        MOST,
        (at, value) => {
          if (!isSearching) return false;
          if (!reducedMotion.matches) {
            show(at);
            compute(null);
          }
          return Number.isFinite(value);
        },
      );
      if (!isSearching) return;
      isSearching = false;
      setQ(unpack(best.at));
    };
    const presets = h(
      "div",
      { class: "row" },
      button(both(["Let q climb to the best normal", "가장 좋은 정규분포까지 q 올리기"]), () => void search()),
      button(both(["q of the encoder", "인코더의 q"]), () => {
        isSearching = false;
        if (stage !== null) setQ(stage.example.q);
      }, "quiet"),
    );
    const image = h("div", { class: "scene-small" }, x.element);
    element.append(
      presets,
      h(
        "div",
        { class: "scene-sides" },
        panel(
          named("q", both(["drag the disc to move it, the squares to widen and turn it", "원을 끌어 옮기고 네모로 넓히고 기울입니다"])),
          plane.element,
          both([
            "Violet: the true posterior p(z|x), with 50 and 90 % of its mass. Orange: one and two standard deviations of q.",
            "보라: 진짜 사후분포 p(z|x)와 그 질량의 50 %, 90 %. 주황: q의 표준편차 1배와 2배.",
          ]),
        ),
        h(
          "div",
          { class: "scene-stack" },
          panel(both(["Below log p(x): the bound, and the gap", "log p(x) 아래: 하한과 간극"]), column.element),
          facts.element,
          panel(named("x", ""), image),
        ),
      ),
    );
    compute(null);
  },
};

/** A column up to the ELBO, and above it the gap to log p(x). */
function paintColumn(pen: CanvasRenderingContext2D, width: number, height: number, terms: ThreeTerms, logPx: number): void {
  const span = SPANS.find((each) => each > 1.15 * terms.gap) ?? 1.2 * terms.gap;
  const axes = new Axes(pen, width, height, {
    x: [0, 1],
    y: [logPx - span, logPx + 0.1 * span],
    labels: ["", both(["nats", "nat"])],
    hasXTicks: false,
  });
  const [left, right] = [axes.x(0.12), axes.x(0.62)];
  const [top, middle] = [axes.y(logPx), axes.y(Math.max(terms.elbo, axes.ys[0]))];
  pen.fillStyle = colour("posterior");
  pen.globalAlpha = 0.8;
  pen.fillRect(left, middle, right - left, axes.bottom - middle);
  pen.globalAlpha = 1;
  pen.fillStyle = colour("truth-fill");
  pen.fillRect(left, top, right - left, middle - top);
  pen.strokeStyle = colour("truth");
  pen.lineWidth = 1;
  pen.save();
  pen.beginPath();
  pen.rect(left, top, right - left, middle - top);
  pen.clip();
  for (let at = left - axes.bottom; at < right; at += 8) line(pen, at, middle, at + (middle - top) + 8, top - 8);
  pen.restore();
  level(axes, logPx, "ink");
  tag(axes, "log p(x)", axes.right - 2, top - 7, "ink", "right");
  tag(axes, `ELBO ${format(terms.elbo)}`, right + 8, Math.min(axes.bottom - 8, Math.max(middle + 16, top + 38)), "posterior");
  tag(axes, `KL ${format(terms.gap, terms.gap < 1 ? 3 : 2)}`, right + 8, Math.max(top + 18, (top + middle) / 2 + 4), "truth");
}
