// Shows a card: the turns of the prompt and the answers, in one of three views.

import * as kept from "./kept.js";
import { typeset } from "./math.js";
import { $, all, idOf } from "./root.js";
import { build } from "./text.js";
import { letter, t } from "./words.js";

const TURNS_SHOWN = 2; // of the earlier ones, while they are folded
const SHORT = 450; // characters of an answer that is shown in larger type
const VIEWS = ["formatted", "rendered", "exact"];
let view = kept.read("view", VIEWS[0]);
let shown = [];
let refilled = () => {};

export const whenFilled = (report) => (refilled = report);
export const viewName = () => view;
// The elements that hold the answers' texts, in the order of the card.
export const textBoxes = () => all("#answers .answer > .text");

export function showCard(card) {
  shown = [];
  const turns = card.prompt.map((turn, at) => {
    const section = document.createElement("div");
    section.className = `turn ${turn.role}`;
    const name = document.createElement("h2");
    name.textContent = at === card.prompt.length - 1 ? t("prompt") : t(`role.${turn.role}`);
    section.append(name, textBlock(turn));
    return section;
  });
  $("prompt").replaceChildren(...turns);
  $("prompt").scrollTop = 0;
  $("annotate").classList.toggle("short", card.answers.every((answer) => answer.text.length <= SHORT));
  $("answers").replaceChildren(...card.answers.map((answer, at) => answerBlock(answer, at)));
  $("answers").className = `answers of${Math.min(card.answers.length, 5)}`;
  refill();
  fold(true);
}

// Earlier turns are folded to two lines each, and of many only the latest are shown.
function fold(on) {
  const earlier = [...$("prompt").children].slice(0, -1);
  $("prompt").classList.toggle("folded", on);
  earlier.forEach((turn, at) => (turn.hidden = on && at < earlier.length - TURNS_SHOWN));
  const cut = earlier.some((turn) => turn.hidden || turn.lastChild.scrollHeight > turn.lastChild.clientHeight + 1);
  if (on) $("earlier").hidden = !cut;
  const count = earlier.length === 1 ? "one" : "many";
  $("earlier").firstElementChild.textContent = t(on ? `earlier.${count}` : "earlier.fold", { count: earlier.length });
  $("earlier").setAttribute("aria-expanded", !on);
}

export const toggleEarlier = () => fold(!$("prompt").classList.contains("folded"));

function answerBlock(answer, at) {
  const section = document.createElement("section");
  section.className = `answer ${["left", "right"][at] || "further"}`;
  section.setAttribute("aria-labelledby", idOf(`answer-${at}-name`));
  const name = document.createElement("h2");
  name.id = idOf(`answer-${at}-name`);
  const sign = document.createElement("b");
  sign.textContent = letter(at);
  sign.setAttribute("aria-hidden", "true");
  const words = document.createElement("span");
  words.textContent = t("answer", { letter: letter(at) });
  const rank = document.createElement("strong");
  rank.className = "rank";
  name.append(sign, words, rank);
  const ending = document.createElement("i");
  ending.className = "ending";
  section.append(name, textBlock(answer), ending);
  return section;
}

function textBlock(text) {
  const element = document.createElement("div");
  element.dir = "auto";
  shown.push([element, text]);
  return element;
}

async function fill(element, text) {
  element.className = view === "formatted" ? "text" : `text ${view}`;
  element.replaceChildren(build(view === "exact" ? text.exact : text.formatted));
  if (!element.textContent) {
    const note = document.createElement("em");
    note.className = "empty";
    note.textContent = t("empty");
    element.append(note);
  }
  if (view === "rendered") await typeset(element);
}

export async function nextView() {
  view = VIEWS[(VIEWS.indexOf(view) + 1) % VIEWS.length];
  kept.write("view", view);
  await refill();
}

async function refill() {
  await Promise.all(shown.map(([element, text]) => fill(element, text)));
  refilled();
}
