/** Where the page keeps things over a reload. A browser that forbids it, or is full, does no harm: they last as long as the page. */

/** Of this window alone; a duplicate begins with a copy, and a window restored from disk with the one of that day. */
export const ofWindow = careful("sessionStorage");
/** Of all windows of this address. */
export const ofBrowser = careful("localStorage");

/** @param {"sessionStorage" | "localStorage"} name */
function careful(name) {
  const memory = new Map();
  const tried = (use, otherwise) => {
    try {
      return use(window[name]); // blocked cookies throw here
    } catch {
      return otherwise();
    }
  };
  return {
    /** @param {string} key @returns {any} undefined if there is nothing, or nothing that we wrote */
    read(key) {
      return parsed(memory.get(key) ?? tried((storage) => storage.getItem(key), () => null));
    },

    /** @param {string} key @param {any} value */
    write(key, value) {
      const text = JSON.stringify(value);
      memory.delete(key);
      const inMemory = () => {
        memory.set(key, text);
        tried((storage) => storage.removeItem(key), () => {}); // what is there is older
      };
      tried((storage) => storage.setItem(key, text), inMemory);
    },

    /** @param {string} key */
    remove(key) {
      memory.delete(key);
      tried((storage) => storage.removeItem(key), () => {});
    },

    /** @param {string} prefix @returns {string[]} */
    keys(prefix) {
      const kept = tried((storage) => Object.keys(storage), () => []);
      return [...kept, ...memory.keys()].filter((key) => key.startsWith(prefix));
    },
  };
}

/** @param {string | null} text  as it is kept @returns {any} undefined if there is nothing, or nothing that we wrote */
export function parsed(text) {
  try {
    return JSON.parse(text ?? "null") ?? undefined;
  } catch {
    return undefined;
  }
}
