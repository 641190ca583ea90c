// What both scripts share: files as @mcap/core takes them, and the packages that are CommonJS.

import { closeSync, fstatSync, openSync, readSync, writeSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const lz4 = require("@foxglove/wasm-lz4");
export const zstd = require("@foxglove/wasm-zstd");
await lz4.isLoaded;
await zstd.isLoaded;

export const decompressHandlers = {
  lz4: (data, size) => lz4(data, Number(size)),
  zstd: (data, size) => zstd.decompress(data, Number(size)),
};

/** A file to be read by its index. */
export function readable(path) {
  const file = openSync(path);
  return {
    size: async () => BigInt(fstatSync(file).size),
    read: async (offset, length) => {
      const bytes = new Uint8Array(Number(length));
      if (readSync(file, bytes, 0, bytes.length, Number(offset)) !== bytes.length) throw new Error("the file has ended");
      return bytes;
    },
    close: () => closeSync(file),
  };
}

/** A file to be written. */
export function writable(path) {
  const file = openSync(path, "w");
  let position = 0n;
  return {
    position: () => position,
    write: async (bytes) => {
      position += BigInt(writeSync(file, bytes));
    },
    close: () => closeSync(file),
  };
}

export const hex = (bytes) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex");
