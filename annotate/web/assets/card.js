// Shows a card: the turns of the prompt and the answers, formatted or with exact characters.

import { build } from "./text.js";
import { letter, t } from "./words.js";

const $ = (id) => document.getElementById(id);
let exact = false;
let shown = [];

export function showCard(card) {
  shown = [];
  $("prompt").replaceChildren(...card.prompt.map((turn, at) => {
    const section = document.createElement("div");
    section.className = `turn ${turn.role}`;
    const name = document.createElement("h2");
    name.textContent = at === card.prompt.length - 1 ? t("prompt") : t(`role.${turn.role}`);
    section.append(name, textBlock(turn));
    return section;
  }));
  $("answers").replaceChildren(...card.answers.map((answer, at) => answerBlock(answer, at)));
  $("answers").className = `answers of${Math.min(card.answers.length, 5)}`;
}

function answerBlock(answer, at) {
  const section = document.createElement("section");
  section.className = `answer ${["left", "right"][at] || "further"}`;
  section.setAttribute("aria-labelledby", `answer-${at}-name`);
  const name = document.createElement("h2");
  name.id = `answer-${at}-name`;
  const sign = document.createElement("b");
  sign.textContent = letter(at);
  sign.setAttribute("aria-hidden", "true");
  const words = document.createElement("span");
  words.textContent = t("answer", { letter: letter(at) });
  const rank = document.createElement("strong");
  rank.className = "rank";
  name.append(sign, words, rank);
  section.append(name, textBlock(answer));
  return section;
}

function textBlock(text) {
  const element = document.createElement("div");
  element.dir = "auto";
  shown.push([element, text]);
  fill(element, text);
  return element;
}

function fill(element, text) {
  element.className = exact ? "text exact" : "text";
  element.replaceChildren(build(exact ? text.exact : text.formatted));
  if (!element.textContent) {
    const note = document.createElement("em");
    note.className = "empty";
    note.textContent = t("empty");
    element.append(note);
  }
}

export function toggleExact() {
  exact = !exact;
  for (const [element, text] of shown) fill(element, text);
  return exact;
}
