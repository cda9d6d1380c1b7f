/** The indicator's texts. Its looks are tested in a browser. */

import { expect, test } from "vitest";

import { faceOf } from "../src/indicator.js";

const status = (state, more = {}) => ({ state, attempt: 0, maxAttempts: 10, isReconnect: false, ...more });
const face = (state, more, isDegraded = false) => faceOf({ status: status(state, more), isDegraded });

test("each state has a colour and a text", () => {
  expect(face("connected")).toStrictEqual({ look: "green", text: "Connected" });
  expect(face("connected", {}, true)).toStrictEqual({ look: "yellow", text: "Live updates delayed" });
  expect(face("disconnected")).toStrictEqual({ look: "grey", text: "Not connected" });
  expect(face("connecting", { attempt: 1 }).text).toBe("Connecting…");
  expect(face("connecting", { attempt: 3, isReconnect: true }).text).toBe("Reconnecting (3 of 10)…");
});

test("after the last attempt it says so, and offers to retry", () => {
  const lost = face("error", { error: { code: "unreachable", message: "" } });
  expect(lost.look).toBe("red");
  expect(lost.text).toMatch(/^Connection lost .*max retries reached/);
  expect(lost.mayRetry).toBe(true);
});

test("without a WebSocket the indicator says that it is not live, unless events are late anyway", () => {
  const status = { state: "connected", attempt: 0, maxAttempts: 10, isReconnect: false };
  const face = (transport, isDegraded = false) => faceOf({ status: { ...status, transport }, isDegraded });

  expect(face("websocket")).toStrictEqual({ look: "green", text: "Connected" });
  expect(face("sse")).toStrictEqual({ look: "yellow", text: "Not live: connected without a WebSocket" });
  expect(face("poll")).toStrictEqual({ look: "yellow", text: "Not live: asking for changes" });
  expect(face("poll", true)).toStrictEqual({ look: "yellow", text: "Live updates delayed" });
});
