/** What a form changed, as the body of a PATCH. */

/**
 * Only the fields that differ; of variables only the keys that differ, null for those removed.
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
 * Saves a form's changes to a thing, from the state the form was opened with: what others change meanwhile stays. Where
 * somebody changed the same, it throws a sentence that says how that is now; saved again, ours takes its place.
 * @param {any} before @param {(changes: object, revision: number) => Promise<any>} send @param {(thing: any) => void} keep
 */
export function saver(before, send, keep) {
  let { revision } = before;
  return async (values) => {
    const changes = difference(before, values);
    if (Object.keys(changes).length === 0) return;
    try {
      keep(await send(changes, revision));
    } catch (error) {
      const { current, conflicts } = error.details ?? {};
      if (!current) throw error;
      revision = current.revision;
      keep(current);
      throw new Error(meanwhile(current, conflicts));
    }
  };
}

function meanwhile(current, conflicts) {
  const now = conflicts.map((field) => {
    const [name, key] = field.split(".");
    const value = key === undefined ? current[name] : current[name][key];
    return `${key ?? name} ${value === undefined ? "is gone" : `is now “${value}”`}`;
  });
  return `Somebody changed this meanwhile: ${now.join(", ")}. Save again to put yours in its place.`;
}

function variableChanges(before, after) {
  const set = Object.entries(after).filter(([key, value]) => before[key] !== value);
  const removed = Object.keys(before).filter((key) => !(key in after));
  return Object.fromEntries([...set, ...removed.map((key) => [key, null])]);
}
