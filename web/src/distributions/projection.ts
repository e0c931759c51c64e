// A plane through the latent space: two features, or two principal directions.

/** An affine plane: coordinates of z on it, and z moved so that it has given coordinates. */
export interface Plane {
  readonly name: "features" | "components";
  readonly axes: readonly [number, number];
  readonly labels: readonly [string, string];
  /** Coordinates of rows of z (n, d), side by side. */
  coordinates(z: ArrayLike<number>, n: number): Float32Array;
  /** z with these coordinates; what the plane does not say stays as in `base`. */
  moved(base: Float64Array, x: number, y: number): Float64Array;
  /** Mean and covariance (xx, xy, yy) on the plane of a normal with mean and factors. */
  ellipse(mean: Float64Array, covariance: (i: number, j: number) => number): Ellipse;
}

export interface Ellipse {
  x: number;
  y: number;
  xx: number;
  xy: number;
  yy: number;
}

export class FeaturePlane implements Plane {
  readonly name = "features";

  constructor(
    private readonly width: number,
    readonly axes: readonly [number, number],
    readonly labels: readonly [string, string],
  ) {}

  coordinates(z: ArrayLike<number>, n: number): Float32Array {
    const out = new Float32Array(2 * n);
    for (let row = 0; row < n; row++) {
      out[2 * row] = z[row * this.width + this.axes[0]];
      out[2 * row + 1] = this.width > 1 ? z[row * this.width + this.axes[1]] : 0;
    }
    return out;
  }

  moved(base: Float64Array, x: number, y: number): Float64Array {
    const z = base.slice();
    z[this.axes[1]] = y;
    z[this.axes[0]] = x;
    return z;
  }

  ellipse(mean: Float64Array, covariance: (i: number, j: number) => number): Ellipse {
    const [i, j] = this.axes;
    return {
      x: mean[i],
      y: this.width > 1 ? mean[j] : 0,
      xx: covariance(i, i),
      xy: i === j ? 0 : covariance(i, j),
      yy: i === j ? 0 : covariance(j, j),
    };
  }
}

export class ComponentPlane implements Plane {
  readonly name = "components";
  private readonly a: Float32Array;
  private readonly b: Float32Array;

  constructor(
    private readonly width: number,
    directions: Float32Array,
    private readonly center: Float32Array,
    readonly axes: readonly [number, number],
    readonly labels: readonly [string, string],
  ) {
    this.a = directions.subarray(axes[0] * width, (axes[0] + 1) * width);
    this.b = directions.subarray(axes[1] * width, (axes[1] + 1) * width);
  }

  private along(direction: Float32Array, z: ArrayLike<number>, start: number): number {
    let sum = 0;
    for (let i = 0; i < this.width; i++) sum += direction[i] * (z[start + i] - this.center[i]);
    return sum;
  }

  coordinates(z: ArrayLike<number>, n: number): Float32Array {
    const out = new Float32Array(2 * n);
    for (let row = 0; row < n; row++) {
      out[2 * row] = this.along(this.a, z, row * this.width);
      out[2 * row + 1] = this.along(this.b, z, row * this.width);
    }
    return out;
  }

  moved(base: Float64Array, x: number, y: number): Float64Array {
    const dx = x - this.along(this.a, base, 0);
    const dy = y - this.along(this.b, base, 0);
    return base.map((value, i) => value + dx * this.a[i] + dy * this.b[i]);
  }

  ellipse(mean: Float64Array, covariance: (i: number, j: number) => number): Ellipse {
    const form = (u: Float32Array, v: Float32Array) => {
      let sum = 0;
      for (let i = 0; i < this.width; i++) {
        for (let j = 0; j < this.width; j++) sum += u[i] * covariance(i, j) * v[j];
      }
      return sum;
    };
    return {
      x: this.along(this.a, mean, 0),
      y: this.along(this.b, mean, 0),
      xx: form(this.a, this.a),
      xy: form(this.a, this.b),
      yy: form(this.b, this.b),
    };
  }
}
