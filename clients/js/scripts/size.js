/**
 * Check how large the core of the client is on a page: minified and compressed, without what it loads only when it is needed.
 *
 *     node scripts/size.js
 */

import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

import { build } from "esbuild";

const PACKAGE = dirname(dirname(fileURLToPath(import.meta.url)));
/** The largest size, in bytes: 8 KB (docs/adr/0070). */
const LIMIT = 8192;

const { outputFiles } = await build({
  entryPoints: [join(PACKAGE, "src", "index.js")],
  bundle: true,
  minify: true,
  format: "esm",
  write: false,
  // `import()` in the core: a bundler makes files of their own of these.
  external: ["./detour.js", "./renewal.js", "./requests.js", "./seen.js"],
});
const bytes = gzipSync(outputFiles[0].contents, { level: 9 }).length;
const text = `@beaconfire/client: the core is ${bytes} bytes, minified and gzipped; at most ${LIMIT} are allowed`;
if (bytes > LIMIT) {
  console.error(text);
  process.exit(1);
}
console.log(text);
