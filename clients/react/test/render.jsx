/** Render components, as an application does. */

import { act, StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { onTestFinished } from "vitest";

import { BeaconfireProvider } from "../src/index.js";
import { signedIn } from "./stage.js";

/** Do something that renders, and wait until it has. What sockets cause is rendered as in an application, without this. */
export async function acting(cause) {
  globalThis.IS_REACT_ACT_ENVIRONMENT = true;
  try {
    await act(cause);
  } finally {
    globalThis.IS_REACT_ACT_ENVIRONMENT = false;
  }
}

/** Render an element under StrictMode. Returns how to render another one, and how to remove it. */
export async function render(element) {
  const container = document.body.appendChild(document.createElement("div"));
  const root = createRoot(container);
  const show = (other) => acting(async () => root.render(<StrictMode>{other}</StrictMode>));
  let isThere = true;
  const remove = async () => {
    if (!isThere) return;
    isThere = false;
    await acting(async () => root.unmount());
    container.remove();
  };
  onTestFinished(remove);
  await show(element);
  return { container, show, remove };
}

/**
 * Call a hook below a provider. `result` has what it returned last, `again` calls it with other arguments.
 * @template Result
 * @param {(...args: any[]) => Result} hook
 */
export async function renderHook(hook, args = [], props = signedIn()) {
  const result = { current: /** @type {Result} */ (/** @type {unknown} */ (undefined)), renders: 0 };
  function Caller({ args }) {
    result.current = hook(...args);
    result.renders += 1;
    return null;
  }
  const element = (some, more) => (
    <BeaconfireProvider {...props} {...more}>
      <Caller args={some} />
    </BeaconfireProvider>
  );
  const { show, remove } = await render(element(args));
  return { result, again: (some, more) => show(element(some, more)), remove };
}

/** Wait until something holds. */
export async function until(check) {
  const deadline = Date.now() + 15_000;
  for (;;) {
    try {
      const value = check();
      if (value) return value;
    } catch (error) {
      if (Date.now() > deadline) throw error;
    }
    if (Date.now() > deadline) throw new Error(`It never came true: ${check}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
