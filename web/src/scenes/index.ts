// The scenes of the theory: each has one thing to move and one sentence that says what to see.
//
// How to write a scene:
// - One file `src/scenes/NAME.ts` that exports a `Scene`, and one line in SCENES below, in order.
// - `name`, `sentence` and `heading` are pairs [English, Korean]; every other text that the scene
//   shows goes through `both(en, ko)` as well.
// - `mount(element, context, scope)` fills the empty element. Exactly one control (a slider, a
//   plane, a button). All numbers come from the exported model: `context.vae` is a run with two
//   features (the main run, or the companion that was trained with it), `context.ae` an
//   autoencoder with two features, null where the page has none.
// - Everything that must end when the scene is left goes to `scope.add(...)`; signals are watched
//   with `signal.watch(f, scope)`.
// - Colours: colour("prior"), colour("posterior"), colour("likelihood"), colour("ink") of
//   widgets/theme: the same thing has the same colour on the whole page. Canvases are painted with
//   `Chart` of widgets/charts, planes with `PlaneCanvas`, examples with `exampleView` and `Strip`.
// - `needs` says which runs the scene is for; without them the page leaves it out with a sentence.
// - The anchor of a scene is `#scene-ID`, to which the twelve questions in the docs refer.
import type { RunContext } from "../views/context";
import type { Scope } from "../state";
import { language } from "../texts/texts";
import { featuresScene } from "./features";
import { meanAndVariance } from "./mean_and_variance";

export type Both = readonly [en: string, ko: string];

/** What a scene may use. */
export interface SceneContext {
  /** A run with two features and a bound. */
  vae: RunContext;
  /** An autoencoder with two features; null where the page has none. */
  ae: RunContext | null;
  /** The run that the page is about. */
  main: RunContext;
}

export interface Scene {
  /** The anchor: lower case and hyphens. */
  id: string;
  name: Both;
  /** One sentence that says what to see. */
  sentence: Both;
  /** The statement of the theory as a formula in plain characters; "" for none. */
  formula: string;
  needs: "vae" | "vae and ae";
  mount(element: HTMLElement, context: SceneContext, scope: Scope): void;
}

/** The text of a pair in the language of the page. */
export function both(texts: Both): string {
  return language.value === "ko" ? texts[1] : texts[0];
}

export const SCENES: readonly Scene[] = [featuresScene, meanAndVariance];
