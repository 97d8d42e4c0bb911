// Starts the page and connects keys and buttons with what they do.

import { isExact, toggleEarlier, toggleExact } from "./card.js";
import * as choices from "./choices.js";
import { change, draft } from "./draft.js";
import * as kept from "./kept.js";
import * as keys from "./keys.js";
import * as panels from "./panels.js";
import * as reading from "./reading.js";
import { call, pause } from "./server.js";
import * as session from "./session.js";
import { loadWords, t } from "./words.js";

const $ = (id) => document.getElementById(id);

const ACTIONS = {
  tie: () => (choices.ranking() ? choices.tieNext() : chosen(choices.strengthChosen(0))),
  bad: () => session.answer("both_bad"),
  skip,
  flag,
  comment,
  edit,
  undo: session.undo,
  history: () => panels.openHistory(session.revisit),
  guidelines: panels.toggleGuidelines,
  earlier: toggleEarlier,
  before: () => reading.jump(-1),
  after: () => reading.jump(1),
  panes: () => $("panes").setAttribute("aria-pressed", reading.togglePanes()),
  lock: () => session.say(t(reading.toggleLock() ? "lock.on" : "lock.off")),
  raw: () => $("raw").setAttribute("aria-pressed", toggleExact()),
  dark: toggleTheme,
  save,
  help: panels.openHelp,
  back: choices.back,
  leave,
};
const WITHOUT_A_CARD = new Set(["undo", "history", "guidelines", "raw", "dark", "help", "panes", "lock"]);
const AFTER_READING = /^([1-9]|tie|bad|save)$/;

function act(name, event) {
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
  if (choices.ranking() || !document.querySelector("[data-action=edit]")) return;
  change({ editing: !draft.editing });
  choices.refresh();
  if (draft.editing && !choices.focusEditor()) session.say(t("edit.choose"));
}

function leave(event) {
  const field = event.target.closest("textarea, input");
  if (!field) return session.leaveEarlier();
  if (field.id === "comment" && !field.value.trim()) {
    change({ remarking: false });
    choices.refresh();
  }
  $("prompt").focus({ preventScroll: true });
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
  const button = event.target.closest("[data-action]");
  if (button && event.detail <= 1) act(button.dataset.action, event); // the second half of a double click does nothing
}

async function start() {
  const settings = JSON.parse($("annotate").dataset.settings);
  settings.ask ||= kept.read("ask", false);
  const theme = kept.theme();
  setTheme(theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
  keys.load();
  await loadWords(settings.language);
  choices.setUp(settings);
  session.setUp(settings);
  reading.setUp(choices.refresh);
  $("raw").setAttribute("aria-pressed", isExact());
  $("panes").setAttribute("aria-pressed", kept.read("panes", false));
  panels.setUp();
  keys.show();
  $("ask-first").checked = settings.ask;
  $("ask-first").addEventListener("change", (event) => {
    settings.ask = event.target.checked;
    kept.write("ask", settings.ask);
    choices.refresh();
  });
  $("annotate").addEventListener("click", onClick);
  document.addEventListener("keydown", onKey);
  $("rank-back").addEventListener("click", () => choices.back());
  $("look-again").addEventListener("click", () => session.load());
  const [me, guidelines] = await first(() => Promise.all([call("/api/v1/me"), panels.setUpGuidelines()]));
  $("lead").hidden = me.role === "annotator";
  $("who").textContent = me.name;
  $("who").hidden = $("leave").hidden = !me.login;
  await session.start(me, guidelines && guidelines.version);
  if (guidelines && guidelines.changed) session.notice(t("guidelines.changed"));
}

async function first(ask) {
  for (;;) {
    try {
      return await ask();
    } catch {
      session.notice(t("offline.load"), true);
      await pause();
    }
  }
}

// Gradio puts the card into the document some time after this script has run.
function whenThere() {
  if (!$("annotate")) return;
  waiting.disconnect();
  start();
}
const waiting = new MutationObserver(whenThere);
waiting.observe(document.documentElement, { childList: true, subtree: true });
whenThere();
