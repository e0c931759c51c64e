// The scenes of the theory: each has one thing to move and one sentence that says what to see.
//
// How to write a scene:
// - One file `src/scenes/NAME.ts` that exports a `Scene`, and one line in SCENES below, in order.
// - `name` and `sentence` are pairs [English, Korean]; every other text that the scene shows goes
//   through `both([en, ko])` as well.
// - `formulas` are names of `formulas.tex`, whose TeX the build turns into MathML.
// - `mount(element, context, scope)` fills the empty element. Exactly one control (a slider, a
//   plane, a button). All numbers come from the exported model: `context.vae` is a run with two
//   features (the main run, or the companion that was trained with it), `context.ae` an
//   autoencoder with two features, null where the page has none.
// - Everything that must end when the scene is left goes to `scope.add(...)`; signals are watched
//   with `signal.watch(f, scope)`; work that waits for the decoder runs in `latest(...)`.
// - Colours: colour("prior"), colour("posterior") for q, colour("likelihood"), colour("truth") for
//   p(z|x), colour("ink") for p(x): the same thing has the same colour on the whole page. Canvases
//   are painted with `Chart` of widgets/charts and the parts of `figure.ts`, planes with
//   `PlaneCanvas`, examples with `exampleView` and `Strip`.
// - `needs` says which runs the scene is for; without them the page leaves it out.
// - The anchor of a scene is `#scene-ID`, to which the questions in docs/scenes.md refer.
import "./scenes.css";
import type { RunContext } from "../views/context";
import type { Scope } from "../state";
import { aeAndVae } from "./ae_and_vae";
import { bayesRule } from "./bayes_rule";
import { bound } from "./bound";
import { encoderAndDecoder } from "./encoder_and_decoder";
import { featuresScene } from "./features";
import { generation } from "./generation";
import { marginalisation } from "./marginalisation";
import { meanAndVariance } from "./mean_and_variance";
import { outOfReach } from "./out_of_reach";
import { threeTermsScene } from "./three_terms";
import type { Both } from "./texts";

export { both } from "./texts";

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
  /** The statement of the theory: names of formulas, one below the other. */
  formulas: readonly string[];
  needs: "vae" | "vae and ae";
  mount(element: HTMLElement, context: SceneContext, scope: Scope): void;
}

export const SCENES: readonly Scene[] = [
  featuresScene,
  meanAndVariance,
  encoderAndDecoder,
  aeAndVae,
  generation,
  marginalisation,
  outOfReach,
  bayesRule,
  threeTermsScene,
  bound,
];
