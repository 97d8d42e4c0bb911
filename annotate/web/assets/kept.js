// What this browser keeps (localStorage): outbox, drafts, settings. Every value has a key of its own, so that two tabs
// never write over each other's. Some browsers close it to a page inside another site's page, such as a notebook: then
// the values live as long as the page.

const PREFIX = "annotate.";

class Memory extends Map {
  getItem(name) {
    return this.get(name) ?? null;
  }
  setItem(name, text) {
    this.set(name, text);
  }
  removeItem(name) {
    this.delete(name);
  }
}

function open() {
  try {
    localStorage.getItem(PREFIX);
    return localStorage;
  } catch {
    return new Memory();
  }
}

const storage = open();
export const lasts = !(storage instanceof Memory);
const everyName = () => (lasts ? Object.keys(storage) : [...storage.keys()]);

export function read(name, otherwise = null) {
  try {
    const text = storage.getItem(PREFIX + name);
    return text === null ? otherwise : JSON.parse(text);
  } catch {
    return otherwise; // a value of another version
  }
}

export function write(name, value) {
  storage.setItem(PREFIX + name, JSON.stringify(value));
}

export function remove(name) {
  storage.removeItem(PREFIX + name);
}

export function names(start) {
  return everyName()
    .filter((name) => name.startsWith(PREFIX + start))
    .map((name) => name.slice(PREFIX.length))
    .sort();
}

// The theme is a plain word: the login page reads it before any script is loaded.
export const theme = () => storage.getItem(PREFIX + "theme");
export const keepTheme = (name) => storage.setItem(PREFIX + "theme", name);

export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
