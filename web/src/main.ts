// Start of the page: read the manifest, open the runs, show the page.
import "./style.css";
import { Model } from "./compute/model";
import { awaitGraphs } from "./compute/networks_later";
import { hasWebAssembly } from "./compute/ort_decoder";
import { blocksOfPage, FileBlocks, KeptBlocks } from "./data/blocks";
import { readManifest } from "./data/manifest";
import type { Manifest, Run } from "./data/manifest";
import { language, t } from "./texts/texts";
import { PageContext, RunContext } from "./views/context";
import { showPage } from "./views/page";
import { h } from "./widgets/dom";
import { startTheme } from "./widgets/theme";

async function openRun(run: Run | undefined, blocks: KeptBlocks): Promise<RunContext | null> {
  return run === undefined ? null : RunContext.open(await Model.open(run, blocks));
}

/** The run for the scenes: one that the page brought for them, else one shown that fits. */
async function openPage(manifest: Manifest, blocks: KeptBlocks): Promise<PageContext> {
  const of = (role: Run["role"]) => manifest.runs.find((run) => run.role === role);
  const main = await openRun(of("main") ?? manifest.runs[0], blocks);
  if (main === null) throw new Error("the page has no run: make it again");
  const second = await openRun(of("second"), blocks);
  const shown = [main, ...(second === null ? [] : [second])];
  const scene = async (number: number | null | undefined) => {
    if (number === null || number === undefined) return null;
    const run = manifest.runs[number];
    return shown.find(({ model }) => model.run === run) ?? openRun(run, blocks);
  };
  const { vae = null, ae = null } = manifest.scenes ?? {};
  return new PageContext(main, second, await scene(vae), await scene(ae));
}

/** Without WebAssembly the server computes what the page would. */
function computeOnServer(runs: readonly Run[]): void {
  for (const graph of runs.flatMap((run) => Object.values(run.graphs))) {
    Object.assign(graph, { where: "server", block: null, waits: false, reason: t("no.wasm.served") });
  }
}

async function start(): Promise<void> {
  const root = document.getElementById("page")!;
  startTheme();
  try {
    const source = blocksOfPage();
    const manifest = readManifest(await source.manifest());
    language.set(manifest.language);
    root.replaceChildren(h("p", { class: "loading" }, t("loading")));
    if (!hasWebAssembly()) {
      if (source instanceof FileBlocks) throw new Error(t("no.wasm"));
      computeOnServer(manifest.runs);
    }
    const page = await openPage(manifest, new KeptBlocks(source));
    showPage(root, manifest, page);
    for (const run of page.shown) run.state.refresh();
    void awaitGraphs(manifest.runs);
    Object.assign(window, { tightbound: { page } });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    root.replaceChildren(h("p", { class: "failure", role: "alert" }, t("failed", { reason })));
  } finally {
    root.setAttribute("aria-busy", "false");
  }
}

void start();
