// Planes of the scenes: the codes of a run with p(z), and one hand.
import type { Scope } from "../state";
import { t } from "../texts/texts";
import type { RunContext } from "../views/context";
import { PlaneCanvas } from "../widgets/plane_canvas";
import type { PlaneLayers } from "../widgets/plane_canvas";
import { painted } from "../widgets/theme";

/** A plane of the codes of a run. */
export function codePlane(
  context: RunContext,
  layers: PlaneLayers,
  onHand: (x: number, y: number) => void,
  scope: Scope,
): PlaneCanvas {
  const { model } = context;
  const data = context.planeData.value;
  const plane = new PlaneCanvas({ label: t("plane.label", { x: "z₁", y: "z₂" }), onHand });
  plane.layers = layers;
  plane.setContent({
    xy: data.xy,
    labels: model.points.labels,
    classes: model.run.data.classes ?? [],
    contours: data.contours,
    holes: data.holes === null || data.prior === null ? null : { grid: data.prior, mask: data.holes.mask },
    axisLabels: ["z₁", "z₂"],
  });
  plane.setFrame(data.frame);
  painted.watch(() => plane.recolour(), scope);
  return plane;
}
