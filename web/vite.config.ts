// Build of the page: one classic script, one style sheet, the wasm file and the template.
import { copyFileSync, mkdirSync } from "node:fs";
import { resolve } from "node:path";
import { defineConfig, type Plugin } from "vite";
import { formulas } from "./formulas.ts";

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

/** onnxruntime gets its wasm as bytes: no address of a file is needed or inlined. */
function withoutAddresses(): Plugin {
  return {
    name: "without-addresses",
    enforce: "pre",
    transform(code, id) {
      if (!id.includes("onnxruntime-web/dist")) return null;
      return code
        .replaceAll('new URL("ort-wasm-simd-threaded.wasm",import.meta.url).href', '"ort.wasm"')
        .replaceAll("import.meta.url", '"blob:page"');
    },
  };
}

export default defineConfig({
  plugins: [formulas(), withoutAddresses(), copies()],
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
