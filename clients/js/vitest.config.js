import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/*.test.js"],
    restoreMocks: true,
    // Node loads the published files as they are, with their `import()`. Vite only loads the tests.
    server: { deps: { external: [/\/clients\/js\/src\//] } },
  },
});
