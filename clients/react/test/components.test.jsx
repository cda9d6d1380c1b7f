import { hydrateRoot } from "react-dom/client";
import { renderToString } from "react-dom/server";
import { expect, onTestFinished, test, vi } from "vitest";

import { BeaconfireProvider, ConnectionIndicator, ToastProvider, useCampaign, useToasts, useWebSocketConnection } from "../src/index.js";
import { acting, render, until } from "./render.jsx";
import { createSettlement, signedIn, stage } from "./stage.js";

/** Gives the test what hooks return inside. */
function Probe({ hooks }) {
  hooks.connection = useWebSocketConnection();
  return null;
}

test("the indicator shows the state, offers Retry after an error, and is hidden while nobody is signed in", async () => {
  const hooks = {};
  let isAllowed = false;
  const props = {
    ...signedIn(),
    getToken: async () => {
      if (!isAllowed) throw Object.assign(new Error("Your session has ended"), { retry: "no" });
      return signedIn().getToken();
    },
  };
  const page = (isSignedIn) => (
    <BeaconfireProvider {...props}>
      <Probe hooks={hooks} />
      <ConnectionIndicator className="mine" isSignedIn={isSignedIn} />
    </BeaconfireProvider>
  );
  const { container, show } = await render(page(true));
  const light = container.querySelector(".beaconfire-indicator.mine");
  await until(() => light.dataset.look === "red");
  expect(light.textContent).toContain("Your session has ended");
  expect(light.hidden).toBe(false);
  await show(page(false));
  expect(light.hidden).toBe(true);
  await show(page(true));
  isAllowed = true;
  await until(() => light.dataset.look === "red");
  await acting(async () => light.querySelector("button").click());
  await until(() => light.dataset.look === "green");

  expect(light.textContent).toContain("Connected");
});

test("notices tell of chosen events once, of the connection, and what the application shows", async () => {
  const hooks = {};
  const textOf = vi.fn(({ payload }) => (payload.operation === "create" ? { text: "A settlement was founded", kind: "good" } : null));
  function Page() {
    hooks.toasts = useToasts();
    hooks.room = useCampaign(stage.campaign);
    return <Probe hooks={hooks} />;
  }
  const { container } = await render(
    <BeaconfireProvider {...signedIn()}>
      <ToastProvider events={{ settlement_updated: textOf }}>
        <Page />
      </ToastProvider>
    </BeaconfireProvider>,
  );
  const texts = () => [...container.querySelectorAll(".beaconfire-toast span")].map((one) => one.textContent);
  await until(() => hooks.room.state === "joined");
  await createSettlement("Founded");
  await until(() => texts().length > 0);
  expect(texts()).toEqual(["A settlement was founded"]);
  expect(container.querySelector(".beaconfire-toast").dataset.kind).toBe("good");
  expect(textOf.mock.calls.length).toBe(1);
  hooks.toasts.show("Saved");
  expect(texts()).toContain("Saved");
});

test("a page that a server rendered is taken over without a warning, and connects then", async () => {
  const hooks = {};
  const page = (
    <BeaconfireProvider {...signedIn()}>
      <ToastProvider>
        <ConnectionIndicator />
        <Probe hooks={hooks} />
      </ToastProvider>
    </BeaconfireProvider>
  );
  const container = document.body.appendChild(document.createElement("div"));
  container.innerHTML = renderToString(page);
  let root;
  await acting(async () => (root = hydrateRoot(container, page)));
  onTestFinished(() => acting(async () => root.unmount()));
  await until(() => hooks.connection.state === "connected");

  expect(container.querySelector(".beaconfire-indicator").textContent).toContain("Connect");
});

test("`useToasts` outside its provider says which one is missing", async () => {
  const printed = vi.spyOn(console, "error").mockImplementation(() => {});
  const Lost = () => void useToasts() ?? null;
  const lost = render(
    <BeaconfireProvider {...signedIn()}>
      <Lost />
    </BeaconfireProvider>,
  );

  await expect(lost).rejects.toThrow("useToasts was called outside <ToastProvider>");
  printed.mockRestore();
});
