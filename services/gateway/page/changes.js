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

function variableChanges(before, after) {
  const set = Object.entries(after).filter(([key, value]) => before[key] !== value);
  const removed = Object.keys(before).filter((key) => !(key in after));
  return Object.fromEntries([...set, ...removed.map((key) => [key, null])]);
}
