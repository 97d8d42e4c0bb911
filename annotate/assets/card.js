// The card's behaviour: fetch a pair, send an answer, undo, keys. Every answer goes through an outbox in localStorage,
// in order, each with a key of its own: sent twice it counts once, and it survives a reload and a server that is away.
(() => {
  "use strict";

  const RENEW_EVERY_MS = 240000;
  const RETRY_MS = [500, 1000, 2000, 4000, 8000, 15000];
  const $ = (id) => document.getElementById(id);
  const state = { me: null, card: null, key: "", busy: true, raw: false, since: 0, visibleMs: 0, failures: 0 };

  class Refusal extends Error {}

  async function call(path, body) {
    const reply = await fetch("/api/v1/" + path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      credentials: "same-origin",
      body: JSON.stringify(body || {}),
    });
    if (reply.status === 401) {
      location.assign("/login");
      return new Promise(() => {});
    }
    if (reply.status >= 500 || reply.status === 429) throw new Error("server answered " + reply.status);
    const data = await reply.json();
    if (!reply.ok) throw new Refusal(typeof data.detail === "string" ? data.detail : "not accepted");
    return data;
  }

  // Outbox

  const outboxName = () => "annotate.outbox." + state.me.name;
  const outbox = () => JSON.parse(localStorage.getItem(outboxName()) || "[]");
  const keep = (entries) => localStorage.setItem(outboxName(), JSON.stringify(entries));
  const drop = (key) => keep(outbox().filter((entry) => entry.body.client_key !== key));

  function newKey() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  async function flush() {
    let reply = null;
    for (let entries = outbox(); entries.length; entries = outbox()) {
      const { path, body } = entries[0];
      try {
        reply = await call(path, body);
        drop(body.client_key);
        state.failures = 0;
        notice("");
      } catch (error) {
        if (error instanceof Refusal) {
          drop(body.client_key);
          notice("Your answer was not accepted: " + error.message, true);
          continue;
        }
        const wait = RETRY_MS[Math.min(state.failures++, RETRY_MS.length - 1)];
        const count = entries.length === 1 ? "1 answer is" : entries.length + " answers are";
        notice(`No connection. ${count} kept in this browser and will be sent.`, true);
        await new Promise((resolve) => setTimeout(resolve, wait));
      }
    }
    return reply;
  }

  async function send(path, body) {
    keep([...outbox(), { path, body }]);
    setBusy(true);
    const reply = await flush();
    await show(reply);
    return reply;
  }

  async function load() {
    for (;;) {
      try {
        return await call("next");
      } catch (error) {
        const wait = RETRY_MS[Math.min(state.failures++, RETRY_MS.length - 1)];
        notice("No connection. Trying again.", true);
        await new Promise((resolve) => setTimeout(resolve, wait));
      }
    }
  }

  // Answers

  async function answer(choice, strength, button) {
    if (state.busy || !state.card) return;
    setBusy(true);
    button.classList.add("chosen");
    const seconds = Math.round((state.visibleMs + performance.now() - state.since) / 100) / 10;
    const body = { item: state.card.item, choice, client_key: state.key, seconds };
    if (choice === "compared") body.strength = strength;
    await send("submit", body);
    say({ compared: "Saved: " + button.getAttribute("aria-label"), both_bad: "Saved: both bad", skipped: "Skipped" }[choice]);
  }

  async function undo() {
    if (state.busy) return;
    setBusy(true);
    const reply = await send("undo", { client_key: newKey() });
    say(reply && reply.undone === false ? "There is nothing to undo" : "Taken back: answer again");
  }

  // Showing

  async function show(reply) {
    if (!reply) reply = await load();
    state.failures = 0;
    state.card = reply.card;
    state.key = newKey();
    state.since = performance.now();
    state.visibleMs = 0;
    $("pair").hidden = $("choices").hidden = !reply.card;
    $("nothing").hidden = !!reply.card;
    if (reply.card) draw(reply.card);
    else $("reason").textContent = reply.nothing;
    const { mine, open_for_me: open } = reply.progress;
    const share = mine + open ? (100 * mine) / (mine + open) : 0;
    $("count").textContent = `${mine.toLocaleString("en")} labelled · ${open.toLocaleString("en")} open`;
    $("meter").firstElementChild.style.width = share + "%";
    $("meter").setAttribute("aria-valuenow", Math.round(share));
    setBusy(false);
  }

  function draw(card) {
    const turns = card.prompt.map((turn, index) => {
      const section = document.createElement("div");
      section.className = "turn " + turn.role;
      const name = document.createElement("h2");
      name.textContent = index === card.prompt.length - 1 ? "Prompt" : { user: "User", assistant: "Assistant", system: "System" }[turn.role];
      const text = document.createElement("div");
      text.className = "text";
      fill(text, turn);
      section.append(name, text);
      return section;
    });
    $("prompt").replaceChildren(...turns);
    fill($("left"), card.left);
    fill($("right"), card.right);
    for (const button of document.querySelectorAll("#choices button")) {
      const strength = button.dataset.strength;
      const before = card.previous;
      const same = before && (strength === undefined ? before.choice === button.dataset.do : before.choice === "compared" && before.strength === Number(strength));
      button.classList.toggle("before", !!same);
      button.classList.remove("chosen");
    }
    window.scrollTo(0, 0);
    $("prompt").focus({ preventScroll: true });
  }

  // `text.html` and `text.source` come sanitised from the server (annotate/render.py).
  function fill(element, text) {
    element.dir = "auto";
    element.classList.toggle("source", state.raw);
    element.innerHTML = state.raw ? text.source : text.html;
    if (!element.textContent) element.innerHTML = '<em class="empty">(empty)</em>';
  }

  function setBusy(busy) {
    state.busy = busy;
    $("annotate").setAttribute("aria-busy", busy);
  }

  function notice(text, warning) {
    $("notice").textContent = text;
    $("notice").hidden = !text;
    $("notice").classList.toggle("warning", !!warning);
  }

  const say = (text) => ($("saved").textContent = text);

  // View: exact text, theme, help

  function toggleRaw() {
    state.raw = !state.raw;
    $("raw").setAttribute("aria-pressed", state.raw);
    if (state.card) {
      const texts = [...$("prompt").querySelectorAll(".text"), $("left"), $("right")];
      const sources = [...state.card.prompt, state.card.left, state.card.right];
      texts.forEach((element, index) => fill(element, sources[index]));
    }
  }

  function setTheme(dark) {
    document.body.classList.toggle("dark", dark);
    $("theme").setAttribute("aria-pressed", dark);
  }

  function toggleTheme() {
    const dark = !document.body.classList.contains("dark");
    localStorage.setItem("annotate.theme", dark ? "dark" : "light");
    setTheme(dark);
  }

  const keysOn = () => localStorage.getItem("annotate.keys") !== "off";

  const press = (selector) => document.querySelector("#choices " + selector).click();
  const KEYS = {
    KeyT: () => press('[data-strength="0"]'),
    KeyX: () => press('[data-do="both_bad"]'),
    KeyS: () => press('[data-do="skipped"]'),
    KeyU: undo,
    KeyR: toggleRaw,
    KeyD: toggleTheme,
  };

  function onKey(event) {
    if (event.repeat || event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, textarea, select, [contenteditable]") || $("help").open) return;
    if (event.key === "?") return event.preventDefault(), $("help").showModal();
    if (!keysOn() || event.shiftKey) return;
    const digit = /^(?:Digit|Numpad)([1-7])$/.exec(event.code);
    if (digit) press(`[data-strength="${digit[1] - 4}"]`);
    else if (KEYS[event.code]) KEYS[event.code]();
    else return;
    event.preventDefault();
  }

  // Start

  function wire() {
    for (const button of document.querySelectorAll("#choices .grade")) {
      button.addEventListener("click", () => answer("compared", Number(button.dataset.strength), button));
    }
    for (const button of document.querySelectorAll("#annotate [data-do]")) {
      const name = button.dataset.do;
      button.addEventListener("click", () => (name === "undo" ? undo() : answer(name, null, button)));
    }
    $("again").addEventListener("click", () => state.busy || (setBusy(true), show(null)));
    $("raw").addEventListener("click", toggleRaw);
    $("theme").addEventListener("click", toggleTheme);
    $("help-open").addEventListener("click", () => $("help").showModal());
    $("keys-on").checked = keysOn();
    $("keys-on").addEventListener("change", (event) =>
      localStorage.setItem("annotate.keys", event.target.checked ? "on" : "off"));
    document.addEventListener("keydown", onKey);
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) state.visibleMs += performance.now() - state.since;
      else state.since = performance.now();
    });
    setInterval(() => {
      if (!document.hidden && state.card && !state.busy) call("next").catch(() => {});
    }, RENEW_EVERY_MS);
  }

  async function start() {
    const theme = localStorage.getItem("annotate.theme");
    setTheme(theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
    wire();
    while (!state.me) {
      try {
        state.me = await call("me");
      } catch (error) {
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS[2]));
      }
    }
    $("who").textContent = state.me.name;
    $("who").hidden = $("leave").hidden = !state.me.login;
    await show(await flush());
  }

  // Gradio puts the card into the document some time after this script has run.
  const waiting = new MutationObserver(() => {
    if (!$("annotate")) return;
    waiting.disconnect();
    start();
  });
  waiting.observe(document.documentElement, { childList: true, subtree: true });
})();
