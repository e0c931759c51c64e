// A normal q that is moved, widened and turned by hand or keys over a figure.
import type { Axes } from "./figure";
import { Normal2 } from "./normal2";
import { colour } from "../widgets/theme";

const HIT = 22; // pixels around a handle
const OUT = 2; // standard deviations at which the handles for the width are
const LEAST = 1e-3; // of a standard deviation

/** Handles of a normal: its mean, and two places on its ellipse of two standard deviations. */
export class NormalHandles {
  axes: Axes | null = null;
  private dragged: number | null = null;

  constructor(
    readonly element: HTMLElement,
    private q: Normal2,
    private readonly onChange: (q: Normal2) => void,
    label: string,
  ) {
    element.tabIndex = 0;
    element.classList.add("handled");
    element.setAttribute("role", "application");
    element.setAttribute("aria-label", label);
    element.addEventListener("pointerdown", (event) => this.down(event));
    element.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"] as const) {
      element.addEventListener(name, () => (this.dragged = null));
    }
    element.addEventListener("keydown", (event) => this.key(event));
  }

  set(q: Normal2): void {
    this.q = q;
  }

  private change(q: Normal2): void {
    this.q = q;
    this.onChange(q);
  }

  private places(): [number, number][] {
    return [[this.q.x, this.q.y], this.q.at(OUT, 0), this.q.at(0, OUT)];
  }

  paint(axes: Axes): void {
    this.axes = axes;
    const { pen } = axes;
    this.places().forEach(([x, y], k) => {
      const radius = k === 0 ? 7 : 6;
      pen.beginPath();
      if (k === 0) pen.arc(axes.x(x), axes.y(y), radius, 0, 7);
      else pen.rect(axes.x(x) - radius + 1, axes.y(y) - radius + 1, 2 * radius - 2, 2 * radius - 2);
      pen.fillStyle = colour(k === 0 ? "posterior" : "panel");
      pen.fill();
      pen.strokeStyle = colour(k === 0 ? "panel" : "posterior");
      pen.lineWidth = 2;
      pen.stroke();
    });
  }

  private at(event: PointerEvent): [number, number] {
    const box = this.element.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  private down(event: PointerEvent): void {
    const { axes } = this;
    if (axes === null) return;
    this.element.setPointerCapture(event.pointerId);
    const [px, py] = this.at(event);
    const distances = this.places().map(([x, y]) => Math.hypot(axes.x(x) - px, axes.y(y) - py));
    const nearest = distances.indexOf(Math.min(...distances));
    this.dragged = distances[nearest] < HIT ? nearest : 0;
    if (distances[nearest] >= HIT) this.drag(px, py);
  }

  private move(event: PointerEvent): void {
    if (this.dragged !== null) this.drag(...this.at(event));
  }

  private drag(px: number, py: number): void {
    const axes = this.axes!;
    const [x, y] = [axes.worldX(px), axes.worldY(py)];
    const { q } = this;
    if (this.dragged === 0) this.change(q.moved(x, y));
    else if (this.dragged === 1) {
      const a = Math.max(LEAST, (x - q.x) / OUT);
      this.change(new Normal2(q.x, q.y, a, (y - q.y) / OUT, q.c));
    } else this.change(new Normal2(q.x, q.y, q.a, q.b, Math.max(LEAST, (y - q.y) / OUT)));
  }

  private key(event: KeyboardEvent): void {
    const { q, axes } = this;
    if (axes === null) return;
    const step = (axes.xs[1] - axes.xs[0]) / 60;
    const grow = event.key === "ArrowRight" || event.key === "ArrowUp" ? 1.08 : 1 / 1.08;
    const arrows: Record<string, [number, number]> = {
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
      ArrowUp: [0, 1],
      ArrowDown: [0, -1],
    };
    const arrow = arrows[event.key];
    if (arrow && event.shiftKey) {
      const [a, c] = arrow[0] !== 0 ? [q.a * grow, q.c] : [q.a, q.c * grow];
      this.change(new Normal2(q.x, q.y, a, q.b, c));
    } else if (arrow) this.change(q.moved(q.x + step * arrow[0], q.y + step * arrow[1]));
    else if (event.key === "," || event.key === ".") {
      const turn = event.key === "." ? 0.12 : -0.12;
      this.change(new Normal2(q.x, q.y, q.a, q.b + turn * Math.min(q.a, q.c), q.c));
    } else return;
    event.preventDefault();
  }
}
