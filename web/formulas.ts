// Build step: formulas in TeX become MathML, so that the page needs no library for them.
import temml from "temml";
import type { Plugin } from "vite";

/** `name = TeX` of each line of a file; lines that begin with % are comments. */
function lines(text: string, file: string): [string, string][] {
  const pairs: [string, string][] = [];
  for (const line of text.split("\n")) {
    if (line.trim() === "" || line.startsWith("%")) continue;
    const match = /^([\w.-]+)\s*=\s*(.+)$/.exec(line);
    if (match === null) throw new Error(`${file}: "${line}" is not of the form name = TeX`);
    pairs.push([match[1], match[2]]);
  }
  return pairs;
}

/** MathML of a formula, without style attributes, which the page's policy forbids. */
function mathml(tex: string): string {
  const inline = tex.replace(/^\\displaystyle\s*/, "");
  const options = { displayMode: inline !== tex, trust: true, throwOnError: true };
  return temml
    .renderToString(inline, options)
    .replace(/ style="[^"]*"/g, "")
    .replace(/ class="tml-[^"]*"/g, "");
}

/** Modules of files `*.tex`: an object of names and their MathML. */
export function formulas(): Plugin {
  return {
    name: "formulas",
    enforce: "pre",
    transform(text, id) {
      if (!id.endsWith(".tex")) return null;
      const entries = lines(text, id).map(([name, tex]) => [name, mathml(tex)]);
      return { code: `export default ${JSON.stringify(Object.fromEntries(entries))};`, map: null };
    },
  };
}
