/** Places in the stream, `"<epoch>:<offset>"`. */

/** Splits a cursor into epoch and offset. @param {string} cursor @returns {[string, number]} */
export function placeOf(cursor) {
  const at = cursor.lastIndexOf(":");
  return [cursor.slice(0, Math.max(0, at)), Number(cursor.slice(at + 1))];
}

/** Whether the state that was loaded at a cursor contains an event. @param {number} offset @param {string} cursor */
export function isContained(offset, cursor) {
  return cursor !== "" && offset <= placeOf(cursor)[1];
}
