// Arrays of numbers with a shape, and their decoding from the bytes of a block.
import type { Block } from "./manifest";

export type Numbers =
  | Float32Array
  | Float64Array
  | Int32Array
  | Uint8Array
  | BigInt64Array;

export interface Tensor {
  data: Numbers;
  shape: number[];
}

/** A float array whose axis 0 is the rows. */
export interface Rows {
  data: Float32Array;
  n: number;
  width: number;
}

export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, length) => product * length, 1);
}

export function rowsOf(data: Float32Array, n: number): Rows {
  return { data, n, width: n > 0 ? data.length / n : 0 };
}

export function row(rows: Rows, index: number): Float32Array {
  return rows.data.subarray(index * rows.width, (index + 1) * rows.width);
}

/** The value of a float16 number from its bits. */
export function fromHalf(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * 2 ** -24 * fraction;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * 2 ** (exponent - 15) * (1 + fraction / 1024);
}

/** A copy whose bytes start at a multiple of the size of a number. */
function aligned(bytes: Uint8Array, size: number): ArrayBuffer {
  if (bytes.byteOffset % size === 0 && bytes.buffer instanceof ArrayBuffer) {
    return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  }
  return bytes.slice().buffer as ArrayBuffer;
}

type Stored = Float32Array | Float64Array | Int32Array | Uint8Array;

function stored(bytes: Uint8Array, dtype: Block["dtype"]): Stored {
  switch (dtype) {
    case "float32":
      return new Float32Array(aligned(bytes, 4));
    case "float64":
      return new Float64Array(aligned(bytes, 8));
    case "int32":
      return new Int32Array(aligned(bytes, 4));
    case "uint8":
      return bytes;
    case "int64":
      return Int32Array.from(new BigInt64Array(aligned(bytes, 8)), Number);
    case "float16":
      return Float32Array.from(new Uint16Array(aligned(bytes, 2)), fromHalf);
    case "png":
      throw new Error("an image block is no array of numbers");
  }
}

/** The numbers of a block as float64, for values that float32 does not hold. */
export function decodeDoubles(bytes: Uint8Array, block: Block): Float64Array {
  const numbers = Float64Array.from(stored(bytes, block.dtype));
  const { scale = 1, offset = 0 } = block;
  return scale === 1 && offset === 0 ? numbers : numbers.map((value) => value * scale + offset);
}

/** The numbers of a block as float32: stored * scale + offset. */
export function decodeFloats(bytes: Uint8Array, block: Block): Float32Array {
  const numbers = stored(bytes, block.dtype);
  const expected = sizeOf(block.shape);
  if (numbers.length !== expected) {
    throw new Error(
      `block ${block.block} holds ${numbers.length} numbers, but its shape asks for ${expected}`,
    );
  }
  const scale = block.scale ?? 1;
  const offset = block.offset ?? 0;
  if (scale === 1 && offset === 0) return Float32Array.from(numbers);
  return Float32Array.from(numbers, (value) => value * scale + offset);
}

/** The numbers of a block as int32. */
export function decodeIntegers(bytes: Uint8Array, block: Block): Int32Array {
  return Int32Array.from(stored(bytes, block.dtype));
}
