// Scene: encoder to z to decoder. One button draws z from q(z|x); the decoder answers.
import type { Scene } from "./index";
import { chosenPoint, exampleOf } from "./example";
import { squareAround } from "./bayes";
import { dot, Facts, line, named, paintEllipse, panel, planeAxes } from "./figure";
import { both } from "./texts";
import { latest } from "./work";
import { Random } from "../distributions/random";
import { button, format, h } from "../widgets/dom";
import { Chart } from "../widgets/charts";
import { exampleView } from "../widgets/example_view";
import { Strip } from "../widgets/strip";
import { colour } from "../widgets/theme";

const SHOWN = 8; // draws that stay visible

interface Drawn {
  z: readonly [number, number];
  mean: Float32Array;
}

export const encoderAndDecoder: Scene = {
  id: "encoder-and-decoder",
  name: ["Encoder, z, decoder", "인코더, z, 디코더"],
  sentence: [
    "Draw z again: the same x gives another z from the same q each time, and the decoder makes a similar but new x of it.",
    "z를 다시 뽑아 보세요. 같은 x에서도 매번 같은 q의 다른 z가 나오고, 디코더는 비슷하지만 새로운 x를 만듭니다.",
  ],
  formulas: ["encoder", "decoder"],
  needs: "vae",
  mount(element, { vae }, scope) {
    const { model } = vae;
    const { data } = model.run;
    const point = chosenPoint(model).value;
    const random = new Random(4);
    const x = exampleView(data, both(["Input x", "입력 x"]), scope);
    const decoded = exampleView(data, both(["Mean of p(x|z)", "p(x|z)의 평균"]), scope);
    const chart = new Chart(both(["q(z|x) and the drawn z", "q(z|x)와 뽑힌 z"]), "plane-chart", scope);
    const strip = new Strip(data, both(["Earlier draws, decoded", "앞서 뽑은 것들"]), "wider");
    const facts = new Facts();
    for (const i of [1, 2]) {
      facts.add(`z-${i}`, `z${"₁₂"[i - 1]} = μ${"₁₂"[i - 1]} + σ${"₁₂"[i - 1]} ε${"₁₂"[i - 1]}`);
    }
    const draws: Drawn[] = [];
    const draw = latest<null>(element, scope, async () => {
      const { raw, q } = await exampleOf(vae, point);
      const noise = [random.normal(), random.normal()];
      const z = q.at(noise[0], noise[1]);
      const mean = (await model.means(z, 1, model.conditionOf(point))).slice();
      draws.unshift({ z, mean });
      draws.splice(SHOWN);
      x.show(raw);
      decoded.show(mean);
      const [means, sds] = [[q.x, q.y], q.sd];
      for (const i of [0, 1]) {
        const sign = noise[i] < 0 ? "−" : "+";
        const sum = `${format(means[i])} ${sign} ${format(sds[i])} · ${format(Math.abs(noise[i]))}`;
        facts.show(`z-${i + 1}`, z[i], `${sum} = ${format(z[i])}`);
      }
      chart.label = `z = (${format(z[0])}, ${format(z[1])})`;
      const frame = squareAround({ x0: q.x, x1: q.x, y0: q.y, y1: q.y }, q, 1.25);
      const places = draws.map((each) => each.z);
      chart.paint((pen, width, height) => {
        const axes = planeAxes(pen, width, height, frame);
        paintEllipse(axes, q.ellipse);
        axes.inside(() => {
          pen.strokeStyle = colour("ink");
          pen.lineWidth = 1.5;
          line(pen, axes.x(q.x), axes.y(q.y), axes.x(z[0]), axes.y(z[1]));
        });
        places.forEach((place, k) => dot(axes, ...place, k === 0 ? 6 : 3.5, k === 0 ? "accent" : "point"));
        dot(axes, q.x, q.y, 4, "posterior");
      });
      strip.show(
        draws.map((each) => ({
          values: each.mean,
          label: both(["Decoded draw", "복원된 표본"]),
          caption: `${format(each.z[0])}, ${format(each.z[1])}`,
        })),
      );
    });
    const arrow = (text: string) => h("span", { class: "scene-arrow" }, text);
    const note = both([
      "Orange: μ and ellipses of σ and 2σ. Blue: the drawn z. Grey: earlier draws.",
      "주황: μ와 σ, 2σ 타원. 파랑: 뽑힌 z. 회색: 앞서 뽑은 z.",
    ]);
    element.append(
      h("div", { class: "row" }, button(both(["Draw z from q(z|x)", "q(z|x)에서 z 뽑기"]), () => draw(null))),
      h(
        "div",
        { class: "scene-flow" },
        panel(named("x", both(["input", "입력"])), x.element),
        arrow(both(["encoder", "인코더"])),
        panel(named("q", ""), chart.element, note),
        arrow(both(["decoder", "디코더"])),
        panel(named("mean-x", both(["output", "출력"])), decoded.element),
      ),
      facts.element,
      panel(both(["The last draws of z, decoded", "최근에 뽑은 z를 복원한 것"]), strip.element),
    );
    draw(null);
  },
};
