// Reasons and marked passages: `page.reasons` as chips. A chip without marked text is a reason for the judgement; with
// marked text it marks the passage.

import { textBoxes } from "./card.js";
import { change, draft } from "./draft.js";
import { paint, placeOf, points, rangesOf, units } from "./places.js";
import { $, focusPrompt } from "./root.js";
import { letter, t } from "./words.js";

const QUOTED = 40; // characters of a passage that are shown
let card = null;
let names = []; // of the chips
let offered = [];
let say = () => {};
let held = null; // the selection when a chip was pressed: some browsers drop it with the press

export const labels = () => names;

export function setUp(reasons, report) {
  offered = reasons;
  say = report;
  $("reasons").addEventListener("pointerdown", () => (held = selected()));
}

export function begin(given) {
  card = given;
  const used = [...draft.reasons, ...draft.spans.map((span) => span.label)];
  names = [...new Set([...offered, ...used])];
  $("reasons").hidden = names.length === 0;
  $("chips").replaceChildren(...names.map(chip));
  refresh();
}

function chip(name, at) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "chip";
  button.dataset.reason = at;
  const key = document.createElement("kbd");
  key.setAttribute("aria-hidden", "true");
  key.textContent = `⇧${at + 1}`;
  button.append(`${name} `);
  if (at < 9) {
    button.append(key);
    button.setAttribute("aria-keyshortcuts", `Shift+${at + 1}`);
  }
  return button;
}

// A chip was pressed, or its key.
export function press(at, clicked) {
  if (!card || at >= names.length) return;
  const passage = clicked ? (held ?? selected()) : selected();
  held = null;
  if (passage === "several") return say(t("span.one"));
  if (passage) mark({ ...passage, label: names[at] });
  else change({ reasons: toggled(draft.reasons, names[at], (one) => one === names[at]) });
  refresh();
}

function mark(span) {
  const same = (other) => JSON.stringify(key(other)) === JSON.stringify(key(span));
  change({ spans: toggled(draft.spans, span, same).sort((a, b) => a.answer - b.answer || a.start - b.start) });
  getSelection().removeAllRanges();
}

const key = ({ answer, start, end, label }) => [answer, start, end, label];

function toggled(list, value, same) {
  const rest = list.filter((other) => !same(other));
  return rest.length < list.length ? rest : [...list, value];
}

// The marked text as {answer, start, end} in code points; null: none; "several": it is not within one answer.
function selected() {
  const selection = getSelection();
  if (!selection.rangeCount || selection.isCollapsed) return null;
  const range = selection.getRangeAt(0);
  const found = textBoxes().flatMap((box, answer) => {
    if (!range.intersectsNode(box)) return [];
    const text = card.answers[answer].text;
    let start = placeOf(box, range.startContainer, range.startOffset, false);
    let end = placeOf(box, range.endContainer, range.endOffset, true);
    while (start < end && !text[start].trim()) start++; // a double click takes the space after the word
    while (start < end && !text[end - 1].trim()) end--;
    return start < end ? [{ answer, start: points(text, start), end: points(text, end) }] : [];
  });
  return found.length > 1 ? "several" : found[0] ?? null;
}

// What is marked, in the bar and in the text.
export function refresh() {
  for (const button of $("chips").children) {
    button.setAttribute("aria-pressed", draft.reasons.includes(names[button.dataset.reason]));
  }
  $("spans").replaceChildren(...draft.spans.map(line));
  $("spans").hidden = draft.spans.length === 0;
  repaint();
}

export function repaint() {
  if (!card) return;
  paint("marked", textBoxes().flatMap((box, answer) => {
    const text = card.answers[answer].text;
    const own = draft.spans.filter((span) => span.answer === answer);
    return rangesOf(box, own.map((span) => [units(text, span.start), units(text, span.end)]));
  }));
}

function line(span) {
  const passage = [...card.answers[span.answer].text].slice(span.start, span.end).join("").replace(/\s+/g, " ");
  const quote = passage.length > QUOTED ? `${passage.slice(0, QUOTED)}…` : passage;
  const item = document.createElement("li");
  const words = document.createElement("span");
  words.textContent = `${letter(span.answer)} “${quote}”`;
  words.dir = "auto";
  const label = document.createElement("b");
  label.textContent = span.label;
  const remove = document.createElement("button");
  remove.type = "button";
  remove.className = "plain";
  remove.textContent = "✕";
  remove.setAttribute("aria-label", t("span.remove", { letter: letter(span.answer), quote, label: span.label }));
  remove.addEventListener("click", () => {
    mark(span);
    refresh();
    focusPrompt();
  });
  item.append(words, label, remove);
  return item;
}
