import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// Where `make up` listens.
const {
  GATEWAY = "http://127.0.0.1:8080",
  AUTH = "http://127.0.0.1:8081",
  PUBLISHER = "http://127.0.0.1:8082",
} = process.env;

// With `changeOrigin: false` the gateway sees the page's own host. It then knows that the page is not a foreign one.
const to = (target) => ({ target, changeOrigin: false });

export default defineConfig({
  plugins: [react()],
  server: {
    proxy: {
      "/ws": { ...to(GATEWAY), ws: true },
      "/sse": to(GATEWAY),
      "/poll": to(GATEWAY),
      "/auth": to(AUTH),
      "/v1": to(PUBLISHER),
    },
  },
  build: { rollupOptions: { input: ["index.html", "apollo.html"] } },
});
