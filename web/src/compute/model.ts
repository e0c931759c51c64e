// One run with its networks: encode, decode, priors, draws and log-terms.
import type { KeptBlocks } from "../data/blocks";
import type { Tensor } from "../data/arrays";
import type { Examples, PointData } from "../data/points";
import { readExamples, readPoints } from "../data/points";
import type { Graph, GraphName, Port, Run } from "../data/manifest";
import { Units } from "../data/units";
import type { Likelihood } from "../distributions/likelihood";
import { likelihoodOf, logProb } from "../distributions/likelihood";
import { Posterior } from "../distributions/posterior";
import { closedFormPrior } from "../distributions/prior";
import { Random } from "../distributions/random";
import { HttpDecoder } from "./http_decoder";
import type { Decoder, Tensors } from "./network";
import { OrtDecoder, prepare } from "./ort_decoder";
import { Pauses } from "./pauses";

/** The condition of a conditional model: a class number in one place, or raw numbers. */
export type Condition = Float64Array | null;

/** The terms of log w = log p(x|z) + log p(z) - log q(z|x) at one z, in nats. */
export interface Terms {
  reconstruction: number;
  logPrior: number | null;
  logPosterior: number | null;
  /** Their sum; null where one of them has no value. */
  logWeight: number | null;
}

/** A network that is opened when it is first needed, and again when its graph is made. */
class LazyDecoder {
  private opened: Promise<Decoder> | null = null;
  private block: string | null = null;

  constructor(
    private readonly role: string,
    private readonly name: GraphName,
    readonly graph: Graph,
    private readonly blocks: KeptBlocks,
  ) {}

  private async open(): Promise<Decoder> {
    const { graph } = this;
    if (graph.where === "server" || graph.block === null) {
      return new HttpDecoder(this.role, this.name, graph);
    }
    await prepare(() => this.blocks.bytes("ort.wasm"));
    return OrtDecoder.open(await this.blocks.bytes(graph.block));
  }

  async run(inputs: Tensors, wanted?: readonly string[]): Promise<Tensors> {
    if (this.opened === null || this.block !== this.graph.block) {
      this.block = this.graph.block;
      this.opened = this.open();
    }
    return (await this.opened).run(inputs, wanted);
  }
}

function numbersFor(port: Port, values: ArrayLike<number>): Tensor["data"] {
  if (port.dtype === "int64") return BigInt64Array.from(values as number[], BigInt);
  if (port.dtype === "float64") return Float64Array.from(values);
  return Float32Array.from(values);
}

function tensorFor(port: Port, values: ArrayLike<number>, n: number): Tensor {
  const shape = port.shape.map((length, axis) => (axis === 0 ? n : Number(length)));
  return { data: numbersFor(port, values), shape };
}

export class Model {
  readonly units: Units;
  readonly width: number;
  private readonly networks = new Map<GraphName, LazyDecoder>();
  private readonly closedPrior: ((z: Float64Array) => number) | null;
  private trainingExamples: Promise<Examples> | null = null;

  private constructor(
    readonly run: Run,
    readonly points: PointData,
    private readonly blocks: KeptBlocks,
  ) {
    this.units = new Units(run.export.spec);
    this.width = run.latent.width;
    for (const [name, graph] of Object.entries(run.graphs)) {
      const key = name as GraphName;
      this.networks.set(key, new LazyDecoder(run.role, key, graph, blocks));
    }
    this.closedPrior = run.export.prior
      ? closedFormPrior(run.export, run.latent.sites)
      : null;
  }

  static async open(run: Run, blocks: KeptBlocks): Promise<Model> {
    return new Model(run, await readPoints(blocks, run), blocks);
  }

  has(name: GraphName): boolean {
    return this.networks.has(name);
  }

  /** Whether p(x|z) has a formula here, so that log p(x|z) and samples can be shown. */
  get hasLikelihood(): boolean {
    return this.run.export.likelihood !== undefined;
  }

  /** Whether p(z) is N(0, I) over all features. */
  get hasStandardPrior(): boolean {
    return this.run.prior.kind === "standard";
  }

  get isConditional(): boolean {
    return this.run.data.condition !== null;
  }

  private network(name: GraphName): LazyDecoder {
    const network = this.networks.get(name);
    if (network === undefined) throw new Error(`${this.run.name} has no network ${name}`);
    return network;
  }

  /** Inputs of n rows for a network; one condition is repeated over the rows. */
  private inputs(
    name: GraphName,
    values: Record<string, ArrayLike<number>>,
    n: number,
    condition: Condition,
  ): Tensors {
    const inputs: Tensors = {};
    for (const port of this.network(name).graph.inputs) {
      if (port.name !== "condition") {
        inputs[port.name] = tensorFor(port, values[port.name], n);
        continue;
      }
      const width = port.shape.slice(1).reduce<number>((size, length) => size * Number(length), 1);
      const given = condition ?? new Float64Array(width);
      const repeated = given.length === width && n > 1;
      const all = repeated ? Float64Array.from({ length: n * width }, (_, i) => given[i % width]) : given;
      inputs[port.name] = tensorFor(port, all, n);
    }
    return inputs;
  }

  /** The condition of a data point; null for models without. */
  conditionOf(point: number): Condition {
    const { condition, conditionWidth: width } = this.points;
    return condition === null ? null : condition.slice(point * width, (point + 1) * width);
  }

  /** q(z|x) of one example in raw units. */
  async posterior(raw: ArrayLike<number>, condition: Condition): Promise<Posterior> {
    const inputs = this.inputs("encoder", { x: raw }, 1, condition);
    const outputs = await this.network("encoder").run(inputs);
    return new Posterior(this.run.export, this.run.latent.sites, outputs, 0);
  }

  /** E[x|z] in raw units of n rows of z: the values of one row after another. */
  async means(z: ArrayLike<number>, n: number, condition: Condition): Promise<Float32Array> {
    const inputs = this.inputs("decoder", { z }, n, condition);
    if (!this.decoderHasMean) {
      return this.meansOf(await this.network("decoder").run(inputs), n);
    }
    const { mean } = await this.network("decoder").run(inputs, ["mean"]);
    return mean.data instanceof Float32Array ? mean.data : Float32Array.from(mean.data as Float64Array);
  }

  /** All outputs of the decoder of n rows of z, and E[x|z] where the decoder leaves it out. */
  async decode(z: ArrayLike<number>, n: number, condition: Condition): Promise<Tensors> {
    const outputs = await this.network("decoder").run(this.inputs("decoder", { z }, n, condition));
    if (this.decoderHasMean) return outputs;
    const data = await this.meansOf(outputs, n);
    return { mean: { data, shape: [n, this.units.rawSize] }, ...outputs };
  }

  /** How many numbers of one row of z the network gives that has the parameters of p(x|z). */
  get parameterCount(): number {
    const { graph } = this.network(this.dependsOnCategories ? "likelihood" : "decoder");
    const sizes = graph.outputs.map(({ shape }) => shape.slice(1).reduce<number>((n, length) => n * Number(length), 1));
    return sizes.reduce((sum, size) => sum + size, 0);
  }

  /** Whether E[x|z] is an output of the decoder; a mixture's is computed from its parameters. */
  private get decoderHasMean(): boolean {
    return this.network("decoder").graph.outputs.some((port) => port.name === "mean");
  }

  /** E[x|z] in raw units from the parameters of p(x|z); the page answers between the rows. */
  private async meansOf(outputs: Tensors, n: number): Promise<Float32Array> {
    const size = this.units.rawSize;
    const all = new Float32Array(n * size);
    const pauses = new Pauses();
    for (let row = 0; row < n; row++) {
      if (row > 0 && pauses.isDue) await pauses.pause();
      const mean = this.likelihood(outputs, row)?.mean?.();
      if (mean === undefined) throw new Error(`p(x|z) of ${this.run.name} has no mean here`);
      all.set(this.units.toRaw(mean), row * size);
    }
    return all;
  }

  /**
   * p(x|z) of a row of the decoder's outputs; null for a family without a formula here. Where
   * columns depend on categories it is that given the most likely ones.
   */
  likelihood(outputs: Tensors, row: number): Likelihood | null {
    const family = this.run.export.likelihood;
    if (family === undefined) return null;
    return likelihoodOf(family, outputs, row, this.run.export.spec.shape);
  }

  /** Whether columns of p(x|z) depend on categories of x, so that its parameters need x. */
  get dependsOnCategories(): boolean {
    return this.has("likelihood");
  }

  /** Parameters of p(x|z) at n rows of z for one x in raw units: where it has any, given its categories. */
  async parametersFor(raw: ArrayLike<number>, z: ArrayLike<number>, n: number, condition: Condition): Promise<Tensors> {
    // without the mean, which a mixture's decoder leaves to the page
    if (!this.dependsOnCategories) return this.network("decoder").run(this.inputs("decoder", { z }, n, condition));
    const size = this.units.rawSize;
    const x = Float64Array.from({ length: n * size }, (_, i) => raw[i % size]);
    return this.network("likelihood").run(this.inputs("likelihood", { x, z }, n, condition));
  }

  /**
   * A sample of p(x|z) in raw units at the z of the decoder's outputs; null for a family without a
   * formula here. Where columns depend on categories, these are drawn one after another: with the
   * same noise each time, a column has its value once those before it have theirs.
   */
  async sample(z: ArrayLike<number>, outputs: Tensors, random: Random, condition: Condition): Promise<Float64Array | null> {
    const px = this.likelihood(outputs, 0);
    if (px === null) return null;
    const seed = random.below(2 ** 31);
    let raw = this.units.toRaw(px.sample(new Random(seed)));
    if (!this.dependsOnCategories) return raw;
    for (let pass = 0; pass <= raw.length; pass++) {
      const given = this.likelihood(await this.parametersFor(raw, z, 1, condition), 0)!;
      const next = this.units.toRaw(given.sample(new Random(seed)));
      const isSame = next.every((value, i) => Object.is(value, raw[i]));
      raw = next;
      if (isSame) break;
    }
    return raw;
  }

  /** log p(z) of n rows in nats; null where p(z) has no density here. */
  async logPrior(
    z: ArrayLike<number>,
    n: number,
    condition: Condition,
  ): Promise<Float64Array | null> {
    if (this.closedPrior !== null) {
      const all = Float64Array.from(z);
      const of = this.closedPrior;
      return Float64Array.from({ length: n }, (_, i) =>
        of(all.subarray(i * this.width, (i + 1) * this.width)),
      );
    }
    if (!this.has("prior")) return null;
    const inputs = this.inputs("prior", { z }, n, condition);
    const { log_p } = await this.network("prior").run(inputs, ["log_p"]);
    return Float64Array.from(log_p.data as Float32Array);
  }

  /** Draws from p(z) of n rows; null where they cannot be made in the page. */
  async samplePrior(
    n: number,
    random: Random,
    temperature: number,
    condition: Condition,
  ): Promise<Float32Array | null> {
    if (this.hasStandardPrior) {
      return Float32Array.from({ length: n * this.width }, () => temperature * random.normal());
    }
    if (this.has("prior_sample")) {
      const noise = this.noise("prior_sample", n, random, temperature);
      const inputs = this.inputs("prior_sample", noise, n, condition);
      const { z } = await this.network("prior_sample").run(inputs);
      return z.data as Float32Array;
    }
    if (this.has("codebook")) return this.uniformCodes(n, random);
    return this.storedDraws(n, random);
  }

  private async uniformCodes(n: number, random: Random): Promise<Float32Array> {
    const [site] = this.run.latent.sites;
    const entries = site.entries ?? 1;
    const index = Float64Array.from({ length: n * (site.codes ?? 1) }, () => random.below(entries));
    return this.codeVectors(index, n);
  }

  private async storedDraws(n: number, random: Random): Promise<Float32Array | null> {
    const block = this.run.prior.draws;
    if (!block) return null;
    const draws = await this.blocks.floats(block);
    const out = new Float32Array(n * this.width);
    for (let i = 0; i < n; i++) {
      const row = random.below(block.shape[0]);
      out.set(draws.subarray(row * this.width, (row + 1) * this.width), i * this.width);
    }
    return out;
  }

  /** Vectors of entry numbers (n, codes) of a model whose z are codes. */
  async codeVectors(index: ArrayLike<number>, n: number): Promise<Float32Array> {
    const inputs = this.inputs("codebook", { index }, n, null);
    const { z } = await this.network("codebook").run(inputs);
    return z.data as Float32Array;
  }

  /**
   * z from given noise of each site; the noise of upper sites can be kept while that of lower
   * ones changes. Null without a graph.
   */
  async fromNoise(
    noise: Record<string, Float32Array>,
    n: number,
    condition: Condition,
  ): Promise<Float32Array | null> {
    if (!this.has("prior_sample")) return null;
    const inputs = this.inputs("prior_sample", noise, n, condition);
    return (await this.network("prior_sample").run(inputs)).z.data as Float32Array;
  }

  /** Standard noise of each site, times the temperature where it is normal. */
  noise(
    name: "prior_sample" | "posterior_sample",
    n: number,
    random: Random,
    temperature: number,
  ): Record<string, Float32Array> {
    const out: Record<string, Float32Array> = {};
    for (const port of this.network(name).graph.inputs) {
      if (!port.name.startsWith("noise.")) continue;
      const site = this.run.latent.sites.find((s) => `noise.${s.name}` === port.name);
      const size = port.shape.slice(1).reduce<number>((product, length) => product * Number(length), 1);
      const isUniform = port.noise === "uniform" || (port.noise === undefined && site?.codes !== undefined);
      const first = size - (site?.width ?? size); // a place before z chooses the component
      out[port.name] = Float32Array.from({ length: n * size }, (_, i) => {
        if (isUniform) return random.uniform() * (1 - 2 ** -24);
        return (i % size >= first ? temperature : 1) * random.normal();
      });
    }
    return out;
  }

  /** A draw from q(z|x); null where it cannot be made in the page. */
  async samplePosterior(
    raw: ArrayLike<number>,
    posterior: Posterior,
    random: Random,
    condition: Condition,
  ): Promise<{ z: Float64Array; logPosterior: number | null } | null> {
    if (this.has("posterior_sample")) {
      const noise = this.noise("posterior_sample", 1, random, 1);
      const inputs = this.inputs("posterior_sample", { x: raw, ...noise }, 1, condition);
      const outputs = await this.network("posterior_sample").run(inputs);
      const z = Float64Array.from(outputs.z.data as Float32Array);
      return { z, logPosterior: Number(outputs.log_q.data[0]) };
    }
    if (posterior.sites.length > 1 && this.has("posterior")) {
      return this.sampleSites(raw, posterior, random, condition);
    }
    const z = posterior.sample(random);
    return z === null ? null : { z, logPosterior: posterior.logProb(z) };
  }

  /**
   * A draw of all sites of a hierarchy. With the same noise each time, a site has its value once
   * those before it have theirs: after as many passes as there are sites at the latest.
   */
  private async sampleSites(
    raw: ArrayLike<number>,
    posterior: Posterior,
    random: Random,
    condition: Condition,
  ): Promise<{ z: Float64Array; logPosterior: number | null } | null> {
    const seed = random.below(2 ** 31);
    let q = posterior;
    let z = q.mean;
    for (let pass = 0; pass <= q.sites.length; pass++) {
      const next = q.sample(new Random(seed));
      if (next === null) return null;
      const isSame = pass > 0 && next.every((value, i) => Math.abs(value - z[i]) < 1e-6);
      z = next;
      if (isSame) break;
      q = await this.posteriorGiven(raw, z, condition);
    }
    return { z, logPosterior: q.logProb(z) };
  }

  /** q of each site given the values of z before it. */
  private async posteriorGiven(
    raw: ArrayLike<number>,
    z: Float64Array,
    condition: Condition,
  ): Promise<Posterior> {
    const inputs = this.inputs("posterior", { x: raw, z }, 1, condition);
    const outputs = await this.network("posterior").run(inputs);
    outputs.codes = { data: Float64Array.from(z), shape: [1, this.width] };
    return new Posterior(this.run.export, this.run.latent.sites, outputs, 0);
  }

  /** Whether q at a moved z is known: of several sites, where a graph gives it. */
  isPosteriorKnownAt(z: Float64Array, posterior: Posterior): boolean {
    if (posterior.sites.length === 1 || this.has("posterior")) return true;
    return z.every((value, i) => Math.abs(value - posterior.mean[i]) < 1e-6);
  }

  /** log q(z|x) in nats; of several sites each given the values of z before it. */
  async logPosterior(
    raw: ArrayLike<number>,
    z: Float64Array,
    posterior: Posterior,
    condition: Condition,
  ): Promise<number | null> {
    if (posterior.sites.length === 1) return posterior.logProb(z);
    if (!this.has("posterior")) {
      return this.isPosteriorKnownAt(z, posterior) ? posterior.logProb(z) : null;
    }
    return (await this.posteriorGiven(raw, z, condition)).logProb(z);
  }

  /** The terms of the bound at one z. */
  async terms(
    raw: ArrayLike<number>,
    z: Float64Array,
    posterior: Posterior,
    condition: Condition,
    outputs?: Tensors,
  ): Promise<Terms | null> {
    const given = this.dependsOnCategories ? undefined : outputs;
    const px = this.likelihood(given ?? (await this.parametersFor(raw, z, 1, condition)), 0);
    if (px === null) return null;
    const reconstruction = logProb(px, this.units.toModel(raw));
    const prior = await this.logPrior(z, 1, condition);
    const logPrior = prior === null ? null : prior[0];
    const logPosterior = await this.logPosterior(raw, z, posterior, condition);
    const isComplete = logPrior !== null && logPosterior !== null && this.run.has_bound;
    const logWeight = isComplete ? reconstruction + logPrior - logPosterior : null;
    return { reconstruction, logPrior, logPosterior, logWeight };
  }

  /** By what distances between rows of a table are divided, 0 of categories; null of other data. */
  get distanceScales(): Float64Array | null {
    const { columns } = this.run.data;
    if (columns.length === 0) return null;
    return Float64Array.from(columns, ({ kind, sd }) => (kind === "categorical" ? 0 : sd || 1));
  }

  /** Training examples, among which the nearest one is searched; null without. */
  training(): Promise<Examples> | null {
    if (this.run.training === null) return null;
    this.trainingExamples ??= readExamples(this.blocks, this.run.training.x);
    return this.trainingExamples;
  }

  /** Draws of p(z) that the page brought along (m, d); null for a standard prior. */
  async priorDraws(): Promise<Float32Array | null> {
    const block = this.run.prior.draws;
    return block ? this.blocks.floats(block) : null;
  }

  async components(): Promise<{ directions: Float32Array; center: Float32Array } | null> {
    const { components, center } = this.run.latent;
    if (components === null || center === null) return null;
    return {
      directions: await this.blocks.floats(components),
      center: await this.blocks.floats(center),
    };
  }
}
