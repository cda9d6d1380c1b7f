import { fileURLToPath } from "node:url";

import { defineConfig } from "vitest/config";

const stage = JSON.parse(process.env["BEACONFIRE_STAGE"] ?? "{}");
const at = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));
const client = [
  { find: /^@beaconfire\/client$/, replacement: at("../js/src/index.js") },
  { find: /^@beaconfire\/client\/(.+)$/, replacement: at("../js/src/$1.js") },
];
const react18 = [{ find: /^(react|react-dom)(?=\/|$)/, replacement: at("test/react18/node_modules/$1") }];

export default defineConfig({
  resolve: {
    alias: process.env["REACT"] === "18" ? [...client, ...react18] : client,
  },
  test: {
    include: ["test/*.test.jsx"],
    environment: "jsdom",
    // The gateway checks the origin of every socket.
    environmentOptions: { jsdom: { url: stage.gatewayUrl } },
    // graphql must be loaded once: Vite and Node choose different files of it.
    server: { deps: { inline: [/@apollo\/client/, /graphql/] } },
    setupFiles: ["test/warnings.js"],
    fileParallelism: false,
    testTimeout: 20_000,
  },
});
