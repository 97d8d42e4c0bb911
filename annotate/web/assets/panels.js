// Dialogs and the guidelines: help with the keys, skip, flag.

import * as keys from "./keys.js";
import * as kept from "./kept.js";
import * as marks from "./marks.js";
import { $, all } from "./root.js";
import { call } from "./server.js";
import { build } from "./text.js";
import { t } from "./words.js";

const WIDE = 1180; // pixels of a card in which the guidelines are open at first

export const openDialog = () => all("dialog[open]")[0];

export function setUp() {
  for (const button of all("[data-close]")) {
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
  const reasons = marks.labels().length ? [["⇧1 …", "reason"]] : [];
  for (const [key, name] of [...reasons, ["?", "help"], ["Esc", "back"]]) {
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

// Guidelines

export async function setUpGuidelines() {
  if (!$("guidelines")) return null;
  const found = await call("guidelines");
  $("guidelines-text").replaceChildren(build(found.text));
  setGuidelines(kept.read("guidelines.open", $("annotate").clientWidth >= WIDE));
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
