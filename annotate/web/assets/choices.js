// The footer, where everything is answered: strength, ranking, rubric, flag, comment; and the editor of an answer.
// Makes the body of a submission from the draft.

import { change, draft } from "./draft.js";
import * as keys from "./keys.js";
import { allSeen } from "./reading.js";
import { $, all, focusPrompt, scroller } from "./root.js";
import { letter, t } from "./words.js";

let card = null;
let settings = null;
let rows = []; // the overall answer, then the rubric's dimensions
let row = 0; // the one that the strengths answer now
let editor, edited; // moved into the answer that is edited

export const ranking = () => card !== null && card.answers.length > 2;

// Whether an answer is first chosen and then saved with Enter.
export const asks = () =>
  ranking() || settings.rubric.length > 0 || settings.ask || draft.editing;

export function setUp(given) {
  settings = given;
  editor = $("editor");
  edited = $("edited");
  rows = ["", ...settings.rubric];
  $("rows").append(...rows.map((_, at) => rowButton(at)));
  $("comment").addEventListener("input", () => {
    change({ comment: $("comment").value });
    refresh();
  });
  edited.addEventListener("input", () => change({ edits: { ...draft.edits, [better()]: edited.value } }));
  $("restore").addEventListener("click", () => {
    change({ edits: { ...draft.edits, [better()]: original() } });
    refresh();
  });
}

const rowName = (at) => rows[at] || t("rubric.overall");
const rowValue = (at) => (at === 0 ? draft.strength : draft.rubric[rows[at]] ?? null);

function rowButton(at) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "criterion";
  const name = document.createElement("span");
  name.textContent = rowName(at);
  button.append(name, document.createElement("b"));
  button.addEventListener("click", () => {
    goTo(at);
    focusPrompt(); // so that Enter saves
  });
  return button;
}

export const hasRows = () => rows.length > 1;

export function goTo(at) {
  row = at;
  refresh();
}

// The first row that must be judged before the answer can be saved; -1: none.
export const missingRow = () =>
  rows.findIndex((_, at) => (at === 0 || !settings.rubric_optional) && rowValue(at) === null);

export function begin(given) {
  card = given;
  row = 0;
  $("scale").hidden = ranking();
  $("ranks").hidden = !ranking();
  $("rubric").hidden = ranking() || rows.length === 1;
  $("pair").append(editor); // showing the card took it out of the page with the answer that it was in
  const edit = all("#choices [data-action=edit]")[0];
  if (edit) edit.hidden = ranking();
  const bad = all("#choices [data-action=bad] span")[0];
  bad.textContent = t(ranking() ? "all_bad" : "both_bad");
  if (ranking()) {
    $("places").replaceChildren(...card.answers.map((_, at) => placeButton(at)));
  }
  const before = card.previous;
  for (const button of all("#choices [data-action]")) {
    if (button.dataset.strength !== undefined) continue;
    button.classList.toggle("before", !!before && { both_bad: "bad", skipped: "skip" }[before.choice] === button.dataset.action);
  }
  refresh();
}

function placeButton(at) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "action place";
  button.dataset.action = String(at + 1);
  button.setAttribute("aria-label", t("rank.give", { letter: letter(at) }));
  const key = document.createElement("kbd");
  key.setAttribute("aria-hidden", "true");
  key.textContent = at < 7 ? keys.nameOf(at + 1) : at + 1;
  button.append(`${letter(at)} `, key);
  return button;
}

// A digit: a strength, a dimension's strength, or the answer that comes next in a ranking. True: send it now.
export function digit(number) {
  if (ranking()) {
    if (number <= card.answers.length) rank(number - 1);
    return false;
  }
  if (number > 7) return false;
  if (row > 0) {
    change({ rubric: { ...draft.rubric, [rows[row]]: number - 4 } });
  } else {
    change({ strength: number - 4 });
  }
  if (rows.length > 1) row = Math.min(row + 1, rows.length - 1);
  refresh();
  return !asks();
}

export const strengthChosen = (strength) => digit(strength + 4);

let tied = false;

function rank(at) {
  const rest = draft.ranks.map((group) => group.filter((other) => other !== at)).filter((group) => group.length);
  if (tied && rest.length) rest[rest.length - 1].push(at);
  else rest.push([at]);
  tied = false;
  change({ ranks: rest });
  refresh();
}

export function tieNext() {
  tied = draft.ranks.length > 0 && !tied;
  refresh();
}

export function back() {
  if (ranking()) {
    const ranks = draft.ranks.map((group) => [...group]);
    if (ranks.length && ranks[ranks.length - 1].length > 1) ranks[ranks.length - 1].pop();
    else ranks.pop();
    tied = false;
    change({ ranks });
  } else {
    row = Math.max(row - 1, 0);
  }
  refresh();
}

const better = () => (draft.strength === null || draft.strength === 0 ? null : draft.strength < 0 ? 0 : 1);
const original = () => card.answers[better()].text;

const placed = () => draft.ranks.flat().length;
const order = () => draft.ranks.map((group) => group.map(letter).join(" = ")).join(" > ");

export function refresh() {
  if (!card) return;
  for (const button of all("#scale .grade")) {
    const strength = Number(button.dataset.strength);
    button.setAttribute("aria-pressed", strength === rowValue(row));
    button.classList.toggle("before", row === 0 && !!card.previous && card.previous.strength === strength);
    button.setAttribute("aria-disabled", !allSeen());
  }
  for (const button of all("#places .place")) {
    button.setAttribute("aria-pressed", draft.ranks.flat().includes(Number(button.dataset.action) - 1));
  }
  $("order").textContent = placed() ? t("rank.so_far", { order: order() + (tied ? " = …" : "") }) : t("rank.start");
  all("#answers .rank").forEach((badge, at) => {
    const before = draft.ranks.findIndex((group) => group.includes(at));
    badge.textContent = before < 0 ? "" : t("rank.badge", { place: draft.ranks.slice(0, before).flat().length + 1 });
  });
  refreshRubric();
  refreshEditor();
  $("remark").hidden = !draft.remarking;
  if ($("comment").value !== draft.comment) $("comment").value = draft.comment;
  mark("flag", draft.flag ? `${t("flag")}: ${t(`flag.${draft.flag}`)}` : t("flag"), !!draft.flag);
  mark("comment", t("comment"), draft.comment !== "");
  mark("edit", t("edit"), draft.editing);
  $("save").hidden = !asks() && draft.strength === null;
  $("save").classList.toggle("waiting", !complete());
}

function mark(action, words, on) {
  const button = all(`#choices [data-action=${action}]`)[0];
  if (!button) return;
  button.firstElementChild.textContent = words;
  button.classList.toggle("on", on);
}

function refreshRubric() {
  const now = t("rubric.row", { at: row + 1, count: rows.length, name: rowName(row) });
  $("row").textContent = now;
  $("scale").setAttribute("aria-label", rows.length > 1 ? now : t("which"));
  all("#rows .criterion").forEach((button, at) => {
    const value = rowValue(at);
    button.setAttribute("aria-current", at === row ? "step" : "false");
    button.lastChild.textContent = value === null ? "–" : t(`lead.verdict.${value}`);
  });
}

// The editor stands in the card of the better answer, in place of its text; the page stays where it was read.
function refreshEditor() {
  const at = scroller.top();
  const side = draft.editing && !ranking() ? better() : null;
  all("#answers .answer").forEach((answer, place) => answer.classList.toggle("edited", place === side));
  editor.hidden = side === null;
  if (side === null) return;
  const answer = all("#answers .answer")[side];
  if (editor.parentElement !== answer) answer.append(editor);
  $("edited-name").textContent = t("edit.label", { letter: letter(side) });
  const text = draft.edits[side] ?? original();
  if (edited.value !== text) edited.value = text;
  scroller.to(at);
}

// The caret goes to the part of the answer that is on the screen.
export function focusEditor() {
  if (editor.hidden) return false;
  const box = scroller.place(edited);
  const share = Math.min(Math.max((scroller.height() / 2 - box.top) / box.height, 0), 1);
  const caret = Math.round(share * edited.value.length);
  edited.setSelectionRange(caret, caret);
  edited.focus({ preventScroll: true });
  return true;
}

export const complete = () => (ranking() ? placed() === card.answers.length : missingRow() < 0);

// The body of a submission, without item and key.
export function body(choice, reason) {
  const made = { choice };
  if (draft.flag) made.flag = draft.flag;
  if (draft.comment.trim()) made.comment = draft.comment;
  if (draft.reasons.length) made.reasons = draft.reasons;
  if (draft.spans.length) made.spans = draft.spans;
  if (draft.differences) made.differences_shown = true;
  if (choice === "skipped" && reason) made.reason = reason;
  if (choice === "compared") {
    made.strength = draft.strength;
    const text = draft.edits[better()];
    // A text area turns CR LF into LF: that alone is no edit.
    if (draft.editing && text !== undefined && text.trim() && text !== original().replace(/\r\n?/g, "\n")) {
      made.edited_text = text;
      made.edited_response = better();
    }
  }
  if (choice === "ranked") made.ranking = card.answers.map((_, at) => rankOf(at));
  if (choice !== "skipped" && !ranking() && Object.keys(draft.rubric).length) made.rubric = draft.rubric;
  return made;
}

function rankOf(at) {
  const group = draft.ranks.findIndex((places) => places.includes(at));
  return draft.ranks.slice(0, group).flat().length + 1;
}

// What is said of an answer: that the server has it, or only this browser.
export function said(body, saved) {
  const values = { full: body.choice === "compared" && t(`full.${body.strength}`), order: order() };
  return saved ? t(`saved.${body.choice}`, values) : t(`kept.${body.choice}`, values);
}
