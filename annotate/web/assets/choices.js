// The footer and what belongs to an answer beside it: strength, ranking, rubric, flag, comment, edit. Makes the body
// of a submission from the draft.

import { change, draft } from "./draft.js";
import * as keys from "./keys.js";
import { letter, t } from "./words.js";

const $ = (id) => document.getElementById(id);
const all = (selector) => [...document.querySelectorAll(selector)];
let card = null;
let settings = null;
let rows = [];
let row = 0;

export const ranking = () => card !== null && card.answers.length > 2;

// Whether an answer is first chosen and then saved with Enter.
export const asks = () =>
  ranking() || settings.rubric.length > 0 || settings.ask || draft.editing;

export function setUp(given) {
  settings = given;
  rows = ["overall", ...settings.rubric];
  for (const name of settings.rubric) $("rubric").append(dimension(name));
  $("comment").addEventListener("input", () => {
    change({ comment: $("comment").value });
    refresh();
  });
  $("edited").addEventListener("input", () => change({ edits: { ...draft.edits, [better()]: $("edited").value } }));
  $("restore").addEventListener("click", () => {
    change({ edits: { ...draft.edits, [better()]: original() } });
    refresh();
  });
}

function dimension(name) {
  const group = document.createElement("div");
  group.className = "dimension";
  group.setAttribute("role", "radiogroup");
  group.setAttribute("aria-label", name);
  const label = document.createElement("span");
  label.textContent = name;
  group.append(label);
  for (let strength = -3; strength <= 3; strength++) {
    const input = document.createElement("input");
    input.type = "radio";
    input.name = `rubric-${name}`;
    input.value = strength;
    input.title = t(`full.${strength}`);
    input.setAttribute("aria-label", t("rubric.value", { name, full: t(`full.${strength}`) }));
    input.addEventListener("change", () => {
      change({ rubric: { ...draft.rubric, [name]: strength } });
      row = Math.min(rows.indexOf(name) + 1, rows.length - 1);
      refresh();
    });
    group.append(input);
  }
  return group;
}

export function begin(given) {
  card = given;
  row = 0;
  $("scale").hidden = ranking();
  $("ranks").hidden = !ranking();
  $("rubric").hidden = ranking() || !settings.rubric.length;
  const edit = document.querySelector("#choices [data-action=edit]");
  if (edit) edit.hidden = ranking();
  const bad = document.querySelector("#choices [data-action=bad] span");
  bad.textContent = t(ranking() ? "all_bad" : "both_bad");
  if (ranking()) {
    $("places").replaceChildren(...card.answers.map((_, at) => placeButton(at)));
  }
  const before = card.previous;
  for (const button of all("#choices [data-action]")) {
    const strength = button.dataset.strength;
    const was = before && (strength === undefined
      ? { both_bad: "bad", skipped: "skip" }[before.choice] === button.dataset.action
      : before.choice === "compared" && before.strength === Number(strength));
    button.classList.toggle("before", !!was);
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

export function strengthChosen(strength) {
  row = 0;
  return digit(strength + 4);
}

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
    button.setAttribute("aria-pressed", Number(button.dataset.strength) === draft.strength);
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
  const button = document.querySelector(`#choices [data-action=${action}]`);
  if (!button) return;
  button.firstElementChild.textContent = words;
  button.classList.toggle("on", on);
}

function refreshRubric() {
  all("#rubric .dimension").forEach((group, at) => {
    group.classList.toggle("active", row === at + 1);
    const value = draft.rubric[rows[at + 1]];
    for (const input of group.querySelectorAll("input")) input.checked = Number(input.value) === value;
  });
  $("scale").classList.toggle("active", rows.length > 1 && row === 0);
}

function refreshEditor() {
  const side = better();
  $("editor").hidden = ranking() || !draft.editing;
  $("edited").hidden = $("restore").hidden = side === null;
  $("edited-name").textContent = side === null ? t("edit.choose") : t("edit.label", { letter: letter(side) });
  if (side === null || !draft.editing) return;
  const text = draft.edits[side] ?? original();
  if ($("edited").value !== text) $("edited").value = text;
}

export const complete = () => (ranking() ? placed() === card.answers.length : draft.strength !== null);

// The body of a submission, without item and key.
export function body(choice, reason) {
  const made = { choice };
  if (draft.flag) made.flag = draft.flag;
  if (draft.comment.trim()) made.comment = draft.comment;
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

export function saved(body) {
  if (body.choice === "compared") return t("saved.compared", { full: t(`full.${body.strength}`) });
  if (body.choice === "ranked") return t("saved.ranked", { order: order() });
  return t(`saved.${body.choice}`);
}
