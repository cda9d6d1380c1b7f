/** Lists whose items have ids. */

/**
 * Put an item at its place, or at the end. Fields that it does not have stay.
 * @template {{id: string}} Item
 * @param {readonly Item[]} items @param {Partial<Item> & {id: string}} item
 * @returns {Item[]}
 */
export function put(items, item) {
  const at = items.findIndex(({ id }) => id === item.id);
  if (at < 0) return [...items, /** @type {Item} */ (item)];
  return items.map((one, index) => (index === at ? { ...one, ...item } : one));
}

/**
 * Change an item, if it is there.
 * @template {{id: string}} Item
 * @param {readonly Item[]} items @param {Partial<Item> & {id: string}} item
 * @returns {readonly Item[]}
 */
export function change(items, item) {
  return items.some(({ id }) => id === item.id) ? put(items, item) : items;
}

/**
 * @template {{id: string}} Item
 * @param {readonly Item[]} items @param {string} id
 * @returns {readonly Item[]}
 */
export function remove(items, id) {
  return items.some((one) => one.id === id) ? items.filter((one) => one.id !== id) : items;
}

/**
 * The item of an event's payload. Ids that are numbers become strings, since rooms and subjects have strings.
 * @param {{readonly id?: string | number | null}} payload
 */
export function itemOf(payload) {
  return { ...payload, id: String(payload.id ?? "") };
}

/**
 * Keep the newest ones.
 * @template Item
 * @param {readonly Item[]} items @param {number} most
 */
export function newest(items, most) {
  return items.length > most ? items.slice(-most) : items;
}
