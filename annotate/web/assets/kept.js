// What this browser keeps (localStorage): outbox, drafts, settings. Every value has a key of its own, so that two tabs
// never write over each other's.

const PREFIX = "annotate.";

export function read(name, otherwise = null) {
  try {
    const text = localStorage.getItem(PREFIX + name);
    return text === null ? otherwise : JSON.parse(text);
  } catch {
    return otherwise; // closed storage, or a value of another version
  }
}

export function write(name, value) {
  localStorage.setItem(PREFIX + name, JSON.stringify(value));
}

export function remove(name) {
  localStorage.removeItem(PREFIX + name);
}

export function names(start) {
  return Object.keys(localStorage)
    .filter((name) => name.startsWith(PREFIX + start))
    .map((name) => name.slice(PREFIX.length))
    .sort();
}

// The theme is a plain word: the login page reads it before any script is loaded.
export const theme = () => localStorage.getItem(PREFIX + "theme");
export const keepTheme = (name) => localStorage.setItem(PREFIX + "theme", name);

export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
