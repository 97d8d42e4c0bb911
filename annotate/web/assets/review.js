// The review: one item at a time on the annotators' card, beside the list of items. Nothing is reloaded; every item has
// an address, and going back in the browser's history returns to the item and the place where it was read.

import { nextView, showCard, toggleEarlier, viewName, whenFilled } from "./card.js";
import * as choices from "./choices.js";
import * as drafts from "./draft.js";
import * as kept from "./kept.js";
import * as keys from "./keys.js";
import * as reading from "./reading.js";
import * as list from "./review_list.js";
import { paintSpans, setUpSaid, showSaid } from "./review_said.js";
import { $, all, focusPrompt, setRoot } from "./root.js";
import { Refusal, ask, connect, pause } from "./server.js";
import { loadWords, t } from "./words.js";

const ADDRESS = "/lead/items";
const OWN_KEYS = { KeyJ: "next", KeyK: "previous", Slash: "search" };
const FIELD = "textarea, select, input";

let shown = null; // the item: its card, the ruling, and what people said
let busy = true;
let reranked = false; // a ranking was begun after the decision

const ACTIONS = {
  tie: () => (choices.ranking() ? choices.tieNext() : chosen(choices.strengthChosen(0))),
  bad: () => decide("both_bad"),
  skip: () => decide("left_out"),
  undo: () => shown.ruling && decide("withdrawn"),
  comment,
  save,
  back: choices.back,
  next: () => step(1),
  previous: () => step(-1),
  search: () => $("filter").elements.search.focus(),
  earlier: toggleEarlier,
  before: () => reading.jump(-1),
  after: () => reading.jump(1),
  panes: () => $("panes").setAttribute("aria-pressed", reading.togglePanes()),
  lock: () => say(t(reading.toggleLock() ? "lock.on" : "lock.off")),
  raw: async () => {
    await nextView();
    showView();
  },
  dark: () => setTheme(!document.body.classList.contains("dark"), true),
  leave,
};
const WITHOUT_AN_ITEM = new Set(["next", "previous", "search", "dark", "panes", "lock", "raw"]);

const say = (text) => ($("saved").textContent = text);

function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

// Items

async function open(item, scroll = 0) {
  setBusy(true);
  $("nothing").hidden = item !== null;
  $("pair").hidden = $("choices").hidden = item === null;
  list.mark(item);
  if (item === null) {
    shown = null;
    $("said").hidden = true;
    return setBusy(false);
  }
  const reply = await reach(() => ask(`${ADDRESS}/${item}/card`));
  if (!reply) return setBusy(false);
  drafts.take(reply.card);
  showCard(reply.card);
  reading.begin(reply.card, false);
  choices.begin(reply.card);
  take(reply);
  say("");
  window.scrollTo(0, scroll);
  focusPrompt();
  setBusy(false);
}

function take(reply) {
  shown = reply;
  reranked = false;
  $("annotate").classList.toggle("decided", !!reply.ruling);
  $("annotate").classList.toggle("ranking", choices.ranking());
  all("#choices [data-action=undo]")[0].hidden = !reply.ruling;
  showSaid(reply);
  choices.refresh();
}

const address = (item) => `${item === null ? ADDRESS : `${ADDRESS}/${item}`}${list.query()}`;

// To an item, as a new entry of the browser's history.
async function go(item) {
  if (busy) return;
  keepPlace();
  history.pushState({ item, scroll: 0 }, "", address(item));
  await open(item);
}

function keepPlace() {
  if (shown) history.replaceState({ item: shown.card.item, scroll: window.scrollY }, "");
}

async function step(by) {
  const to = await list.beside(shown && shown.card.item, by);
  if (to === null) return say(t(by > 0 ? "review.last" : "review.first"));
  await go(to);
}

// Decisions

function chosen(send) {
  if (send) decide("compared");
}

// Enter: a ranking, or another comment, is stored; otherwise it goes on.
function save() {
  const { ruling } = shown;
  if (choices.ranking() && (reranked || !ruling)) {
    return choices.complete() ? decide("ranked") : say(t("select.rank"));
  }
  if (!ruling) return say(t("review.undecided"));
  return drafts.draft.comment.trim() === ruling.comment ? step(1) : decide(ruling.choice);
}

async function decide(choice) {
  setBusy(true);
  const { strength, ranking, comment = "" } = choices.body(choice);
  const item = shown.card.item;
  const reply = await reach(() => ask(`${ADDRESS}/${item}/ruling`, { choice, strength, ranking, comment }));
  setBusy(false);
  if (!reply) return;
  drafts.discard(item);
  list.decided(item, reply.ruling);
  take(reply);
  say(t(reply.ruling ? "review.decided" : "review.withdrawn"));
}

// The reply; null where the server refuses. A server that is away is asked until it answers.
async function reach(request) {
  for (;;) {
    try {
      const reply = await request();
      notice("");
      return reply;
    } catch (error) {
      notice(error instanceof Refusal ? error.message : t("offline.load"));
      if (error instanceof Refusal) return null;
      await pause();
    }
  }
}

async function message(annotator, text) {
  const reply = await reach(() => ask(`${ADDRESS}/${shown.card.item}/message`, { annotator, text }));
  if (!reply) return;
  take(reply);
  say(t("review.replied", { name: annotator }));
}

// A comment that is changed after the decision is stored when its field is left.
function keepComment() {
  const ruling = shown && shown.ruling;
  if (ruling && !busy && drafts.draft.comment.trim() !== ruling.comment) decide(ruling.choice);
}

function comment() {
  drafts.change({ remarking: true });
  choices.refresh();
  $("comment").focus({ preventScroll: true });
}

function leave(event) {
  if (!event.target.closest(FIELD)) return;
  event.preventDefault(); // which would empty a search field
  if (event.target.id === "comment" && !event.target.value.trim()) {
    drafts.change({ remarking: false });
    choices.refresh();
  }
  focusPrompt();
}

// The page

function setBusy(value) {
  busy = value;
  $("annotate").setAttribute("aria-busy", value);
}

function showView() {
  $("raw").querySelector("span").textContent = t(`view.${viewName()}`);
}

function setTheme(dark, keep = false) {
  document.body.classList.toggle("dark", dark);
  $("theme").setAttribute("aria-pressed", dark);
  if (keep) kept.keepTheme(dark ? "dark" : "light");
}

function act(name, event) {
  if (busy || (!shown && !WITHOUT_AN_ITEM.has(name))) return;
  reranked ||= choices.ranking() && /^([1-9]|tie|back)$/.test(name);
  if (/^[1-9]$/.test(name)) chosen(choices.digit(Number(name)));
  else if (ACTIONS[name]) ACTIONS[name](event);
}

function onKey(event) {
  const plain = !event.ctrlKey && !event.metaKey && !event.altKey && !event.repeat && !event.target.closest(FIELD);
  const action = (plain && keys.on() && OWN_KEYS[event.code]) || keys.actionOf(event);
  if (!action) return;
  act(action, event);
  if (action !== "leave") event.preventDefault();
}

function onClick(event) {
  const button = event.target.closest("[data-action]");
  if (button && event.detail <= 1) act(button.dataset.action, event);
}

async function start() {
  setRoot(document.getElementById("annotate"));
  connect(null, "/login");
  const settings = JSON.parse($("annotate").dataset.settings);
  const theme = kept.theme();
  setTheme(theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
  keys.load();
  await loadWords(settings.language);
  drafts.open(`review.${settings.name}`);
  choices.setUp({ rubric: [], rubric_optional: true, ask: false });
  reading.setUp(choices.refresh);
  setUpSaid(message);
  showView();
  whenFilled(paintSpans);
  keys.show();
  $("panes").setAttribute("aria-pressed", kept.read("panes", false));
  $("annotate").addEventListener("click", onClick);
  document.addEventListener("keydown", onKey);
  $("comment").addEventListener("change", keepComment);
  all("#choices [data-action=next] kbd")[0].textContent = keys.codeName("KeyJ");
  history.scrollRestoration = "manual";
  addEventListener("pagehide", keepPlace);
  addEventListener("popstate", async ({ state }) => {
    if (list.restore()) await reach(list.load);
    await open(state ? state.item : addressed(), state ? state.scroll : 0);
  });
  list.setUp({
    opened: go,
    filtered: async () => {
      await reach(list.load);
      history.replaceState(history.state, "", address(shown && shown.card.item));
      if (!shown) await open(list.first());
    },
  });
  await reach(list.load);
  const item = addressed() ?? list.first();
  const state = history.state;
  history.replaceState({ item, scroll: state?.scroll ?? 0 }, "", address(item));
  await open(item, state?.item === item ? state.scroll : 0);
}

function addressed() {
  const number = /\/(\d+)$/.exec(location.pathname);
  return number ? Number(number[1]) : null;
}

start();
