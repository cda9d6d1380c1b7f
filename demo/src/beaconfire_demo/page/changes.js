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

/** The value of a field, like `name` or `variables.food`. @param {any} thing @param {string} field */
export function valueAt(thing, field) {
  const at = field.indexOf(".");
  return at < 0 ? thing[field] : thing[field.slice(0, at)]?.[field.slice(at + 1)];
}

/** Changes without some fields. @param {Record<string, any>} changes @param {string[]} fields  like `variables.food` */
export function without(changes, fields) {
  const rest = structuredClone(changes);
  for (const field of fields) {
    const [name, key] = field.split(/\.(.*)/);
    if (key === undefined) delete rest[name];
    else delete rest[name]?.[key];
    if (key !== undefined && Object.keys(rest[name] ?? {}).length === 0) delete rest[name];
  }
  return rest;
}

function variableChanges(before, after) {
  const set = Object.entries(after).filter(([key, value]) => before[key] !== value);
  const removed = Object.keys(before).filter((key) => !(key in after));
  return Object.fromEntries([...set, ...removed.map((key) => [key, null])]);
}
