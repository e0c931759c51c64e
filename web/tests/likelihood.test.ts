// Log-probabilities and variances against torch (tests/reference.json by tests/reference.py).
import { describe, expect, it } from "vitest";
import type { Tensors } from "../src/compute/network";
import type { Family } from "../src/data/manifest";
import { likelihoodOf, logProb } from "../src/distributions/likelihood";
import { Posterior } from "../src/distributions/posterior";
import { Random } from "../src/distributions/random";
import reference from "./reference.json";

interface Stored {
  data: number[];
  shape: number[];
}

interface Case {
  family: Family;
  parameters: Record<string, Stored>;
  x: Stored;
  log_prob: number[];
  mean: number[] | null;
  variance: number[] | null;
}

const cases = Object.entries(reference as unknown as Record<string, Case>);

function tensors(stored: Record<string, Stored>): Tensors {
  const pairs = Object.entries(stored).map(([name, { data, shape }]) => [
    name,
    { data: Float64Array.from(data), shape },
  ]);
  return Object.fromEntries(pairs) as Tensors;
}

function valuesOf(x: Stored, row: number): Float64Array {
  const size = x.data.length / x.shape[0];
  return Float64Array.from(x.data.slice(row * size, (row + 1) * size));
}

describe.each(cases.filter(([name]) => !name.includes("covariance")))("%s", (_, each) => {
  const outputs = tensors(each.parameters);
  const event = each.x.shape.slice(1);

  it.each([0, 1])("has torch's log-probability in row %i", (row) => {
    const px = likelihoodOf(each.family, outputs, row, event)!;
    const value = logProb(px, valuesOf(each.x, row));
    expect(Math.abs(value - each.log_prob[row])).toBeLessThan(
      Math.max(1e-9, 1e-9 * Math.abs(each.log_prob[row])),
    );
  });

  it.each([0, 1])("has torch's mean in row %i, where the decoder gives none", (row) => {
    if (each.mean === null) return;
    const levels = each.family.levels!;
    const mean = likelihoodOf(each.family, outputs, row, event)!.mean!();
    // half of what a pixel may be off; torch's own sum over blocks is within 0.3 levels of 256
    for (let i = 0; i < mean.length; i++) {
      expect(Math.abs(mean[i] - each.mean[row * mean.length + i])).toBeLessThan(levels / 510);
    }
  });

  it("has torch's variance", () => {
    if (each.variance === null) return;
    const variance = likelihoodOf(each.family, outputs, 1, event)!.variance()!;
    const size = variance.length;
    for (let i = 0; i < size; i++) {
      expect(variance[i]).toBeCloseTo(each.variance[size + i], 6);
    }
  });

  it("samples with that mean log-probability", () => {
    const px = likelihoodOf(each.family, outputs, 0, event)!;
    const random = new Random(3);
    const value = logProb(px, px.sample(random));
    expect(Number.isFinite(value)).toBe(true);
  });
});

describe("a missing value", () => {
  it("has no term", () => {
    const [, each] = cases.find(([name]) => name === "product")!;
    const px = likelihoodOf(each.family, tensors(each.parameters), 0, [6])!;
    const whole = px.logProbEach(valuesOf(each.x, 0));
    const x = valuesOf(each.x, 0);
    x[0] = NaN;
    expect(logProb(px, x)).toBeCloseTo(whole.reduce((a, b) => a + b) - whole[0], 12);
  });
});

describe("normal with full covariance", () => {
  it("has torch's log-density", () => {
    const [, each] = cases.find(([name]) => name.includes("covariance"))!;
    const outputs: Tensors = {};
    for (const [name, value] of Object.entries(tensors(each.parameters))) {
      outputs[name.replace("px.", "q.z.")] = value;
    }
    outputs.codes = outputs["q.z.mean"];
    const metadata = { posterior: { z: each.family } } as never;
    const q = new Posterior(metadata, [{ name: "z", start: 0, width: 3 }], outputs, 1);
    expect(q.logProb(valuesOf(each.x, 1))).toBeCloseTo(each.log_prob[1], 8);
  });
});

describe("p of one value of a mixture over colour pixels", () => {
  const [, each] = cases.find(([name]) => name === "logistic mixture, 8 levels")!;
  const event = each.x.shape.slice(1);
  const pixels = event[1] * event[2];
  const levels = each.family.levels!;

  it("is that of red, summed over all greens and blues", () => {
    const px = likelihoodOf(each.family, tensors(each.parameters), 0, event)!;
    const x = valuesOf(each.x, 0);
    for (let red = 0; red < levels; red++) {
      let sum = 0;
      for (let green = 0; green < levels; green++) {
        for (let blue = 0; blue < levels; blue++) {
          [x[0], x[pixels], x[2 * pixels]] = [red, green, blue];
          sum += Math.exp(px.logProbEach(x)[0]);
        }
      }
      expect(Math.exp(px.logProbAt(0, red))).toBeCloseTo(sum, 12);
    }
  });

  it("is refused for a channel that depends on another one", () => {
    const px = likelihoodOf(each.family, tensors(each.parameters), 0, event)!;
    expect(() => px.logProbAt(pixels, 1)).toThrow("depends");
  });
});

describe("p of one value", () => {
  it.each(["product", "poisson", "discretised logistic"])("of %s is its term", (name) => {
    const [, each] = cases.find(([key]) => key.startsWith(name))!;
    const px = likelihoodOf(each.family, tensors(each.parameters), 1, each.x.shape.slice(1))!;
    const x = valuesOf(each.x, 1);
    const terms = px.logProbEach(x);
    const isOneHot = (place: number) =>
      (each.family.parts ?? []).some((part) => part.family === "categorical" && part.dimensions.includes(place));
    let compared = 0;
    for (let place = 0; place < x.length; place++) {
      if (isOneHot(place)) continue;
      expect(px.logProbAt(place, x[place])).toBeCloseTo(terms[place], 12);
      compared += 1;
    }
    expect(compared).toBeGreaterThan(1);
  });

  it("of a category is its probability", () => {
    const family = { family: "categorical", parameters: { "px.logits": "" } } as Family;
    const px = likelihoodOf(family, { "px.logits": { data: Float64Array.of(0, 1, 2), shape: [1, 3] } }, 0, [3], true)!;
    const chances = [0, 1, 2].map((place) => Math.exp(px.logProbAt(place, 1)));
    expect(chances.reduce((a, b) => a + b)).toBeCloseTo(1, 12);
    expect(Math.exp(px.logProbAt(0, 0))).toBeCloseTo(chances[1] + chances[2], 12);
  });
});

describe("parameters that are not finite", () => {
  const mixtures = cases.filter(([name]) => name.startsWith("logistic mixture"));

  it.each(mixtures.map(([name]) => name))("give %s no finite mean in their pixel alone", (name) => {
    const [, each] = mixtures.find(([key]) => key === name)!;
    const event = each.x.shape.slice(1);
    const pixels = event[1] * event[2];
    const names = Object.keys(each.parameters).filter((key) => each.parameters[key].data.length > 0);
    for (const parameter of names) {
      if (event[0] === 1 && parameter === "px.slope") continue; // grey pixels have none
      const outputs = tensors(each.parameters);
      const { data, shape } = outputs[parameter];
      const size = data.length / shape[0];
      for (let i = 0; i < size; i += pixels) (data as Float64Array)[i] = NaN;
      const mean = likelihoodOf(each.family, outputs, 0, event)!.mean!();
      const last = (event[0] - 1) * pixels; // the first pixel of the channel that depends on all others
      expect(mean[last], parameter).toBeNaN();
      expect(mean.filter(Number.isNaN).length).toBeLessThanOrEqual(event[0]);
    }
  });

  it.each(cases.filter(([, each]) => !each.family.family.includes("logistic")).map(([name]) => name))(
    "end the sampling of %s",
    (name) => {
      const each = cases.find(([key]) => key === name)![1];
      if (name.includes("covariance")) return;
      const outputs = tensors(each.parameters);
      for (const { data } of Object.values(outputs)) (data as Float64Array).fill(NaN);
      const px = likelihoodOf(each.family, outputs, 0, each.x.shape.slice(1))!;
      expect(px.sample(new Random(1)).every(Number.isNaN)).toBe(true);
    },
  );
});
