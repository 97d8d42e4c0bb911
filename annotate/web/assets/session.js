// The flow: which card is shown, which one waits behind it, and what becomes of an answer. An answer goes into the
// outbox and the next card is shown at once; the server is told meanwhile.

import { showCard } from "./card.js";
import * as choices from "./choices.js";
import * as differences from "./differences.js";
import * as drafts from "./draft.js";
import * as history from "./history.js";
import * as kept from "./kept.js";
import { announce, teach } from "./lesson.js";
import * as marks from "./marks.js";
import * as outbox from "./outbox.js";
import * as reading from "./reading.js";
import { $, all, focusPrompt, scroller } from "./root.js";
import { Refusal, call, pause } from "./server.js";
import { amount, t } from "./words.js";

const RENEW_EVERY_MS = 240_000;
const HELD_MS = 200; // a card takes no answer before anybody can have seen it

const tabs = new BroadcastChannel("annotate");
let answered = () => {}; // called when the server has stored an answer
const clock = { since: 0, visible: 0 };
let settings = null;
let box = null; // names the store and the person to this browser
let version = null;
let current = null;
let revisiting = false;
let behind = [];
let busy = true;
let teaching = false; // the lesson of a training pair is open
let fetching = false;
let reachable = true;
let unacknowledged = { kept: "", saved: "" }; // what is said of the last answer, before and after the server has it

export const isBusy = () => busy || teaching || !current;
export const isRevisiting = () => revisiting;
export const card = () => current;

export function setUp(given, told) {
  settings = given;
  answered = told;
}

export async function start(account, guidelines) {
  version = guidelines;
  box = `${settings.store}.${account.name}`;
  outbox.open(box, { failed: offline, refused, changed: countUnsaved, stored });
  drafts.open(box);
  history.setUp(box, revisit);
  history.lookForNews();
  countUnsaved();
  tabs.onmessage = ({ data }) => data.box === box && answeredElsewhere(data.item);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) clock.visible += performance.now() - clock.since;
    else clock.since = performance.now();
  });
  setInterval(() => {
    if (!document.hidden && current) call("next").catch(() => {}); // a lease that lapses is taken care of
  }, RENEW_EVERY_MS);
  await outbox.send();
  await load();
}

// Showing

export async function load() {
  setBusy(true);
  for (;;) {
    try {
      const reply = await call("next");
      reachable = true;
      notice("");
      progress(reply.progress);
      round(reply.round);
      if (reply.card) show(reply.card);
      else showNothing(reply.nothing);
      return;
    } catch (error) {
      notice(trouble(error, t("offline.load")), true);
      await pause();
    }
  }
}

function show(card) {
  setBusy(true);
  current = card;
  wait(behind.filter((other) => other.item !== card.item));
  drafts.take(card);
  $("pair").hidden = $("choices").hidden = false;
  $("nothing").hidden = true;
  showCard(card);
  reading.begin(card, settings.must_see);
  choices.begin(card);
  marks.begin(card);
  differences.show(card, false);
  announce(card);
  history.showStar(card);
  clock.since = performance.now();
  clock.visible = 0;
  scroller.to(0);
  focusPrompt();
  setTimeout(() => setBusy(false), HELD_MS);
  fetchAhead();
}

function showNothing(reason) {
  current = null;
  $("pair").hidden = $("choices").hidden = true;
  $("nothing").hidden = false;
  $("nothing-title").textContent = t("nothing.title");
  $("reason").textContent = reason;
  for (const button of all("#nothing button")) button.hidden = false;
  setBusy(false);
}

// Without a connection, and with every card judged that was fetched in advance.
function showWaiting() {
  if (current || reachable) return;
  const count = outbox.waiting().length;
  showNothing(t(count === 1 ? "waiting.one" : "waiting.many", { count }));
  $("nothing-title").textContent = t("waiting.title");
  for (const button of all("#nothing button")) button.hidden = true;
}

// The cards behind the one that is shown, in order.
function wait(cards) {
  behind = cards;
  $("annotate").dataset.ahead = cards.length;
}

async function fetchAhead() {
  if (fetching) return;
  fetching = true;
  try {
    while (current && !revisiting && behind.length < settings.ahead && !outbox.waiting().length) {
      const known = [current, ...behind].map((card) => card.item);
      const { card } = await call("ahead", { known });
      if (!card) break;
      if (card.item !== current?.item && behind.every((other) => other.item !== card.item)) wait([...behind, card]);
    }
  } catch {
    // Offline: the cards are asked for again after the next answer.
  } finally {
    fetching = false;
  }
}

// What is said of a request that did not succeed; `otherwise`: if no reply came.
export function trouble(error, otherwise) {
  if (error instanceof Refusal) return error.message;
  if (error.status === 401) return t("offline.login");
  return error.status ? t("offline.server", { status: error.status }) : otherwise;
}

function setBusy(value) {
  busy = value;
  $("annotate").setAttribute("aria-busy", value);
}

function progress({ mine, open_for_me: open, seconds_each: seconds }) {
  $("count").textContent = t("count", { mine: amount(mine), open: amount(open) });
  $("pace").textContent = seconds ? `· ${t("pace", { hour: amount(3600 / Math.max(seconds, 1)) })}` : "";
  const share = mine + open ? Math.round((100 * mine) / (mine + open)) : 0;
  $("meter").firstElementChild.style.width = `${share}%`;
  $("meter").setAttribute("aria-valuenow", share);
}

function round(reply) {
  if (!reply) return;
  const { number, rounds, to_go: left } = reply;
  $("round").textContent = `· ${t(left ? "round" : "round.done", { number, rounds, to_go: amount(left) })}`;
}

function countUnsaved() {
  const count = outbox.waiting().length;
  $("unsaved").textContent = count === 1 ? t("unsaved.one") : t("unsaved.many", { count });
  $("unsaved").hidden = count === 0;
}

export const unsaved = () => outbox.waiting().length > 0;

export function notice(text, warning = false) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
  $("notice").classList.toggle("warning", warning);
}

export const say = (text) => ($("saved").textContent = text);

// Answers

export async function answer(choice, reason) {
  if (isBusy()) return;
  const seconds = Math.round((clock.visible + performance.now() - clock.since) / 100) / 10;
  const { item } = current;
  const body = { item, client_key: kept.newKey(), seconds, ...choices.body(choice, reason) };
  if (version) body.guidelines_version = version;
  if (!keep("submit", body)) return;
  setBusy(true);
  unacknowledged = { kept: choices.said(body, false), saved: choices.said(body, true) };
  say(unacknowledged.kept);
  drafts.discard(item);
  if (current.lesson) {
    outbox.send();
    teaching = true;
    await teach(current, body);
    teaching = false;
    say("");
  }
  current = null;
  revisiting = false;
  if (behind.length) show(behind[0]);
  else showWaiting();
  await settle();
  tabs.postMessage({ box, item });
}

export async function undo() {
  if (busy) return;
  if (!reachable) return say(t("undo.offline"));
  if (!keep("undo", { client_key: kept.newKey() })) return;
  setBusy(true);
  await settle();
}

function keep(path, body) {
  try {
    outbox.put(path, body, current ? current.prompt.at(-1).text.slice(0, 160) : "");
    return true;
  } catch {
    notice(t("storage.full"), true);
    return false;
  }
}

// Sends what waits, then goes by the server's last word.
async function settle() {
  const last = await outbox.send();
  if (!last) return current ? setBusy(false) : load();
  reachable = true;
  if ([unacknowledged.kept, t("undo.offline")].includes($("saved").textContent)) say(unacknowledged.saved);
  notice("");
  progress(last.reply.progress);
  round(last.reply.round);
  if (last.path === "undo") {
    say(t(last.reply.undone ? "undone" : "undo.nothing"));
    if (current && last.reply.undone) wait([current, ...behind]);
    revisiting = false;
    if (last.reply.card && (last.reply.undone || !current)) show(last.reply.card);
    else if (!current) showNothing(last.reply.nothing);
    else setBusy(false);
  } else if (!current) {
    if (last.reply.card) show(last.reply.card);
    else showNothing(last.reply.nothing);
  } else {
    fetchAhead();
  }
}

function stored({ path, body, reply }) {
  const { client_key: _, ...answer } = body;
  if (path === "submit") answered({ ...answer, revision: reply.revision });
}

function offline(error) {
  reachable = false;
  notice(trouble(error, t("offline")), true);
  showWaiting();
}

function refused(why, path) {
  notice(t("refused", { why }), true);
  if (path === "undo") setBusy(false);
}

function answeredElsewhere(item) {
  wait(behind.filter((card) => card.item !== item));
  if (!current || current.item !== item || revisiting) return;
  current = null;
  if (behind.length) show(behind[0]);
  else load();
}

// Earlier answers

export async function revisit(item) {
  if (busy) return;
  setBusy(true);
  try {
    const { card } = await call("again", { item });
    if (current && !revisiting) wait([current, ...behind]);
    revisiting = true;
    show(card);
    say(t("again"));
  } catch (error) {
    notice(trouble(error, t("offline.load")), true);
    setBusy(false);
  }
}

export function leaveEarlier() {
  if (!revisiting || busy) return;
  drafts.discard(current.item);
  revisiting = false;
  current = null;
  say("");
  if (behind.length) show(behind[0]);
  else load();
}
