// Work of a scene that waits for the decoder: the newest request wins, failures are shown.
import { Latest } from "../compute/network";
import type { Scope } from "../state";
import { h } from "../widgets/dom";

/** Calls of `work` one after another; of those that wait only the newest; none after the end. */
export function latest<A>(
  element: HTMLElement,
  scope: Scope,
  work: (argument: A) => Promise<void>,
): (argument: A) => void {
  let isOpen = true;
  scope.add(() => (isOpen = false));
  const failure = h("p", { class: "failure", role: "alert", hidden: true });
  element.append(failure);
  const queue = new Latest<A>(async (argument) => {
    if (!isOpen) return;
    try {
      await work(argument);
      failure.hidden = true;
    } catch (error) {
      failure.textContent = error instanceof Error ? error.message : String(error);
      failure.hidden = false;
    }
    element.dataset.ready = "true";
  });
  return (argument) => {
    element.dataset.ready = "false";
    queue.push(argument);
  };
}
