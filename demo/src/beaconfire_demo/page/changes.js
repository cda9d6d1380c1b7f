/** The changes of a form as the body of a PATCH. */

/**
 * Only the fields that differ. Of variables, only the keys that differ, with null for removed ones.
 * @param {any} before @param {any} after
 */
export function difference(before, after) {
  const changes = {};
  for (const [name, value] of Object.entries(after)) {
    const old = before[name];
    if (value !== null && typeof value === "object") {
      const keys = variableChanges(old ?? {}, value);
      if (Object.keys(keys).length > 0) changes[name] = keys;
    } else if (value !== old) {
      changes[name] = value;
    }
  }
  return changes;
}

/**
 * A thing with these changes applied.
 * @param {any} thing @param {Record<string, any>} changes  as `difference` makes them
 */
export function applied(thing, changes) {
  const whole = { ...thing };
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || typeof value !== "object") whole[name] = value;
    else whole[name] = Object.fromEntries(Object.entries({ ...thing[name], ...value }).filter(([, each]) => each !== null));
  }
  return whole;
}

/** A conflict: another user changed the same thing. It has the conflicts as text, and the current thing. */
export class Meanwhile extends Error {
  /** @param {any} current @param {string[]} conflicts @param {string} advice */
  constructor(current, conflicts, advice) {
    super(`${meanwhile(current, conflicts)} ${advice}`.trim());
    this.current = current;
  }
}

/**
 * Make a change. If another user changed the same, keep the current state and throw `Meanwhile`.
 * @template Answer
 * @param {() => Promise<Answer>} send @param {(current: any) => void} keep @param {string} [advice]
 */
export async function unlessMeanwhile(send, keep, advice = "") {
  try {
    return await send();
  } catch (error) {
    const { current, conflicts } = error.details ?? {};
    if (!current) throw error;
    keep(current);
    throw new Meanwhile(current, conflicts, advice);
  }
}

function meanwhile(current, conflicts) {
  const now = conflicts.map((field) => {
    if (field === "kingdomId") return "it is in another kingdom";
    const [name, key] = field.split(".");
    const value = key === undefined ? current[name] : current[name][key];
    return `${key ?? name} ${value === undefined ? "is gone" : `is now “${value}”`}`;
  });
  return now.length > 0 ? `This was changed in the meantime: ${now.join(", ")}.` : "This was changed in the meantime.";
}

function variableChanges(before, after) {
  const set = Object.entries(after).filter(([key, value]) => before[key] !== value);
  const removed = Object.keys(before).filter((key) => !(key in after));
  return Object.fromEntries([...set, ...removed.map((key) => [key, null])]);
}
