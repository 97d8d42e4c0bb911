// Dialogs and the guidelines: help with the keys, skip, flag, earlier answers.

import * as keys from "./keys.js";
import * as kept from "./kept.js";
import * as outbox from "./outbox.js";
import { ask, call } from "./server.js";
import { build } from "./text.js";
import { t } from "./words.js";

const $ = (id) => document.getElementById(id);
const WIDE = matchMedia("(min-width: 1180px)");

export const openDialog = () => document.querySelector("#annotate dialog[open]");

export function setUp() {
  for (const button of document.querySelectorAll("#annotate [data-close]")) {
    button.addEventListener("click", () => button.closest("dialog").close());
  }
  $("keys-on").checked = keys.on();
  $("keys-on").addEventListener("change", (event) => {
    keys.switchOn(event.target.checked);
    keys.show();
  });
  $("keys-reset").addEventListener("click", () => {
    keys.reset();
    keys.show();
    listKeys();
  });
}

// Resolves with the value of the button that was pressed; undefined where none was. At once, not with the event
// `close`, which comes later than the next key.
function choose(id) {
  const dialog = $(id);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.querySelector("form").onsubmit = (event) => resolve(event.submitter.value);
    dialog.onclose = () => dialog.open || resolve(undefined); // an old event may find it open again
  });
}

export async function askSkip() {
  $("skip-other").value = "";
  const reason = await choose("skip");
  return reason === undefined ? undefined : $("skip-other").value.trim() || reason;
}

export async function askFlag() {
  const flag = await choose("flag");
  return flag === "none" ? null : flag;
}

// A digit within a dialog presses the button of that number.
export function pressInDialog(dialog, digit) {
  const button = dialog.querySelector(`[data-digit="${digit}"]`);
  if (button) button.click();
  return !!button;
}

// Help and keys

let listening = null;

export function openHelp() {
  $("help-problem").textContent = "";
  listKeys();
  $("help").showModal();
}

function listKeys() {
  const rows = keys.actions().flatMap((action) => {
    const term = document.createElement("dt");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "key";
    button.dataset.key = action;
    button.textContent = keys.nameOf(action);
    const label = { action: t(`key.${action}`), key: keys.nameOf(action) };
    button.setAttribute("aria-label", t("help.change", label));
    button.addEventListener("click", () => listen(action, button));
    term.append(button);
    return [term, meaning(t(`key.${action}`))];
  });
  for (const [key, name] of [["?", "help"], ["Esc", "back"]]) {
    const term = document.createElement("dt");
    const sign = document.createElement("kbd");
    sign.textContent = key;
    term.append(sign);
    rows.push(term, meaning(t(`key.${name}`)));
  }
  $("help-keys").replaceChildren(...rows);
}

function meaning(words) {
  const description = document.createElement("dd");
  description.textContent = words;
  return description;
}

function listen(action, button) {
  listening = action;
  button.textContent = t("help.press");
}

// While a key is being chosen, it is given rather than obeyed.
export function takeKey(event) {
  if (!listening || !openDialog()) return (listening = null), false;
  if (event.key === "Escape") {
    listening = null;
  } else if (keys.usable(event)) {
    const other = keys.give(listening, event.code);
    $("help-problem").textContent = other
      ? t("help.taken", { key: keys.codeName(event.code), action: t(`key.${other}`) }) : "";
    listening = null;
  }
  listKeys();
  keys.show();
  event.preventDefault();
  return true;
}

// Earlier answers

export async function openHistory(choose) {
  const unsent = outbox.waiting().filter((entry) => entry.about);
  $("history-list").replaceChildren();
  $("history-intro").textContent = t("loading");
  $("history").showModal();
  let given = [];
  try {
    given = await ask("/api/v1/mine?limit=50");
    $("history-intro").textContent = t(given.length + unsent.length ? "history.intro" : "history.none");
  } catch {
    $("history-intro").textContent = t("offline.load");
  }
  const waiting = unsent.map((entry) => line(entry.about, t("history.unsaved"), null)).reverse();
  $("history-list").replaceChildren(...waiting, ...given.map((one) =>
    line(one.prompt, `${words(one)} · ${new Date(1000 * one.at).toLocaleString()}`, () => {
      $("history").close();
      choose(one.item);
    })));
}

const words = (one) =>
  one.choice === "compared" ? t(`full.${one.strength}`) : t(`saved.${one.choice}`, { order: "" }).replace(/[:\s]+$/, "");

function line(prompt, what, choose) {
  const item = document.createElement("li");
  const button = document.createElement(choose ? "button" : "div");
  button.className = "earlier";
  if (choose) {
    button.type = "button";
    button.addEventListener("click", choose);
  }
  const first = document.createElement("span");
  first.textContent = prompt.slice(0, 200);
  first.dir = "auto";
  const second = document.createElement("small");
  second.textContent = what;
  button.append(first, second);
  item.append(button);
  return item;
}

// Guidelines

export async function setUpGuidelines() {
  if (!$("guidelines")) return null;
  const found = await call("/page/guidelines");
  $("guidelines-text").replaceChildren(build(found.text));
  setGuidelines(kept.read("guidelines.open", WIDE.matches));
  const seen = kept.read("guidelines.seen");
  kept.write("guidelines.seen", found.version);
  return { version: found.version, changed: seen !== null && seen !== found.version };
}

export function toggleGuidelines() {
  if (!$("guidelines")) return;
  const open = $("guidelines").hidden;
  kept.write("guidelines.open", open);
  setGuidelines(open);
  if (open) $("guidelines").focus();
}

function setGuidelines(open) {
  $("guidelines").hidden = !open;
  $("guidelines-open").setAttribute("aria-pressed", open);
}
