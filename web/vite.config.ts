// Build of the page: one classic script, one style sheet, the wasm file and the template.
import { copyFileSync, mkdirSync } from "node:fs";
import { resolve } from "node:path";
import { defineConfig, type Plugin } from "vite";

const output = resolve(import.meta.dirname, "../src/tightbound/exploring/static");

/** Copies the files that are not bundled beside the script. */
function copies(): Plugin {
  return {
    name: "copies",
    closeBundle() {
      mkdirSync(output, { recursive: true });
      const wasm = "node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm";
      copyFileSync(resolve(import.meta.dirname, wasm), resolve(output, "ort.wasm"));
      copyFileSync(resolve(import.meta.dirname, "page.html"), resolve(output, "index.html"));
    },
  };
}

export default defineConfig({
  plugins: [copies()],
  define: { "import.meta.url": "document.baseURI" },
  build: {
    outDir: output,
    emptyOutDir: false,
    target: "es2022",
    cssMinify: true,
    modulePreload: false,
    lib: {
      entry: resolve(import.meta.dirname, "src/main.ts"),
      formats: ["iife"],
      name: "tightboundPage",
      fileName: () => "page.js",
      cssFileName: "page",
    },
  },
});
