/** The indicator's texts. Its looks are tested in a browser. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { faceOf } from "../src/indicator.js";

const status = (state, more = {}) => ({ state, attempt: 0, maxAttempts: 10, isReconnect: false, ...more });
const face = (state, more, isDegraded = false) => faceOf({ status: status(state, more), isDegraded });

test("each state has a colour and a text", () => {
  assert.deepEqual(face("connected"), { look: "green", text: "Connected" });
  assert.deepEqual(face("connected", {}, true), { look: "yellow", text: "Live updates delayed" });
  assert.deepEqual(face("disconnected"), { look: "grey", text: "Not connected" });
  assert.equal(face("connecting", { attempt: 1 }).text, "Connecting…");
  assert.equal(face("connecting", { attempt: 3, isReconnect: true }).text, "Reconnecting (3 of 10)…");
});

test("after the last attempt it says so, and offers to retry", () => {
  const lost = face("error", { error: { code: "unreachable", message: "" } });
  assert.equal(lost.look, "red");
  assert.match(lost.text, /^Connection lost .*max retries reached/);
  assert.equal(lost.mayRetry, true);
});

test("without a WebSocket the indicator says that it is not live, unless events are late anyway", () => {
  const status = { state: "connected", attempt: 0, maxAttempts: 10, isReconnect: false };
  const face = (transport, isDegraded = false) => faceOf({ status: { ...status, transport }, isDegraded });

  assert.deepEqual(face("websocket"), { look: "green", text: "Connected" });
  assert.deepEqual(face("sse"), { look: "yellow", text: "Not live: connected without a WebSocket" });
  assert.deepEqual(face("poll"), { look: "yellow", text: "Not live: asking for changes" });
  assert.deepEqual(face("poll", true), { look: "yellow", text: "Live updates delayed" });
});
