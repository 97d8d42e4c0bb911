// Finding one's way in a long card: jumps, panes that scroll by themselves, the prompt's line, and which ends were seen.

import * as kept from "./kept.js";
import { $, all, scroller } from "./root.js";
import { build } from "./text.js";

const answers = () => all("#answers .answer");
const bar = () => all(".bar")[0];

const LINE = 34; // height of the prompt's line, as in page.css
let locked = false;
let unseen = new Set();
let watcher = null;
let report = () => {};
const following = new Set(); // panes that the lock has just moved: their own scroll event moves nothing

export function setUp(endsSeen) {
  report = endsSeen;
  const sizes = new ResizeObserver(measure);
  sizes.observe(bar());
  sizes.observe($("choices"));
  scroller.element().addEventListener("scroll", showLine, { passive: true });
  $("answers").addEventListener("scroll", follow, { capture: true, passive: true });
  $("asked").addEventListener("click", () => scroller.to(0));
  setPanes(kept.read("panes", false));
  setLock(kept.read("lock", false));
}

function measure() {
  const sticky = getComputedStyle(bar()).position === "sticky";
  $("annotate").style.setProperty("--bar", `${sticky ? bar().offsetHeight : 0}px`);
  $("annotate").style.setProperty("--choices", `${$("choices").offsetHeight}px`);
}

// With `mustSee`, the answers' ends are watched until each has been in view.
export function begin(card, mustSee) {
  $("asked").replaceChildren(build(card.prompt.at(-1).formatted));
  showLine();
  answers().forEach((answer) => (answer.tabIndex = inPanes() ? 0 : -1));
  if (watcher) watcher.disconnect();
  unseen = new Set(mustSee && !card.previous ? all("#answers .ending") : []);
  if (!unseen.size) return;
  measure();
  const margin = `-${bar().offsetHeight}px 0px -${$("choices").offsetHeight}px 0px`;
  watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) unseen.delete(entry.target);
    if (!unseen.size) report();
  }, { root: scroller.observed(), rootMargin: margin });
  unseen.forEach((ending) => watcher.observe(ending));
}

export const allSeen = () => unseen.size === 0;

// The prompt's first line stays under the bar once the prompt itself has been scrolled away.
function showLine() {
  const [asked] = all("#prompt .turn:last-child");
  if (asked) $("asked").hidden = scroller.place(asked).bottom > bar().offsetHeight + LINE;
}

// To the next (1) or previous (-1) of: prompt, start of the answers, end of each answer, end of the page.
export function jump(direction) {
  if (inPanes()) {
    answers().forEach((pane) => (pane.scrollTop = direction > 0 ? pane.scrollHeight : 0));
    return;
  }
  const covered = bar().offsetHeight + LINE;
  const shown = scroller.height() - $("choices").offsetHeight;
  const last = scroller.length() - scroller.height();
  const tops = [scroller.place($("answers")).top - covered];
  const ends = answers().map((answer) => scroller.place(answer).bottom - shown + 8);
  const stops = [0, last, ...[...tops, ...ends].map((at) => Math.round(at + scroller.top()))]
    .map((at) => Math.min(Math.max(at, 0), last))
    .sort((a, b) => a - b);
  const here = scroller.top();
  const next = direction > 0 ? stops.find((at) => at > here + 4) : stops.findLast((at) => at < here - 4);
  if (next !== undefined) scroller.to(next);
}

// A page on (1) or back (-1): what the bars leave free, less a line. The browser's own page would skip what they cover.
export function page(direction) {
  const [heading] = all("#answers .answer h2");
  const covered = bar().offsetHeight + LINE + heading.offsetHeight;
  const free = scroller.height() - $("choices").offsetHeight - covered;
  scroller.to(scroller.top() + direction * Math.max(free - LINE, LINE));
}

const inPanes = () => $("annotate").classList.contains("panes");

export function togglePanes() {
  kept.write("panes", !inPanes());
  setPanes(!inPanes());
  return inPanes();
}

function setPanes(on) {
  $("annotate").classList.toggle("panes", on);
  for (const pane of [$("prompt"), ...answers()]) pane.tabIndex = on ? 0 : -1; // a pane is scrolled by keyboard
}

export function toggleLock() {
  kept.write("lock", !locked);
  setLock(!locked);
  return locked;
}

function setLock(on) {
  locked = on;
}

// Locked panes scroll together, each by the same share of its own length.
function follow(event) {
  const moved = event.target;
  if (following.delete(moved) || !locked) return;
  const share = moved.scrollTop / Math.max(moved.scrollHeight - moved.clientHeight, 1);
  for (const pane of answers()) {
    const to = Math.round(share * (pane.scrollHeight - pane.clientHeight));
    if (pane === moved || Math.abs(to - pane.scrollTop) < 1) continue;
    following.add(pane);
    pane.scrollTop = to;
  }
}
