// How the page is built: one small bundle, hashed names, nothing inline, so that a strict Content-Security-Policy holds.
import react from "@vitejs/plugin-react";
import { defineConfig, loadEnv } from "vite";

export default defineConfig(({ mode }) => {
  // `npm run dev` talks to a running edge.
  const edge = loadEnv(mode, ".", "PARLEY_").PARLEY_EDGE_URL ?? "http://127.0.0.1:8080";
  return {
    plugins: [react()],
    build: {
      target: "es2022",
      // Inlined assets would be data: URLs, which the policy need not allow.
      assetsInlineLimit: 0,
      modulePreload: { polyfill: false },
    },
    server: { proxy: Object.fromEntries(["/auth", "/v1", "/.well-known"].map((path) => [path, edge])) },
  };
});
