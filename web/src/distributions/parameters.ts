// Parameters of one row of a batch of distributions, broadcast over the shape of an example.
import type { Numbers, Tensor } from "../data/arrays";
import { sizeOf } from "../data/arrays";

const maps = new Map<string, Int32Array>();

/** For each place of `event`, its place in an array of `shape` that broadcasts to it. */
function broadcastMap(shape: readonly number[], event: readonly number[]): Int32Array {
  const key = `${shape.join()}|${event.join()}`;
  const kept = maps.get(key);
  if (kept !== undefined) return kept;
  const padded = [...Array(event.length - shape.length).fill(1), ...shape];
  const map = new Int32Array(sizeOf(event));
  for (let place = 0; place < map.length; place++) {
    let rest = place;
    let index = 0;
    let stride = 1;
    for (let axis = event.length - 1; axis >= 0; axis--) {
      const at = rest % event[axis];
      rest = Math.floor(rest / event[axis]);
      if (padded[axis] !== 1) index += at * stride;
      stride *= padded[axis];
    }
    map[place] = index;
  }
  maps.set(key, map);
  return map;
}

/** The values of a parameter (n, ...) in one row, broadcast to `event`, as float64. */
export function rowOf(tensor: Tensor, row: number, event: readonly number[]): Float64Array {
  const shape = tensor.shape.slice(1);
  const size = sizeOf(shape);
  const start = tensor.shape[0] === 1 ? 0 : row * size;
  const data = tensor.data as Exclude<Numbers, BigInt64Array>;
  if (size === sizeOf(event)) {
    return new Float64Array(data.subarray(start, start + size));
  }
  const map = broadcastMap(shape, event);
  return Float64Array.from(map, (place) => data[start + place]);
}
