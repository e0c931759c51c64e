// One value of x as a distribution: which one, its possible values, and p of each at a z.
import type { Model } from "../compute/model";
import type { Likelihood } from "../distributions/likelihood";
import { both } from "./texts";

const MOST_LEVELS = 256; // more values are shown as a curve
const PLACES = 121;
const ROWS = 200; // rows that are looked at

/** A value of x that is shown as a distribution. */
export interface OneValue {
  /** Its place in model units and in raw units. */
  place: number;
  raw: number;
  name: string;
  values: number[];
  isDiscrete: boolean;
}

function range(low: number, high: number, n: number): number[] {
  return Array.from({ length: n }, (_, k) => low + ((high - low) * k) / (n - 1));
}

/** Variance of each place of x in model units over some rows. */
function variances(model: Model): Float64Array {
  const { x } = model.points;
  const n = Math.min(x.n, ROWS);
  const sums = new Float64Array(model.units.toModel(x.row(0)).length);
  const squares = sums.slice();
  for (let row = 0; row < n; row++) {
    model.units.toModel(x.row(row)).forEach((value, i) => {
      sums[i] += value / n;
      squares[i] += (value * value) / n;
    });
  }
  return squares.map((square, i) => square - sums[i] ** 2);
}

/** The first numeric column of a table whose columns are of several kinds. */
function columnValue(model: Model): OneValue | null {
  const { fields } = model.run.export.spec;
  let place = 0;
  for (const [raw, field] of fields.entries()) {
    if (field.kind !== "categorical") {
      const column = model.run.data.columns[raw] ?? field;
      const [mean, sd] = [column.mean ?? 0, column.sd ?? 1];
      const isBinary = field.kind === "binary";
      const isCount = field.kind === "count";
      const most = Math.min(MOST_LEVELS, Math.ceil(mean + 4 * sd) + 1);
      let values = range(mean - 4 * sd, mean + 4 * sd, PLACES);
      if (isBinary) values = [0, 1];
      if (isCount) values = range(0, most - 1, most);
      return { place, raw, name: column.name, values, isDiscrete: isBinary || isCount };
    }
    place += field.values.length;
  }
  return null;
}

/** How many values a place of x has, 0, 1, ...; null where they are not counted. */
function countOf(model: Model, highest: number): number | null {
  const { domain, levels } = model.run.export.spec;
  if (domain === "binary") return 2;
  if (domain === "levels" || domain === "categorical") return levels;
  return domain === "count" ? Math.ceil(highest) + 1 : null;
}

/** Places of x whose distribution does not depend on the others: of colour pixels their first channel. */
function freePlaces(model: Model): number {
  const { size } = model.units;
  const isMixture = model.run.export.likelihood.family === "mixture of discretised logistics";
  return isMixture ? size / model.run.export.spec.shape[0] : size;
}

/** The value of x that varies most over the data; null where none is a number. */
export function liveliest(model: Model): OneValue | null {
  const { spec } = model.run.export;
  const { data } = model.run;
  if (spec.domain === "mixed") return columnValue(model);
  const spread = variances(model).subarray(0, freePlaces(model));
  let place = 0;
  spread.forEach((value, i) => {
    if (value > spread[place]) place = i;
  });
  const { size } = model.units;
  const mark = new Float64Array(size);
  mark[place] = 1;
  const at = model.units.spreadToRaw(mark).findIndex((value) => value !== 0);
  const column = data.columns[at];
  const group = Math.floor(place / (size / (data.ranges?.length ?? 1)));
  let [low, high] = data.ranges?.[group] ?? data.range;
  if (column?.mean !== undefined && column.sd !== undefined) {
    [low, high] = [column.mean - 4 * column.sd, column.mean + 4 * column.sd];
  }
  const count = countOf(model, high);
  const isDiscrete = count !== null && count > 1 && count <= MOST_LEVELS;
  const values = isDiscrete ? range(0, count - 1, count) : range(low, high, PLACES);
  return { place, raw: at, name: placeName(model, place, at), values, isDiscrete };
}

function placeName(model: Model, place: number, raw: number): string {
  const { data } = model.run;
  if (data.columns.length > 0) return data.columns[raw]?.name ?? `x${raw + 1}`;
  if (data.kind !== "image") return both([`value ${raw + 1}`, `${raw + 1}번째 값`]);
  const [channels, height, width] = data.shape;
  const pixel = place % (height * width);
  const [row, column] = [Math.floor(pixel / width) + 1, (pixel % width) + 1];
  const [colour, inKorean] = COLOURS[channels === 3 ? Math.floor(place / (height * width)) : 3];
  return both([`${colour}pixel in row ${row}, column ${column}`, `${row}행 ${column}열 픽셀${inKorean}`]);
}

const COLOURS = [
  ["red of the ", "의 빨강"],
  ["green of the ", "의 초록"],
  ["blue of the ", "의 파랑"],
  ["", ""],
] as const;

/**
 * p of each of its values in raw units, a probability or a density; `x` is an example in raw units
 * that stands at the other places.
 */
export function probabilities(model: Model, px: Likelihood, one: OneValue, x: ArrayLike<number>): number[] {
  const raw = Float64Array.from(x);
  const unit = one.isDiscrete ? 1 : model.run.export.spec.divisor;
  return one.values.map((value) => {
    raw[one.raw] = value;
    return Math.exp(px.logProbAt(one.place, model.units.toModel(raw)[one.place])) / unit;
  });
}
