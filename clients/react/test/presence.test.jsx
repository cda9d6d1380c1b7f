import { expect, test } from "vitest";

import { usePresence, usePresenceStatus, useSelection, useSubscription, useTyping } from "../src/index.js";
import { renderHook, until } from "./render.jsx";
import { owner, signedIn, stage, viewer, workspaceRoom } from "./stage.js";

const chat = `${workspaceRoom}/chat:presence`;

/** A view that is present with a status. */
function useSeen(status, options) {
  usePresenceStatus(status);
  return usePresence(workspaceRoom, options);
}

test("those who come, change their status and go are known to the others", async () => {
  const first = await renderHook(usePresence, [workspaceRoom]);
  await until(() => first.result.current.isKnown);
  const second = await renderHook(useSeen, ["online"], signedIn(viewer));
  await until(() => first.result.current.count === 2);
  await second.again(["busy"]);
  await until(() => first.result.current.users.some(({ userId, status }) => userId === viewer.id && status === "busy"));
  await second.again(["busy", { enabled: false }]);
  await until(() => first.result.current.count === 1);

  expect(first.result.current.users.map(({ userId }) => userId)).toEqual([owner.id]);
  expect(second.result.current).toMatchObject({ isKnown: false, count: 0, users: [] });
});

test("two components that show one room's users both know them", async () => {
  const { result } = await renderHook(() => [usePresence(workspaceRoom), usePresence(workspaceRoom)]);
  await until(() => result.current.every(({ isKnown }) => isKnown));

  expect(result.current.map(({ count }) => count)).toEqual([1, 1]);
});

test("a selection is shared with the user's other views", async () => {
  const one = await renderHook(useSelection, [workspaceRoom]);
  const other = await renderHook(() => [useSelection(workspaceRoom), useSubscription(workspaceRoom)]);
  await until(() => other.result.current[1].state === "joined");
  await until(() => {
    one.result.current.select(["issue:i1"]);
    return other.result.current[0].items.length > 0;
  });

  expect(other.result.current[0].items).toEqual(["issue:i1"]);
});

test("the others see who types, until the text is sent", async () => {
  const reader = await renderHook(useTyping, [chat]);
  const writer = await renderHook(() => [useTyping(chat), useSubscription(chat)], [], signedIn(viewer));
  const waiting = await renderHook(useSubscription, [chat]);
  await until(() => writer.result.current[1].state === "joined" && waiting.result.current.state === "joined");
  await until(() => {
    writer.result.current[0].type();
    return reader.result.current.users.length > 0;
  });
  expect(reader.result.current.users).toEqual([stage.people.Viewer.id]);
  writer.result.current[0].stop();
  await until(() => reader.result.current.users.length === 0);
});
