// The list beside the item in review: filters, search, and one link per item.

import { $ } from "./root.js";
import { ask } from "./server.js";
import { build } from "./text.js";
import { amount, t } from "./words.js";

const TYPING_MS = 250;
const DEFAULTS = { show: "open", apart: "0" };

let rows = [];
let more = false;
let current = null;
let hooks = { opened() {}, filtered() {} };
let asked = 0; // a slow reply to an older filter is dropped

export function setUp(given) {
  hooks = given;
  restore();
  let timer = null;
  $("filter").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => hooks.filtered(), TYPING_MS);
  });
  $("filter").addEventListener("submit", (event) => event.preventDefault());
  $("more").addEventListener("click", loadMore);
  $("rows-found").addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    hooks.opened(Number(link.dataset.item));
  });
}

const fields = () => [...$("filter").elements].filter((field) => field.name);

// Filters that differ from their defaults, as the query of an address.
export function query() {
  const set = fields().filter((field) => field.value && field.value !== DEFAULTS[field.name]);
  const text = new URLSearchParams(set.map((field) => [field.name, field.value])).toString();
  return text && `?${text}`;
}

// Takes the filters from the address; true where that changes one.
export function restore() {
  const before = query();
  const given = new URLSearchParams(location.search);
  for (const field of fields()) {
    if (field.type !== "hidden") field.value = given.get(field.name) ?? DEFAULTS[field.name] ?? "";
  }
  return query() !== before;
}

export async function load() {
  const number = ++asked;
  const reply = await ask(`/lead/items/list${query()}`);
  if (number !== asked) return reply;
  rows = reply.rows;
  more = reply.more;
  $("found").textContent = t(reply.total === 1 ? "review.found.one" : "review.found.many", { count: amount(reply.total) });
  show();
  return reply;
}

async function loadMore() {
  if (!more) return;
  const number = ++asked;
  const last = rows.at(-1);
  const after = `after_apart=${last.apart}&after_item=${last.item}`;
  const reply = await ask(`/lead/items/list${query() || "?"}${query() && "&"}${after}`);
  if (number !== asked) return;
  rows.push(...reply.rows);
  more = reply.more;
  show();
}

function show() {
  $("rows-found").replaceChildren(...rows.map(line));
  $("more").hidden = !more;
  mark(current);
}

function line(row) {
  const item = document.createElement("li");
  const link = document.createElement("a");
  link.href = `/lead/items/${row.item}${query()}`;
  link.dataset.item = row.item;
  const prompt = document.createElement("span");
  prompt.append(build(row.prompt));
  prompt.className = "snippet";
  prompt.dir = "auto";
  const note = document.createElement("small");
  const parts = [row.ruling ? decision(row.ruling) : row.apart ? t("review.apart", { apart: row.apart }) : ""];
  parts.push(...row.flags.map((flag) => t(`flag.${flag}`)), row.campaign || "");
  note.textContent = parts.filter(Boolean).join(" · ");
  link.append(prompt, note);
  item.append(link);
  item.classList.toggle("done", !!row.ruling);
  return item;
}

export const decision = ({ choice, strength, ranking }) =>
  choice === "compared" ? t(`lead.verdict.${strength}`)
    : choice === "ranked" ? ranking.map((rank, at) => `${String.fromCharCode(65 + at)} ${rank}`).join(", ")
      : t(`lead.verdict.${choice}`);

// Marks the item that is open, and brings its row into view.
export function mark(item) {
  current = item;
  for (const link of $("rows-found").querySelectorAll("a")) {
    if (Number(link.dataset.item) !== item) {
      link.removeAttribute("aria-current");
      continue;
    }
    link.setAttribute("aria-current", "true");
    const [box, row] = [$("rows-found").getBoundingClientRect(), link.getBoundingClientRect()];
    if (row.top < box.top || row.bottom > box.bottom) $("rows-found").scrollTop += row.top - box.top - box.height / 3;
  }
}

export const first = () => (rows.length ? rows[0].item : null);

// The item after (1) or before (-1) another one; null: there is none.
export async function beside(item, by) {
  const at = rows.findIndex((row) => row.item === item);
  if (at < 0) return first();
  if (at + by === rows.length) await loadMore();
  return rows[at + by]?.item ?? null;
}

// A decided item stays in the list until the list is asked for again, so that one can go back to it.
export function decided(item, ruling) {
  const row = rows.find((other) => other.item === item);
  if (!row) return;
  row.ruling = ruling;
  const at = rows.indexOf(row);
  $("rows-found").children[at].replaceWith(line(row));
  mark(current);
}
