// Starts the page and connects keys and buttons with what they do.

import { nextView, toggleEarlier, viewName, whenFilled } from "./card.js";
import * as choices from "./choices.js";
import * as differences from "./differences.js";
import { change, draft } from "./draft.js";
import { openHistory, showStar, star } from "./history.js";
import * as kept from "./kept.js";
import * as keys from "./keys.js";
import * as marks from "./marks.js";
import * as panels from "./panels.js";
import * as reading from "./reading.js";
import { $, all, focusPrompt, isForThisCard, makeCurrent, markStyles, setRoot } from "./root.js";
import { call, connect, pause } from "./server.js";
import * as session from "./session.js";
import { loadWords, t } from "./words.js";

const ACTIONS = {
  tie: () => (choices.ranking() ? choices.tieNext() : chosen(choices.strengthChosen(0))),
  bad: () => session.answer("both_bad"),
  skip,
  flag,
  comment,
  edit,
  undo: session.undo,
  history: openHistory,
  star: toggleStar,
  guidelines: panels.toggleGuidelines,
  earlier: toggleEarlier,
  before: () => reading.jump(-1),
  after: () => reading.jump(1),
  pageon: () => reading.page(1),
  pageback: () => reading.page(-1),
  panes: () => $("panes").setAttribute("aria-pressed", reading.togglePanes()),
  lock: () => session.say(t(reading.toggleLock() ? "lock.on" : "lock.off")),
  raw: async () => {
    await nextView();
    showView();
  },
  differences: toggleDifferences,
  dark: toggleTheme,
  save,
  help: panels.openHelp,
  back: choices.back,
  leave,
};
const STYLES = ["page", "text", "answer", "dialogs"];
const WITHOUT_A_CARD = new Set(["undo", "history", "guidelines", "raw", "dark", "help", "panes", "lock"]);
const AFTER_READING = /^([1-9]|tie|bad|save)$/;

function act(name, event) {
  const reason = /^reason([1-9])$/.exec(name);
  if (reason && !session.isBusy()) return marks.press(Number(reason[1]) - 1);
  if (session.isBusy() && !WITHOUT_A_CARD.has(name)) return;
  if (AFTER_READING.test(name) && !reading.allSeen()) return session.say(t("read.first"));
  if (/^[1-9]$/.test(name)) chosen(choices.digit(Number(name)));
  else if (ACTIONS[name]) ACTIONS[name](event);
}

// A strength is chosen: it is sent now, or Enter will do it.
function chosen(send) {
  if (send) session.answer("compared");
  else if (choices.complete() && draft.strength !== null) {
    session.say(t("select.then", { full: t(`full.${draft.strength}`) }));
  }
}

function save() {
  if (!choices.complete()) return session.say(missing());
  session.answer(choices.ranking() ? "ranked" : "compared");
}

function missing() {
  if (choices.ranking()) return t("select.rank");
  if (!choices.hasRows()) return t("select.first");
  choices.goTo(choices.missingRow());
  return t("select.row");
}

async function skip() {
  const reason = await panels.askSkip();
  if (reason !== undefined) session.answer("skipped", reason);
}

async function flag() {
  const flag = await panels.askFlag();
  if (flag === undefined) return;
  change({ flag });
  choices.refresh();
  session.say(flag ? t("flag.set", { flag: t(`flag.${flag}`) }) : t("flag.removed"));
}

function comment() {
  change({ remarking: true });
  choices.refresh();
  $("comment").focus({ preventScroll: true });
}

function edit() {
  if (choices.ranking() || !all("[data-action=edit]").length) return;
  change({ editing: !draft.editing });
  choices.refresh();
  if (draft.editing && !choices.focusEditor()) session.say(t("edit.choose"));
}

function leave(event) {
  const field = event.target.closest("textarea, input");
  if (!field) return session.leaveEarlier();
  if (field === $("comment") && !field.value.trim()) {
    change({ remarking: false });
    choices.refresh();
  }
  focusPrompt();
}

function showView() {
  $("raw").querySelector("span").textContent = t(`view.${viewName()}`);
  $("annotate").dataset.view = viewName();
}

// The marks go with the card; that they were on is part of the answer.
function toggleDifferences() {
  if (choices.ranking()) return session.say(t("differences.two"));
  const on = !differences.isOn();
  if (!differences.show(session.card(), on)) return session.say(t("differences.never"));
  if (on) change({ differences: true });
}

async function toggleStar() {
  const card = session.card();
  try {
    card.starred = (await star(card.item, !card.starred)).starred;
    if (card === session.card()) showStar(card);
    session.say(t(card.starred ? "star.on" : "star.off"));
  } catch {
    session.say(t("star.offline"));
  }
}

function toggleTheme() {
  const dark = !document.body.classList.contains("dark");
  kept.keepTheme(dark ? "dark" : "light");
  setTheme(dark);
}

function setTheme(dark) {
  document.body.classList.toggle("dark", dark);
  $("theme").setAttribute("aria-pressed", dark);
}

function onKey(event) {
  if (!isForThisCard(event)) return;
  if (panels.takeKey(event)) return;
  const dialog = panels.openDialog();
  if (dialog) {
    const digit = /^(?:Digit|Numpad)([1-9])$/.exec(event.code);
    if (digit && !event.target.closest("input") && panels.pressInDialog(dialog, digit[1])) event.preventDefault();
    return;
  }
  const action = keys.actionOf(event);
  if (!action) return;
  act(action, event);
  if (action !== "leave") event.preventDefault();
}

function onClick(event) {
  const chip = event.target.closest("[data-reason]");
  if (chip && !session.isBusy()) marks.press(Number(chip.dataset.reason), true);
  const button = event.target.closest("[data-action]");
  if (button && event.detail <= 1) act(button.dataset.action, event); // the second half of a double click does nothing
}

// Brings the card to life: `element` holds its HTML, `host` says where the server is and is told of stored answers.
export async function start(element, host) {
  setRoot(element.querySelector(".annotate"), host.number);
  const settings = JSON.parse($("annotate").dataset.settings);
  connect(host, settings.pages && "/login");
  if (!settings.pages) await fitIn(settings.height);
  settings.ask ||= kept.read("ask", false);
  const theme = kept.theme();
  if (theme || settings.pages) setTheme(theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
  keys.load();
  await loadWords(settings.language);
  choices.setUp(settings);
  session.setUp(settings, host.answered);
  reading.setUp(choices.refresh);
  marks.setUp(settings.reasons, session.say);
  whenFilled(() => {
    marks.repaint();
    if (session.card() && differences.isOn()) differences.show(session.card(), true);
  });
  showView();
  $("panes").setAttribute("aria-pressed", kept.read("panes", false));
  panels.setUp();
  keys.show();
  $("ask-first").checked = settings.ask;
  $("ask-first").addEventListener("change", (event) => {
    settings.ask = event.target.checked;
    kept.write("ask", settings.ask);
    choices.refresh();
  });
  listen();
  const [me, guidelines] = await first(() => Promise.all([call("me"), panels.setUpGuidelines()]));
  $("lead").hidden = !settings.pages || me.role === "annotator";
  $("who").textContent = me.name;
  $("who").hidden = $("leave").hidden = !me.login;
  await session.start(me, guidelines && guidelines.version);
  if (!kept.lasts) session.notice(t("storage.closed"), true);
  if (guidelines && guidelines.changed) session.notice(t("guidelines.changed"));
}

function listen() {
  $("annotate").addEventListener("click", onClick);
  $("annotate").addEventListener("pointerenter", makeCurrent);
  $("annotate").addEventListener("focusin", makeCurrent);
  document.addEventListener("keydown", onKey);
  addEventListener("beforeunload", (event) => {
    if (!kept.lasts && session.unsaved()) event.preventDefault(); // the browser asks whether to leave
  });
  $("rank-back").addEventListener("click", () => choices.back());
  $("look-again").addEventListener("click", () => session.load());
}

// Among other things on a page the card has a height of its own, and brings its styles.
async function fitIn(height) {
  $("annotate").classList.add("boxed");
  if (height) $("annotate").style.setProperty("--view", `${height}px`);
  const folder = new URL(".", import.meta.url).href.replace(/\/+$/, "/");
  const addresses = STYLES.map((name) => `${folder}${name}.css`);
  await Promise.all(addresses.map(addStyles));
  markStyles(addresses);
}

function addStyles(href) {
  const there = [...document.querySelectorAll("link[rel=stylesheet]")].find((link) => link.href === href);
  if (there) return there.loaded; // another card added it
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = href;
  link.loaded = new Promise((resolve) => (link.onload = link.onerror = resolve));
  document.head.append(link);
  return link.loaded;
}

async function first(ask) {
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      session.notice(session.trouble(error, t("offline.load")), true);
      await pause();
    }
  }
}
