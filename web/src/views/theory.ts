// The theory: one scene at a time, with its sentence and formula.
import type { PageContext, RunContext } from "./context";
import { Scope } from "../state";
import { formula } from "../scenes/formula";
import { both, SCENES } from "../scenes/index";
import type { Scene, SceneContext } from "../scenes/index";
import { t } from "../texts/texts";
import { button, h } from "../widgets/dom";

let chosen = 0; // kept while other views are open

export function theoryView(page: PageContext, scope: Scope): HTMLElement {
  const vae = page.theoryVae;
  if (vae === null) return h("div", { class: "view" }, h("p", { class: "hint" }, t("theory.none")));
  const context: SceneContext = { vae, ae: page.theoryAe, main: page.main };
  const scenes = SCENES.filter((scene) => scene.needs === "vae" || context.ae !== null);
  const anchor = location.hash.replace("#scene-", "");
  const named = scenes.findIndex((scene) => scene.id === anchor);
  if (named >= 0) chosen = named;
  chosen = Math.min(chosen, scenes.length - 1);
  const holder = h("div", { class: "scene-holder" });
  const list = h("ol", { class: "scene-list", "aria-label": t("theory.choose") });
  let inner = new Scope();
  scope.add(() => inner.close());
  const open = (k: number) => {
    chosen = k;
    inner.close();
    inner = new Scope();
    holder.replaceChildren(sceneElement(scenes, k, context, inner, choose));
    [...list.children].forEach((item, i) =>
      item.firstElementChild!.setAttribute("aria-current", i === k ? "step" : "false"),
    );
  };
  const choose = (k: number) => {
    history.replaceState(null, "", `#scene-${scenes[k].id}`);
    open(k);
  };
  scenes.forEach((scene, k) => list.append(h("li", {}, button(both(scene.name), () => choose(k)))));
  open(chosen);
  return h("div", { class: "view theory" }, list, h("div", { class: "scene-column" }, holder, smallRunsNote(page)));
}

function likelihoodName({ model }: RunContext): string {
  return model.run.export.recipe.likelihood?.name ?? model.run.export.likelihood?.family ?? "";
}

/** What the scenes show in place of the run of the page; null where it plays its parts itself. */
function smallRunsNote(page: PageContext): HTMLElement | null {
  const small = [page.theoryVae, page.theoryAe].filter((run) => run?.model.run.role.startsWith("scene-"));
  const [first] = small;
  if (!first) return null;
  const only = first === page.theoryVae ? "vae" : "ae";
  const texts = [t(`theory.small.${small.length === 2 ? "both" : only}`)];
  const [theirs, ours] = [likelihoodName(first), likelihoodName(page.main)];
  if (theirs !== ours) texts.push(t("theory.small.likelihood", { theirs, ours }));
  return h("p", { class: "note small-runs" }, texts.join(" "));
}

function sceneElement(
  scenes: readonly Scene[],
  k: number,
  context: SceneContext,
  scope: Scope,
  open: (k: number) => void,
): HTMLElement {
  const scene = scenes[k];
  const stage = h("div", { class: "stage-scene" });
  const element = h(
    "article",
    { class: "scene", id: `scene-${scene.id}` },
    h("h2", {}, `${k + 1}. ${both(scene.name)}`),
    ...scene.formulas.map((name) => h("p", { class: "formula" }, formula(name))),
    h("p", { class: "sentence" }, both(scene.sentence)),
    stage,
    h(
      "div",
      { class: "row" },
      k > 0 ? button(t("theory.previous"), () => open(k - 1), "quiet") : null,
      k < scenes.length - 1 ? button(t("theory.next"), () => open(k + 1)) : null,
    ),
  );
  scene.mount(stage, context, scope);
  return element;
}
