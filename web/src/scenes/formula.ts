// Formulas of the scenes as elements; the MathML is made when the page is built.
import formulas from "./formulas.tex";
import { h } from "../widgets/dom";

/** The element of a formula of `formulas.tex`. */
export function formula(name: string): HTMLElement {
  const mathml = formulas[name];
  if (mathml === undefined) throw new Error(`formulas.tex has no formula ${name}`);
  const element = h("span", { class: "formula-text" });
  element.innerHTML = mathml; // a constant of the build
  return element;
}
