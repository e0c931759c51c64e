// Small helpers that make elements; no style attributes, so that the policy can forbid them.

type Child = Node | string | null;
type Properties = Record<string, string | number | boolean | EventListener | null>;

/** An element with attributes, listeners (`onclick` and so on) and children. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Properties = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

export function button(text: string, onclick: () => void, kind = ""): HTMLButtonElement {
  return h("button", { type: "button", class: kind, onclick }, text);
}

let counter = 0;

export function newId(prefix: string): string {
  counter += 1;
  return `${prefix}-${counter}`;
}

/** A choice of one of several texts, as a row of buttons with the roles of radio buttons. */
export function segmented<V extends string>(
  label: string,
  options: readonly (readonly [V, string])[],
  value: V,
  onchange: (value: V) => void,
): HTMLElement {
  const name = newId("choice");
  const group = h("fieldset", { class: "segmented" }, h("legend", { class: "unseen" }, label));
  for (const [key, text] of options) {
    const input = h("input", {
      type: "radio",
      name,
      value: key,
      checked: key === value,
      onchange: () => onchange(key),
    });
    group.append(h("label", {}, input, h("span", {}, text)));
  }
  return group;
}

/** A labelled select. */
export function select<V extends string>(
  label: string,
  options: readonly (readonly [V, string])[],
  value: V,
  onchange: (value: V) => void,
): HTMLElement {
  const element = h("select", {}) as HTMLSelectElement;
  for (const [key, text] of options) {
    element.append(h("option", { value: key, selected: key === value }, text));
  }
  element.addEventListener("change", () => onchange(element.value as V));
  return h("label", { class: "field" }, h("span", { class: "name" }, label), element);
}

/** A labelled checkbox. */
export function checkbox(label: string, value: boolean, onchange: (value: boolean) => void): HTMLElement {
  const input = h("input", { type: "checkbox", checked: value }) as HTMLInputElement;
  input.addEventListener("change", () => onchange(input.checked));
  return h("label", { class: "check" }, input, h("span", {}, label));
}

export interface Slider {
  element: HTMLElement;
  input: HTMLInputElement;
  set(value: number): void;
}

/** A labelled slider with its value as text. */
export function slider(options: {
  label: string;
  min: number;
  max: number;
  step: number;
  value: number;
  format?: (value: number) => string;
  oninput: (value: number) => void;
}): Slider {
  const format = options.format ?? ((value: number) => value.toFixed(2));
  const output = h("output", {}, format(options.value));
  const input = h("input", {
    type: "range",
    min: options.min,
    max: options.max,
    step: options.step,
    "aria-label": options.label,
  }) as HTMLInputElement;
  const show = (value: number) => {
    output.textContent = format(value);
    const share = (value - options.min) / (options.max - options.min);
    input.style.setProperty("--share", `${Math.max(0, Math.min(1, share)) * 100}%`);
  };
  const set = (value: number) => {
    input.value = String(value);
    show(value);
  };
  set(options.value);
  input.addEventListener("input", () => {
    show(Number(input.value));
    options.oninput(Number(input.value));
  });
  const name = h("span", { class: "name" }, options.label);
  return { element: h("label", { class: "slider" }, name, input, output), input, set };
}

/** A section with a heading. */
export function section(title: string, ...children: Child[]): HTMLElement {
  return h("section", { class: "block" }, h("h3", {}, title), ...children);
}

/** A number for reading: about four digits. */
export function format(value: number | null, digits = 2): string {
  if (value === null || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const text = Math.abs(value) >= 1000 ? value.toFixed(0) : value.toFixed(digits);
  return text.replace("-", "−");
}

/** A share as a percentage. */
export function percent(share: number): string {
  return `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
}
