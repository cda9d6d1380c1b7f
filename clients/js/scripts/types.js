/**
 * Write the type declarations of the package into types/: those of the JavaScript files, from their JSDoc, and the
 * declarations that are written or generated in src/. `npm pack` runs this.
 */

import { spawnSync } from "node:child_process";
import { copyFile, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const PACKAGE = dirname(dirname(fileURLToPath(import.meta.url)));
const SOURCES = join(PACKAGE, "src");
const TYPES = join(PACKAGE, "types");
/** Applications that compile for an older language do not know `AsyncIterableIterator` otherwise. */
const LIBRARY = '/// <reference lib="es2018" />\n';

await rm(TYPES, { recursive: true, force: true });
const compiler = createRequire(import.meta.url).resolve("typescript/bin/tsc");
const options = ["--noEmit", "false", "--declaration", "--emitDeclarationOnly", "--outDir", TYPES];
const { status } = spawnSync(process.execPath, [compiler, "-p", PACKAGE, ...options], { stdio: "inherit" });
if (status !== 0) process.exit(status ?? 1);

for (const name of await readdir(TYPES, { recursive: true })) {
  if (!name.endsWith(".d.ts")) continue;
  const path = join(TYPES, name);
  const text = await readFile(path, "utf8");
  // `#private` is an error in applications that compile for ES5.
  await writeFile(path, LIBRARY + text.replaceAll(/^ +#private;\n/gm, ""));
}
for (const name of await readdir(SOURCES)) {
  if (name.endsWith(".d.ts")) await copyFile(join(SOURCES, name), join(TYPES, name));
}
await writeFile(join(TYPES, "styles.css.d.ts"), "export {};\n");
