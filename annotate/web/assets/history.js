// Earlier answers: search, filters, stars, and what reviewers said of them.

import * as kept from "./kept.js";
import * as outbox from "./outbox.js";
import { $, all } from "./root.js";
import { call } from "./server.js";
import { build } from "./text.js";
import { letter, t } from "./words.js";

const PAGE = 50;
const TYPING_MS = 250;

let lines = [];
let asked = 0; // a slow reply to an older filter is dropped
let news = null;
let choose = () => {};
let seen = "news.seen"; // where this browser keeps the time of the newest decision or message that was read

export function setUp(box, chosen) {
  seen = `news.seen.${box}`;
  choose = chosen;
  let timer = null;
  $("history-search").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(load, TYPING_MS);
  });
  $("history-show").addEventListener("change", load);
  $("history-more").addEventListener("click", loadMore);
  $("history-news").addEventListener("click", () => {
    $("history-show").value = "overruled";
    load();
  });
}

// The button of the history says so when a reviewer has decided or written since it was opened last.
export async function lookForNews() {
  try {
    news = await call("news");
  } catch {
    return; // it is asked for again when the history is opened
  }
  const unseen = news.latest > kept.read(seen, 0);
  $("history-open").classList.toggle("news", unseen);
  $("history-open").title = t(unseen ? "history.unseen" : "history.title");
  $("history-news").hidden = !news.overruled;
  $("history-news").textContent = t(news.overruled === 1 ? "history.overruled.one" : "history.overruled.many", { count: news.overruled });
}

export async function openHistory() {
  $("history-search").value = $("history-show").value = "";
  $("history-list").replaceChildren(); // lines of the last time would lose the focus when the reply comes
  $("history-more").hidden = true;
  $("history").showModal();
  await Promise.all([load(), lookForNews()]);
  if (!news) return;
  kept.write(seen, news.latest);
  $("history-open").classList.remove("news");
}

const filters = () => ({ limit: PAGE, search: $("history-search").value, show: $("history-show").value });

async function load() {
  const number = ++asked;
  $("history-intro").textContent = t("loading");
  const unfiltered = !$("history-search").value.trim() && !$("history-show").value;
  const unsent = unfiltered ? outbox.waiting().filter((entry) => entry.about).reverse() : [];
  let found = [];
  let said = "offline.load";
  try {
    found = await call("mine", filters());
    said = found.length + unsent.length ? "history.intro" : unfiltered ? "history.none" : "history.nothing";
  } catch {
    // said above
  }
  if (number !== asked) return;
  $("history-intro").textContent = t(said);
  lines = found;
  $("history-list").replaceChildren(...unsent.map(unsentLine), ...found.map(line));
  $("history-more").hidden = answered(found) < PAGE;
}

async function loadMore() {
  const number = ++asked;
  let found;
  try {
    found = await call("mine", { ...filters(), before: lines.at(-1).at });
  } catch {
    $("history-intro").textContent = t("offline.load");
    return;
  }
  if (number !== asked) return;
  lines.push(...found);
  $("history-list").append(...found.map(line));
  $("history-more").hidden = found.length < PAGE;
}

// Starred items that are not answered come in addition to a page.
const answered = (found) => found.filter((one) => one.choice !== "open").length;

function words({ choice, strength, ranking }) {
  if (choice === "compared") return t(`full.${strength}`);
  if (choice === "ranked") return ranking.map((rank, at) => `${letter(at)} ${rank}`).join(", ");
  return t(`said.${choice}`);
}

function unsentLine(entry) {
  const item = document.createElement("li");
  const box = document.createElement("div");
  box.className = "earlier";
  box.append(part("span", entry.about), part("small", t("history.unsaved")));
  item.append(box);
  return item;
}

function line(one) {
  const item = document.createElement("li");
  item.classList.toggle("overruled", one.overruled);
  const open = document.createElement("button");
  open.type = "button";
  open.className = "earlier";
  open.addEventListener("click", () => {
    $("history").close();
    choose(one.item);
  });
  const parts = [words(one), one.flag && t(`flag.${one.flag}`), new Date(1000 * one.at).toLocaleString()];
  const prompt = part("span", "", "snippet");
  prompt.append(build(one.shown));
  open.append(prompt, part("small", parts.filter(Boolean).join(" · ")));
  if (one.comment) open.append(part("small", t("history.comment", { text: one.comment }), "remark"));
  if (one.ruling) open.append(part("small", ruling(one), "ruling"));
  for (const reply of one.replies) open.append(part("small", `${reply.by}: ${reply.text}`, "reply"));
  item.append(open, starOf(one));
  return item;
}

function ruling({ ruling: { by, comment, ...decision }, overruled }) {
  const said = t(overruled ? "history.otherwise" : "history.agreed", { by, decision: words(decision) });
  return comment ? `${said} – ${comment}` : said;
}

function part(tag, text, kind = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  element.dir = "auto";
  if (kind) element.className = kind;
  return element;
}

function starOf(one) {
  const box = document.createElement("input");
  box.type = "checkbox";
  box.className = "star";
  box.title = t("star.title");
  box.setAttribute("aria-label", t("star.of", { prompt: one.prompt.slice(0, 60) }));
  box.checked = one.starred;
  box.addEventListener("change", async () => {
    try {
      one.starred = (await star(one.item, box.checked)).starred;
    } catch {
      $("history-intro").textContent = t("star.offline");
    }
    box.checked = one.starred;
  });
  return box;
}

// Stars an item to come back to, or ends that. Throws where the server cannot be reached.
export const star = (item, starred) => call("star", { item, starred });

// On the button of the card.
export const showStar = ({ starred }) => all("#choices [data-action=star]")[0].classList.toggle("on", starred);
