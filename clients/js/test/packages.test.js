/** The client together with the package `ws` in Node, and with a bundler. */

import { readFile } from "node:fs/promises";
import { createServer } from "node:net";
import { expect, test } from "vitest";

import { WebSocket } from "ws";

import { Client } from "../src/index.js";

/** A port that nothing listens on. */
const freePort = () =>
  new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });

test("a refused connection does not end a process that uses `ws`", async () => {
  const url = `ws://127.0.0.1:${await freePort()}/ws`;
  const client = new Client({ url, getToken: async () => "token", WebSocket, random: () => 0 });
  await new Promise((resolve) => {
    client.on("state", ({ state }) => state === "error" && resolve());
    client.connect();
  });

  expect(client.status.error.code).toBe("unreachable");
});

test("closing while `ws` connects does not end the process", async () => {
  const hung = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => hung.once("listening", resolve));
  const client = new Client({ url: `ws://127.0.0.1:${hung.address().port}/ws`, getToken: async () => "token", WebSocket });
  const connected = new Promise((resolve) => hung.once("connection", resolve));
  client.connect();
  const socket = await connected;
  client.close();
  await new Promise((resolve) => socket.once("close", resolve).resume());
  hung.close();

  expect(client.state).toBe("disconnected");
});

test("`sideEffects` names every file that is imported for its effect, so that webpack keeps the styles", async () => {
  const { exports, sideEffects } = JSON.parse(await readFile(new URL("../package.json", import.meta.url), "utf8"));
  const files = Object.values(exports).map((one) => one.default ?? "");
  const styles = files.filter((path) => path.endsWith(".css"));

  expect(styles).not.toStrictEqual([]);
  for (const path of styles) expect(sideEffects.some((pattern) => path.endsWith(pattern.replace("*", ""))), path).toBe(true);
});
