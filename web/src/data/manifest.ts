// The manifest of a page: types of the JSON that describes runs, graphs and blocks of bytes.

export type StoredType = "float32" | "uint8" | "int32" | "int64" | "float16" | "float64" | "png";

/** An array stored as bytes: raw = stored * scale + offset. */
export interface Block {
  block: string;
  dtype: StoredType;
  shape: number[];
  scale?: number;
  offset?: number;
}

/** Name, dtype and shape of an input or output of a graph; axis 0 is the rows. */
export interface Port {
  name: string;
  dtype: string;
  shape: (number | string | null)[];
  noise?: "normal" | "uniform";
}

/** A network of a run, computed in the page or by the server. */
export interface Graph {
  block: string | null;
  where: "page" | "server";
  float16: boolean;
  error?: number | null;
  /** On how many examples the error was measured. */
  measured?: number | null;
  bytes: number;
  reason?: string;
  /** Whether its ONNX graph is being made, so that the server computes it until then. */
  waits?: boolean;
  inputs: Port[];
  outputs: Port[];
}

export type GraphName =
  | "encoder"
  | "decoder"
  | "likelihood"
  | "prior"
  | "prior_sample"
  | "posterior_sample"
  | "posterior"
  | "codebook";

/** The family of a distribution as the export describes it. */
export interface Family {
  family: string;
  density?: string;
  parameters?: Record<string, string>;
  base?: Family;
  parts?: (Family & { dimensions: number[] })[];
  levels?: number;
  codes?: number;
  entries?: number;
}

export interface Column {
  name: string;
  kind: "real" | "binary" | "categorical" | "count";
  values: (string | number | boolean)[];
  whole?: boolean;
  time?: boolean;
  mean?: number;
  sd?: number;
}

/** The metadata of an export (export.json). */
export interface ExportMetadata {
  recipe: { name: string; conditional?: boolean; likelihood?: { name: string } };
  spec: {
    shape: number[];
    domain: string;
    levels: number | null;
    layout: string;
    divisor: number;
    fields: Column[];
    offset: number[];
    condition: { names: string[]; mean: number[]; std: number[] } | null;
    missing: boolean;
    labels: string[] | null;
  };
  latents: Record<string, number>;
  sites: string[];
  has_bound: boolean;
  posterior: Record<string, Family>;
  prior: Record<string, Family>;
  likelihood: Family;
  left_out: Record<string, string>;
}

export interface Site {
  name: string;
  start: number;
  width: number;
  codes?: number;
  entries?: number;
}

export interface Feature {
  index: number;
  site: string;
  name: string;
  kl: number | null;
  activity?: number;
  mean: number;
  sd: number;
  active: boolean;
}

export interface DataDescription {
  name: string;
  kind: "image" | "table" | "signal" | "vector" | "volume";
  shape: number[];
  raw_shape: number[];
  layout: string;
  domain: string;
  missing: boolean;
  range: [number, number];
  /** Of each channel of curves, or dimension of vectors without columns. */
  ranges?: [number, number][] | null;
  /** Whether those differ so much that each is drawn on its own range. */
  standardised?: boolean;
  columns: Column[];
  classes: string[] | null;
  colours: string[];
  condition: { kind: "numbers" | "class"; names: string[]; mean: number[]; sd: number[] } | null;
}

export interface Points {
  n: number;
  split: string;
  z: Block;
  scale?: Block | null;
  codes?: Block | null;
  labels: Block | null;
  x: Block;
  terms: Block | null;
  condition?: Block | null;
  sprite: (Block & { tile: [number, number]; columns: number; n: number }) | null;
}

export type Sentence = string | { en: string; ko: string };

export interface Run {
  role: "main" | "second" | "scene-vae" | "scene-ae";
  name: string;
  recipe: string;
  has_bound: boolean;
  fingerprint: string;
  terms: Record<string, [number, number] | number | string | boolean | null> | null;
  export: ExportMetadata;
  graphs: Partial<Record<GraphName, Graph>> & { encoder: Graph; decoder: Graph };
  latent: {
    kind: "vector" | "codes" | "hierarchy" | "sphere" | "ball";
    width: number;
    sites: Site[];
    order?: string[];
    classes?: Record<string, unknown>;
    explained?: number[];
    features: Feature[];
    components: Block | null;
    center: Block | null;
    shown: Sentence | null;
  };
  data: DataDescription;
  points: Points;
  training: { x: Block; n: number; of?: number } | null;
  prior: { kind: "standard" | "draws" | "none"; draws?: Block | null; reason?: string };
  sentences?: Sentence[];
}

export interface Manifest {
  format: number;
  title: string;
  language: "en" | "ko";
  mode: "served" | "file";
  limits?: Record<string, number>;
  runs: Run[];
  /** Numbers of the runs with two features that the scenes use. */
  scenes?: { vae: number | null; ae: number | null };
  sentences?: Sentence[];
}

export const FORMAT = 2;

/** Parse the manifest and refuse a format that this page does not read. */
export function readManifest(text: string): Manifest {
  const manifest = JSON.parse(text) as Manifest;
  if (manifest.format !== FORMAT) {
    throw new Error(
      `the manifest has format ${manifest.format}, but this page reads format ${FORMAT}: ` +
        "make the page again with the installed version of tightbound",
    );
  }
  return manifest;
}
