// The page: header, planes on the left, the chosen view beside or below them.
import { betweenView } from "./between";
import { aboutView } from "./about";
import type { PageContext } from "./context";
import { exploreView } from "./explore";
import { featuresView } from "./features";
import { inputView } from "./input";
import { decodedCard, planePanel } from "./plane_panel";
import { theoryView } from "./theory";
import { progress } from "../compute/networks_later";
import { hasWebAssembly } from "../compute/ort_decoder";
import type { Manifest } from "../data/manifest";
import { Scope, Signal } from "../state";
import { language, sentence, t } from "../texts/texts";
import type { Language, TextKey } from "../texts/texts";
import { button, h, select } from "../widgets/dom";
import { setTheme, theme } from "../widgets/theme";
import type { Theme } from "../widgets/theme";

const TABS = ["explore", "input", "features", "between", "theory", "run"] as const;
type Tab = (typeof TABS)[number];

/** Views without the planes. */
const WIDE: readonly Tab[] = ["theory", "run"];

function firstTab(): Tab {
  const name = location.hash.slice(1);
  if (name.startsWith("scene-")) return "theory";
  return TABS.find((tab) => tab === name) ?? "explore";
}

/** Build the page; called again when the language changes. */
export function showPage(root: HTMLElement, manifest: Manifest, page: PageContext): void {
  const tab = new Signal<Tab>(firstTab());
  let scope = new Scope();
  const build = () => {
    scope.close();
    scope = new Scope();
    document.documentElement.lang = language.value;
    root.replaceChildren(
      header(manifest, page),
      waitingNote(tab, scope),
      wasmNote(),
      ...body(manifest, page, tab, scope),
      footer(),
    );
  };
  let isFirst = true;
  language.watch(() => {
    if (!isFirst) build();
    isFirst = false;
  }, new Scope());
  build();
}

function header(manifest: Manifest, page: PageContext): HTMLElement {
  const languages: [Language, string][] = [
    ["en", "English"],
    ["ko", "한국어"],
  ];
  const themes: [Theme, string][] = [
    ["auto", t("theme.auto")],
    ["light", t("theme.light")],
    ["dark", t("theme.dark")],
  ];
  const recipes = page.shown.map(({ model }) => `${model.run.recipe}, ${model.run.data.name}`);
  return h(
    "header",
    { class: "top" },
    h("div", { class: "title" }, h("h1", {}, manifest.title), h("p", {}, [...new Set(recipes)].join(" · "))),
    h(
      "div",
      { class: "settings" },
      select(t("language"), languages, language.value, (value) => language.set(value)),
      select(t("theme"), themes, theme.value, setTheme),
    ),
  );
}

/** A sentence while graphs are made; at its end the view that says where they are computed. */
function waitingNote(tab: Signal<Tab>, scope: Scope): HTMLElement {
  const note = h("p", { class: "waiting", role: "status" });
  progress.watch((value) => {
    note.hidden = value === null;
    note.textContent = value === null ? "" : t("run.waits", value);
    if (value === null && tab.value === "run") tab.set("run");
  }, scope);
  return note;
}

/** A sentence where the browser has no WebAssembly, so that the server computes. */
function wasmNote(): HTMLElement | string {
  return hasWebAssembly() ? "" : h("p", { class: "waiting", role: "status" }, t("no.wasm.served"));
}

function body(manifest: Manifest, page: PageContext, tab: Signal<Tab>, scope: Scope): HTMLElement[] {
  const stage = h("div", { class: "stage" });
  for (const run of page.shown) {
    const name = page.second === null ? null : h("h2", { class: "run-name" }, run.model.run.name);
    stage.append(
      h("div", { class: "run-stage" }, name, planePanel(page, run, scope), decodedCard(run, scope)),
    );
  }
  const panel = h("div", { class: "panel", role: "tabpanel", id: "panel", tabindex: -1 });
  const layout = h("div", { class: page.second === null ? "layout" : "layout two" }, stage, panel);
  let inner = new Scope();
  scope.add(() => inner.close());
  const tabs = tabList(tab, scope);
  tab.watch((name) => {
    inner.close();
    inner = new Scope();
    const isWide = WIDE.includes(name);
    stage.hidden = isWide;
    layout.classList.toggle("wide", isWide);
    layout.dataset.tab = name;
    panel.setAttribute("aria-labelledby", `tab-${name}`);
    panel.replaceChildren(viewOf(name, manifest, page, inner));
  }, scope);
  return [tabs, layout];
}

function viewOf(
  name: Tab,
  manifest: Manifest,
  page: PageContext,
  scope: Scope,
): HTMLElement {
  switch (name) {
    case "explore":
      return exploreView(page, scope);
    case "input":
      return inputView(page, scope);
    case "features":
      return featuresView(page, scope);
    case "between":
      return betweenView(page, scope);
    case "theory":
      return theoryView(page, scope);
    case "run":
      return aboutView(page, (manifest.sentences ?? []).map(sentence));
  }
}

function tabList(tab: Signal<Tab>, scope: Scope): HTMLElement {
  const list = h("div", { class: "tabs", role: "tablist", "aria-label": t("tabs") });
  const buttons = TABS.map((name) => {
    const element = button(t(`tab.${name}` as TextKey), () => choose(name), "tab");
    element.id = `tab-${name}`;
    element.setAttribute("role", "tab");
    element.setAttribute("aria-controls", "panel");
    list.append(element);
    return element;
  });
  const choose = (name: Tab) => {
    history.replaceState(null, "", `#${name}`);
    tab.set(name);
  };
  list.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step === undefined) return;
    const next = (TABS.indexOf(tab.value) + step + TABS.length) % TABS.length;
    choose(TABS[next]);
    buttons[next].focus();
    event.preventDefault();
  });
  tab.watch((name) => {
    buttons.forEach((element, k) => {
      element.setAttribute("aria-selected", String(TABS[k] === name));
      element.tabIndex = TABS[k] === name ? 0 : -1;
    });
  }, scope);
  return list;
}

function footer(): HTMLElement {
  const keys: TextKey[] = ["keys.arrows", "keys.zoom", "keys.pan", "keys.lasso", "keys.enter", "keys.tab"];
  return h(
    "footer",
    {},
    h("details", {}, h("summary", {}, t("keys.title")), h("ul", {}, ...keys.map((key) => h("li", {}, t(key))))),
  );
}
