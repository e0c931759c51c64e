// This run: terms of the evaluation, networks, notices, and what is not shown.
import type { PageContext, RunContext } from "./context";
import { sentence, t } from "../texts/texts";
import type { TextKey } from "../texts/texts";
import { format, h, section } from "../widgets/dom";

const TERMS = ["elbo", "reconstruction", "kl", "log_px", "inference_gap"] as const;

export function aboutView(page: PageContext, notices: string[]): HTMLElement {
  const columns = page.shown.map((run) => h("div", { class: "run" }, facts(run), terms(run), networks(run)));
  return h(
    "div",
    { class: "view" },
    h("div", { class: "followed" }, ...columns),
    notices.length > 0 ? section(t("run.notices"), ...notices.map((text) => h("p", {}, text))) : null,
    leftOut(page),
  );
}

function rows(pairs: (readonly [string, string])[]): HTMLElement {
  const list = h("dl", { class: "facts" });
  for (const [name, value] of pairs) list.append(h("dt", {}, name), h("dd", {}, value));
  return list;
}

function facts(run: RunContext): HTMLElement {
  const { run: about } = run.model;
  const active = about.latent.features.filter((feature) => feature.active).length;
  return section(
    t("run.facts"),
    rows([
      [t("run.name"), about.name],
      [t("run.recipe"), about.recipe],
      [t("run.data"), about.data.name],
      [t("run.points"), t("run.points.value", { n: about.points.n, split: about.points.split })],
      [t("run.latent"), t("run.latent.value", { active, width: about.latent.width })],
    ]),
  );
}

function terms(run: RunContext): HTMLElement {
  const values = run.model.run.terms;
  if (values === null) return section(t("run.terms"), h("p", {}, t("run.terms.none")));
  const pairs: [string, string][] = [];
  for (const name of TERMS) {
    const value = values[name];
    if (!Array.isArray(value)) continue;
    // a lower bound in expectation whose error is not known for all examples
    const isBound = Boolean(values.one_sided) && (name === "log_px" || name === "inference_gap");
    const sign = isBound ? "≥ " : "";
    pairs.push([t(`run.term.${name}` as TextKey), `${sign}${format(value[0])} ± ${format(value[1])}`]);
  }
  return section(t("run.terms"), rows(pairs));
}

function size(bytes: number): string {
  return bytes >= 1e6 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e3).toFixed(0)} kB`;
}

function networks(run: RunContext): HTMLElement {
  const pairs = Object.entries(run.model.run.graphs).map(([name, graph]): [string, string] => {
    if (graph.where === "server") return [name, `${t("run.where.server")}: ${graph.reason ?? ""}`];
    const half = graph.float16 ? `, ${t("run.float16", { e: (graph.error ?? 0).toExponential(1), n: graph.measured ?? 0 })}` : "";
    return [name, `${t("run.where.page")}, ${size(graph.bytes)}${half}`];
  });
  return section(t("run.networks"), rows(pairs));
}

function leftOut(page: PageContext): HTMLElement | null {
  const texts: string[] = [];
  for (const { model } of page.shown) {
    const { run } = model;
    if (run.latent.shown !== null) texts.push(sentence(run.latent.shown));
    for (const [name, reason] of Object.entries(run.export.left_out ?? {})) texts.push(`${name}: ${reason}`);
    if (run.prior.kind === "none" && run.prior.reason) texts.push(run.prior.reason);
  }
  return texts.length > 0 ? section(t("run.nothing"), ...texts.map((text) => h("p", {}, text))) : null;
}
