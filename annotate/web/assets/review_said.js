// What people said of the item in review: hidden until a reviewer has decided, where the review is blind.

import { textBoxes } from "./card.js";
import { paint, rangesOf, units } from "./places.js";
import { decision } from "./review_list.js";
import { $ } from "./root.js";
import { letter, t } from "./words.js";


const QUOTED = 60; // characters of a marked passage that are shown
let send = () => {};
let shown = { card: null, said: null };

// The judgements belong into the bar at the bottom, above the strengths.
export function setUpSaid(sent) {
  $("choices").prepend($("said"));
  send = sent;
}

export function showSaid({ card, ruling, said, judged }) {
  shown = { card, said };
  paintSpans();
  $("said").hidden = false;
  $("verdict").textContent = ruling
    ? t("review.verdict", { by: ruling.by, decision: decision(ruling) })
    : t(judged === 1 ? "review.hidden.one" : "review.hidden.many", { count: judged });
  $("verdict").hidden = !ruling && said !== null;
  $("judgements").replaceChildren(...(said || []).map(line));
}

function line(one) {
  const item = document.createElement("li");
  const name = document.createElement("b");
  name.textContent = one.name;
  item.append(name, ` ${decision(one)}`);
  if (one.swapped) item.append(note(t("review.swapped")));
  if (one.flag) item.append(note(t(`flag.${one.flag}`), "badge"));
  if (one.edited !== null) item.append(note(t("lead.improved", { letter: letter(one.edited) })));
  if (one.comment) item.append(note(one.comment, "remark"));
  for (const reason of one.reasons) item.append(note(reason, "badge"));
  for (const span of one.spans) item.append(note(`${letter(span.answer)} “${quote(span)}”: ${span.label}`));
  for (const reply of one.replies) item.append(note(`${reply.by}: ${reply.text}`, "remark reply"));
  item.append(replyForm(one.name));
  return item;
}

function quote({ answer, start, end }) {
  const passage = [...shown.card.answers[answer].text].slice(start, end).join("").replace(/\s+/g, " ");
  return passage.length > QUOTED ? `${passage.slice(0, QUOTED)}…` : passage;
}

// The passages that people marked, in the answers.
export function paintSpans() {
  if (!shown.card) return;
  const spans = (shown.said || []).flatMap((one) => one.spans);
  paint("marked", textBoxes().flatMap((box, answer) => {
    const { text } = shown.card.answers[answer];
    const own = spans.filter((span) => span.answer === answer);
    return rangesOf(box, own.map((span) => [units(text, span.start), units(text, span.end)]));
  }));
}

// A button, and once it is pressed a field for a message to the person.
function replyForm(name) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "plain";
  button.textContent = t("review.reply");
  button.setAttribute("aria-label", t("review.reply.to", { name }));
  button.addEventListener("click", () => {
    const form = document.createElement("form");
    const field = document.createElement("input");
    field.maxLength = 2000;
    field.setAttribute("aria-label", t("review.reply.to", { name }));
    field.placeholder = t("review.reply.hint");
    form.append(field);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (field.value.trim()) send(name, field.value);
    });
    button.replaceWith(form);
    field.focus({ preventScroll: true });
  });
  return button;
}

function note(words, kind = "") {
  const element = document.createElement("span");
  element.className = kind;
  element.dir = "auto";
  element.textContent = words;
  return element;
}
