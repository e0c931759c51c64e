// Blocks of bytes by name: from the server, or from the elements of a page in one file.
import { decodeDoubles, decodeFloats, decodeIntegers } from "./arrays";
import type { Block } from "./manifest";

/** Where the bytes of a page come from. */
export interface Blocks {
  manifest(): Promise<string>;
  bytes(name: string): Promise<Uint8Array>;
}

async function fetched(path: string): Promise<Response> {
  const response = await fetch(path, { credentials: "same-origin", cache: "no-store" });
  if (!response.ok) throw new Error(`${path}: the server answered ${response.status}`);
  return response;
}

/** Blocks of a page that a server sends. */
export class ServedBlocks implements Blocks {
  async manifest(): Promise<string> {
    return (await fetched("data/manifest.json")).text();
  }

  async bytes(name: string): Promise<Uint8Array> {
    const response = await fetched(`data/blocks/${encodeURIComponent(name)}`);
    return new Uint8Array(await response.arrayBuffer());
  }
}

/** Bytes of base64 text that was compressed with gzip. */
export async function unpacked(text: string): Promise<Uint8Array> {
  const binary = atob(text.trim());
  const packed = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) packed[i] = binary.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Blocks of a page in one file, in script elements that hold base64 of gzip. */
export class FileBlocks implements Blocks {
  private element(id: string): HTMLElement {
    const element = document.getElementById(id);
    if (element === null) throw new Error(`the page has no block ${id}: export it again`);
    return element;
  }

  async manifest(): Promise<string> {
    return this.element("manifest").textContent ?? "";
  }

  async bytes(name: string): Promise<Uint8Array> {
    const element = this.element(`block-${name}`);
    const bytes = await unpacked(element.textContent ?? "");
    element.textContent = ""; // each block is read once; its text would stay in memory
    return bytes;
  }
}

/** Blocks of this page: in the file where it has them, else of its server. */
export function blocksOfPage(): Blocks {
  return document.getElementById("manifest") === null ? new ServedBlocks() : new FileBlocks();
}

/** Blocks that are read once and kept. */
export class KeptBlocks {
  private readonly kept = new Map<string, Promise<Uint8Array>>();

  constructor(private readonly source: Blocks) {}

  bytes(name: string): Promise<Uint8Array> {
    let promise = this.kept.get(name);
    if (promise === undefined) {
      promise = this.source.bytes(name);
      this.kept.set(name, promise);
    }
    return promise;
  }

  async floats(block: Block): Promise<Float32Array> {
    return decodeFloats(await this.bytes(block.block), block);
  }

  async doubles(block: Block): Promise<Float64Array> {
    return decodeDoubles(await this.bytes(block.block), block);
  }

  async integers(block: Block): Promise<Int32Array> {
    return decodeIntegers(await this.bytes(block.block), block);
  }
}
