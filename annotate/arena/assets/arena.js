// The arena: streams the answers of a turn, stops and repeats them, sends votes. With one side it is a chat.

import * as kept from "../kept.js";
import * as outbox from "../outbox.js";
import { Refusal, pause } from "../server.js";
import { build } from "../text.js";
import { loadWords, t } from "../words.js";
import { battle, begin, change, complete, conversation, draft, goOn, load, same } from "./battle.js";
import { call, events } from "./requests.js";

const $ = (id) => document.getElementById(id);
const running = new Map(); // side → { controller, text, waiting }
let sides = [0, 1];
let problem = "";

const voted = () => battle.vote !== null || battle.runs !== null;
const judging = () => sides.length === 2 && complete(sides) && running.size === 0 && !voted() && !same();

// ---- Answers

async function ask(asked) {
  fail("");
  const controller = new AbortController();
  const answers = battle.answers.map((answer, side) => (asked.includes(side) ? null : answer));
  change({ answers, choice: null, since: null, attempt: battle.attempt + 1 });
  for (const side of asked) {
    battle.stopped[side] = false;
    running.set(side, { controller, text: "", length: 0, waiting: 0 });
  }
  show();
  const body = { battle: battle.battle, messages: conversation(), sides: asked, attempt: battle.attempt };
  try {
    for await (const event of events("answers", body, controller.signal)) {
      if (controller.signal.aborted) break; // another battle has begun
      take(event, asked);
    }
    if (asked.some((side) => running.get(side)?.controller === controller)) fail(problem || t("arena.lost"));
  } catch (error) {
    if (!controller.signal.aborted) fail(error instanceof Refusal ? error.message : t("arena.lost"));
  }
  for (const side of asked) if (running.get(side)?.controller === controller) running.delete(side);
  show();
}

function take(event, asked) {
  if (event.error) {
    fail(event.error);
  } else if ("waiting" in event) {
    for (const side of asked) if (running.has(side)) running.get(side).waiting = event.waiting;
  } else if (event.end) {
    running.delete(event.side);
    const nothing = battle.stopped[event.side] && event.end.text === "";
    const answers = battle.answers.map((answer, side) => (side === event.side && !nothing ? event.end : answer));
    change({ answers });
    if (complete(sides)) change({ since: Date.now(), keep: sides.length === 1 ? 0 : Math.random() < 0.5 ? 0 : 1 });
  } else {
    const answer = running.get(event.side);
    // Nearly every piece keeps all of the text; to split the text at each piece is quadratic in its length.
    if (event.keep < answer.length) answer.text = Array.from(answer.text).slice(0, event.keep).join("");
    answer.text += event.add;
    answer.length = event.keep + Array.from(event.add).length;
    answer.waiting = 0;
    return showSoon();
  }
  show();
}

function fail(text) {
  problem = text;
  notice(text);
}

function stop(side = null) {
  if (!running.size) return;
  const stopped = battle.stopped.map((was, place) => was || ((side === null || side === place) && running.has(place)));
  change({ stopped });
  call("stop", { battle: battle.battle, side }).catch(abandon);
}

function abandon() {
  for (const { controller } of running.values()) controller.abort();
}

function retry(asked = sides) {
  if (battle.prompt === null || voted() || asked.some((side) => running.has(side))) return;
  ask(asked);
}

function send() {
  const text = $("message").value;
  const unfinished = battle.prompt !== null && !complete(sides);
  if (!text.trim() || running.size || voted() || unfinished) return;
  $("message").value = "";
  draft.set("");
  goOn(text, battle.keep ?? 0);
  ask(sides);
}

// ---- Votes

function choose(choice) {
  if (!judging()) return;
  const better = typeof choice === "number" && choice !== 0 ? (choice < 0 ? 0 : 1) : battle.keep;
  change({ choice, keep: better });
  show();
}

function vote() {
  if (!judging() || battle.choice === null) return;
  const answers = battle.answers.map(({ text, ended, seal }) => ({ text, ended, seal }));
  const given = battle.choice === "bad" ? { choice: "both_bad" } : { choice: "compared", strength: battle.choice };
  const seconds = Math.min((Date.now() - battle.since) / 1000, 86400);
  const body = { battle: battle.battle, messages: conversation(), answers, ...given, seconds, client_key: kept.newKey() };
  try {
    outbox.put("vote", body);
  } catch {
    return notice(t("storage.full"));
  }
  change({ vote: body.client_key });
  show();
  deliver();
}

async function deliver() {
  const last = await outbox.send();
  notice("");
  if (last && last.body.client_key === battle.vote) {
    change({ runs: last.reply.runs });
    show();
    $("new").focus();
  }
}

function refused(why, _path, body) {
  if (body.client_key === battle.vote) change({ vote: null });
  notice(t("refused", { why }));
  show();
}

async function another() {
  stop();
  abandon();
  running.clear();
  fail("");
  begin((await first(() => call("battle"))).battle);
  show();
  $("message").focus();
}

// ---- What is seen

let planned = 0;

// Once per frame however many pieces come: a fast worker never blocks the page.
function showSoon() {
  planned ||= requestAnimationFrame(show);
}

function show() {
  cancelAnimationFrame(planned);
  planned = 0;
  const bottom = innerHeight + scrollY >= document.documentElement.scrollHeight - 60;
  showPast();
  for (const side of sides) showAnswer(side);
  $("turn").hidden = $("past").hidden = battle.prompt === null;
  $("intro").hidden = battle.prompt !== null;
  if (sides.length === 2) showVote();
  const free = !running.size && !voted() && (battle.prompt === null || complete(sides));
  $("say").hidden = voted();
  $("send").disabled = !free;
  $("arena").setAttribute("aria-busy", running.size > 0);
  $("saved").textContent = said();
  if (bottom && running.size) scrollTo(0, document.documentElement.scrollHeight);
}

function said() {
  if (battle.runs) return t("arena.saved");
  if (battle.vote) return t("arena.saving");
  if (sides.length === 2 && complete(sides) && !running.size && same()) return t("arena.same");
  return battle.choice === null ? "" : battle.choice === "bad" ? t("both_bad") : t("select.then", { full: t(`full.${battle.choice}`) });
}

function showPast() {
  const turns = battle.prompt === null ? [] : [...battle.messages, battle.prompt];
  if ($("past").dataset.shown === `${battle.battle}.${turns.length}`) return;
  $("past").dataset.shown = `${battle.battle}.${turns.length}`;
  $("past").replaceChildren(...turns.map(({ role, content, formatted }) => {
    const turn = document.createElement("div");
    const head = document.createElement("h2");
    const text = document.createElement("div");
    turn.className = `turn ${role}`;
    head.textContent = t(`role.${role}`);
    text.className = "text";
    text.append(formatted ? build(formatted) : content);
    turn.append(head, text);
    return turn;
  }));
}

function showAnswer(side) {
  const answer = battle.answers[side];
  const live = running.get(side);
  const text = $(`text-${side}`);
  const shown = live ? "live" : answer ? answer.seal : "";
  if (live || !answer) text.textContent = live ? live.text : "";
  else if (text.dataset.shown !== shown) text.replaceChildren(answer.text ? build(answer.formatted) : empty());
  text.dataset.shown = shown;
  text.classList.toggle("writing", Boolean(live));
  $(`state-${side}`).textContent = stateOf(side, answer, live);
  document.querySelector(`[data-stop="${side}"]`).hidden = !live;
  document.querySelector(`[data-retry="${side}"]`).hidden = Boolean(live) || battle.prompt === null || voted();
  if (battle.runs) $(`name-${side}`).textContent = battle.runs[side];
  else if (sides.length === 2) $(`name-${side}`).textContent = t("answer", { letter: "AB"[side] });
}

function stateOf(side, answer, live) {
  if (live) return live.waiting ? t("arena.waiting", { count: live.waiting }) : t("arena.writing");
  if (battle.stopped[side]) return t(answer ? "arena.stopped" : "arena.stopped.empty");
  if (!answer) return battle.prompt === null || problem ? "" : t("arena.interrupted");
  return answer.ended ? "" : t("arena.cut");
}

function empty() {
  const note = document.createElement("span");
  note.className = "empty";
  note.textContent = t("empty");
  return note;
}

function showVote() {
  $("vote").hidden = !judging();
  $("keep").hidden = !complete(sides) || running.size > 0 || voted();
  for (const button of document.querySelectorAll("[data-strength]"))
    button.setAttribute("aria-pressed", Number(button.dataset.strength) === battle.choice && battle.choice !== null);
  $("bad").setAttribute("aria-pressed", battle.choice === "bad");
  $("send-vote").disabled = battle.choice === null;
  for (const radio of document.querySelectorAll("[name=keep]")) radio.checked = Number(radio.value) === battle.keep;
}

function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

// ---- Keys and buttons

function onKey(event) {
  if (event.isComposing || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") return running.size ? stop() : $("turn").focus({ preventScroll: true });
  if (event.target.id === "message") {
    if (event.key !== "Enter" || event.shiftKey) return;
    event.preventDefault();
    return send();
  }
  if (event.shiftKey || event.target.closest("input, select, textarea")) return;
  const pressed = event.target.closest("button, a");
  if (event.key === "Enter" && (!pressed || pressed.getAttribute("aria-pressed") === "true")) {
    event.preventDefault();
    return vote();
  }
  if (!$("keys-on").checked) return;
  const digit = /^(?:Digit|Numpad)([1-7])$/.exec(event.code);
  const actions = { KeyT: () => choose(0), KeyX: () => choose("bad"), KeyN: another, KeyR: () => retry(), KeyD: toggleTheme, KeyM: () => $("message").focus() };
  const action = digit ? () => choose(Number(digit[1]) - 4) : actions[event.code];
  if (!action) return;
  event.preventDefault();
  action();
}

function onClick(event) {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.strength) choose(Number(button.dataset.strength));
  else if (button.dataset.stop) stop(Number(button.dataset.stop));
  else if (button.dataset.retry) retry([Number(button.dataset.retry)]);
  else ({ bad: () => choose("bad"), "send-vote": vote, new: another, theme: toggleTheme })[button.id]?.();
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

async function first(request) {
  for (;;) {
    try {
      const reply = await request();
      notice("");
      return reply;
    } catch (error) {
      notice(error instanceof Refusal ? error.message : t("offline.load"));
      await pause();
    }
  }
}

async function start() {
  const theme = kept.theme();
  setTheme(theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
  sides = $("arena").dataset.sides === "1" ? [0] : [0, 1];
  await loadWords($("arena").dataset.language);
  load();
  const made = await first(() => call("battle"));
  if (battle.battle === null) begin(made.battle);
  $("who").textContent = made.name;
  $("who").hidden = !made.login;
  $("message").value = draft.get();
  $("keys-on").checked = kept.read("keys", true);
  $("keys-on").addEventListener("change", (event) => kept.write("keys", event.target.checked));
  $("message").addEventListener("input", (event) => draft.set(event.target.value));
  $("say").addEventListener("submit", (event) => (event.preventDefault(), send()));
  $("arena").addEventListener("change", (event) => event.target.name === "keep" && change({ keep: Number(event.target.value) }));
  $("arena").addEventListener("click", onClick);
  document.addEventListener("keydown", onKey);
  // No account's name begins with @: the votes of the arena never mix with the answers of the labelling page.
  outbox.open(`@arena.${made.name}`, { failed: () => notice(t("offline")), refused, changed() {}, stored() {} }, call);
  show();
  if (outbox.waiting().length) deliver();
}

// Gradio puts the page into the document some time after this script has run.
function whenThere() {
  if (!$("arena")) return;
  waiting.disconnect();
  start();
}
const waiting = new MutationObserver(whenThere);
waiting.observe(document.documentElement, { childList: true, subtree: true });
whenThere();
