/** Keeps things over a reload. If the browser forbids it, or its storage is full, they last only as long as the page. */

/** For this window only. A duplicated window starts with a copy, and a restored window with its old content. */
export const ofWindow = careful("sessionStorage");
/** For all windows of this address. */
export const ofBrowser = careful("localStorage");

/** @param {"sessionStorage" | "localStorage"} name */
function careful(name) {
  const memory = new Map();
  const tried = (use, otherwise) => {
    try {
      return use(window[name]); // throws if cookies are blocked
    } catch {
      return otherwise();
    }
  };
  return {
    /** @param {string} key @returns {any} undefined if there is nothing that this page wrote */
    read(key) {
      return parsed(memory.get(key) ?? tried((storage) => storage.getItem(key), () => null));
    },

    /** @param {string} key @param {any} value */
    write(key, value) {
      const text = JSON.stringify(value);
      memory.delete(key);
      const inMemory = () => {
        memory.set(key, text);
        tried((storage) => storage.removeItem(key), () => {}); // the old value is out of date
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

/** @param {string | null} text  the stored text @returns {any} undefined if this page did not write it */
export function parsed(text) {
  try {
    return JSON.parse(text ?? "null") ?? undefined;
  } catch {
    return undefined;
  }
}
