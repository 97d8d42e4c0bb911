// Keys: which key does what, changed by the user, switched off by the user (WCAG 2.1.4).

import * as kept from "./kept.js";
import { $, all } from "./root.js";

export const DEFAULT = {
  1: "Digit1", 2: "Digit2", 3: "Digit3", 4: "Digit4", 5: "Digit5", 6: "Digit6", 7: "Digit7",
  tie: "KeyT", bad: "KeyX", skip: "KeyS", flag: "KeyF", comment: "KeyC", edit: "KeyE", undo: "KeyU",
  history: "KeyH", guidelines: "KeyG", raw: "KeyR", differences: "KeyV", dark: "KeyD", save: "Enter",
  before: "BracketLeft", after: "BracketRight", earlier: "KeyO", star: "KeyB", panes: "KeyP", lock: "KeyL",
};
const FIXED = { "?": "help", Escape: "leave", Backspace: "back" };

let map = {};

export const load = () => (map = { ...DEFAULT, ...kept.read("keymap", {}) });
export const on = () => kept.read("keys", true);
export const switchOn = (value) => kept.write("keys", value);
export const actions = () => Object.keys(DEFAULT);
export const usable = (event) => !(event.key in FIXED) && !/^(Shift|Control|Alt|Meta|Tab|Arrow)/.test(event.code) && event.code;

export function reset() {
  kept.remove("keymap");
  load();
}

// The action that has the key already, or null: then the key is given.
export function give(action, code) {
  const other = actions().find((name) => name !== action && map[name] === code);
  if (other) return other;
  map[action] = code;
  kept.write("keymap", map);
  return null;
}

export const nameOf = (action) => codeName(map[action]);

export const codeName = (code) =>
  ({ Enter: "↵", BracketLeft: "[", BracketRight: "]" })[code] || code.replace(/^(Key|Digit)/, "").replace(/^Numpad/, "Num ");

export function show() {
  for (const button of all("[data-action]")) {
    const action = button.dataset.action;
    if (!(action in DEFAULT)) continue;
    const key = button.querySelector("kbd");
    if (key) key.textContent = nameOf(action);
    if (on()) button.setAttribute("aria-keyshortcuts", map[action] === "Enter" ? "Enter" : nameOf(action));
    else button.removeAttribute("aria-keyshortcuts");
  }
}

const isField = (element) =>
  element.closest("textarea, select, [contenteditable], input:not([type=radio]):not([type=checkbox])");

// Space and the page keys scroll a card, unless something else has the focus that takes them.
function pageOf(event) {
  if (event.target.closest("button, a, summary, aside, dialog") || $("annotate").classList.contains("panes")) return null;
  if (event.code === "Space") return event.shiftKey ? "pageback" : "pageon";
  return { PageDown: "pageon", PageUp: "pageback" }[event.code] ?? null;
}

// What a key press means here: the name of an action, or null.
export function actionOf(event) {
  if (event.isComposing || (event.repeat && !/^(Space|Page)/.test(event.code))) return null;
  const field = isField(event.target);
  if (event.key === "Escape") return "leave";
  if (field) return event.code === "Enter" && (event.ctrlKey || event.metaKey) ? "save" : null;
  if (event.ctrlKey || event.metaKey || event.altKey) return null;
  if (event.key === "?") return "help";
  const page = pageOf(event);
  if (page) return page;
  if (!on()) return null;
  if (event.shiftKey) return /^Digit[1-9]$/.test(event.code) ? `reason${event.code.at(-1)}` : null;
  if (event.key === "Backspace") return "back";
  const number = /^Numpad([1-9])$/.exec(event.code);
  if (number) return number[1];
  const action = actions().find((name) => map[name] === event.code) || null;
  const eight = /^Digit([89])$/.exec(event.code); // ranks of more than seven answers
  if (!action && eight) return eight[1];
  // Enter on a button presses the button, except on the answer that is chosen already.
  const button = event.target.closest("button, a, summary");
  return event.code === "Enter" && button && button.getAttribute("aria-pressed") !== "true" ? null : action;
}
