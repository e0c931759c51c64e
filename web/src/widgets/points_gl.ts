// Points by WebGL: one draw call for 100,000 of them.
import type { PointsLayer } from "./points_raster";

const VERTEX = `
attribute vec2 place;
attribute vec4 tint;
uniform vec2 scale;
uniform vec2 offset;
uniform float size;
varying vec4 shade;
void main() {
  gl_Position = vec4(place * scale + offset, 0.0, 1.0);
  gl_PointSize = size;
  shade = tint;
}`;

const FRAGMENT = `
precision mediump float;
varying vec4 shade;
void main() {
  vec2 away = gl_PointCoord - 0.5;
  float alpha = shade.a * smoothstep(0.5, 0.38, length(away));
  gl_FragColor = vec4(shade.rgb * alpha, alpha);
}`;

function compiled(gl: WebGLRenderingContext, kind: number, source: string): WebGLShader {
  const shader = gl.createShader(kind)!;
  gl.shaderSource(shader, source);
  gl.compileShader(shader);
  if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) {
    throw new Error(gl.getShaderInfoLog(shader) ?? "the point shader was refused");
  }
  return shader;
}

/** Whether WebGL is there and is not computed by the processor, which would be slow. */
function hasGraphics(): boolean {
  const gl = document.createElement("canvas").getContext("webgl");
  if (gl === null) return false;
  const names = gl.getExtension("WEBGL_debug_renderer_info");
  const name = names === null ? "" : String(gl.getParameter(names.UNMASKED_RENDERER_WEBGL));
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  return !/swiftshader|llvmpipe|software|basic render/i.test(name);
}

/** Points on a canvas; `open` gives null where WebGL is missing or has no graphics processor. */
export class PointsGl implements PointsLayer {
  private count = 0;
  private readonly places: WebGLBuffer;
  private readonly tints: WebGLBuffer;
  private readonly uniforms: Record<"scale" | "offset" | "size", WebGLUniformLocation | null>;

  private constructor(private readonly gl: WebGLRenderingContext) {
    const program = gl.createProgram()!;
    gl.attachShader(program, compiled(gl, gl.VERTEX_SHADER, VERTEX));
    gl.attachShader(program, compiled(gl, gl.FRAGMENT_SHADER, FRAGMENT));
    gl.bindAttribLocation(program, 0, "place");
    gl.bindAttribLocation(program, 1, "tint");
    gl.linkProgram(program);
    gl.useProgram(program);
    this.places = gl.createBuffer()!;
    this.tints = gl.createBuffer()!;
    this.uniforms = {
      scale: gl.getUniformLocation(program, "scale"),
      offset: gl.getUniformLocation(program, "offset"),
      size: gl.getUniformLocation(program, "size"),
    };
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  static open(canvas: HTMLCanvasElement): PointsGl | null {
    if (!hasGraphics()) return null;
    const gl = canvas.getContext("webgl", { antialias: false, premultipliedAlpha: true });
    return gl === null ? null : new PointsGl(gl);
  }

  /** Coordinates x, y, x, y, ... of n points. */
  setPlaces(xy: Float32Array): void {
    const { gl } = this;
    this.count = xy.length / 2;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.places);
    gl.bufferData(gl.ARRAY_BUFFER, xy, gl.STATIC_DRAW);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribPointer(0, 2, gl.FLOAT, false, 0, 0);
  }

  /** Red, green, blue, alpha of 0..255 of n points. */
  setTints(rgba: Uint8Array): void {
    const { gl } = this;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.tints);
    gl.bufferData(gl.ARRAY_BUFFER, rgba, gl.STATIC_DRAW);
    gl.enableVertexAttribArray(1);
    gl.vertexAttribPointer(1, 4, gl.UNSIGNED_BYTE, true, 0, 0);
  }

  /** Paint: clip = place * scale + offset; all points, also while the view moves. */
  paint(scale: [number, number], offset: [number, number], size: number): void {
    const { gl } = this;
    gl.viewport(0, 0, gl.drawingBufferWidth, gl.drawingBufferHeight);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.uniform2f(this.uniforms.scale, ...scale);
    gl.uniform2f(this.uniforms.offset, ...offset);
    gl.uniform1f(this.uniforms.size, size);
    gl.drawArrays(gl.POINTS, 0, this.count);
  }
}
