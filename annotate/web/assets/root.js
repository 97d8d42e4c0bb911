// The card's element, what is in it, and what scrolls it. Several cards can be on one page, so nothing is looked up in
// the whole document.

let root = null;
let mark = ""; // at the end of every id of a further card

export const $ = (id) => (root.id === id + mark ? root : root.querySelector(`#${id}${mark}`));
export const all = (selector) => [...root.querySelectorAll(selector.replace(/#[\w-]+/g, (id) => id + mark))];
export const idOf = (id) => id + mark;

// The ids of a page are unique: those of its second card, and of further ones, get the card's number.
export function setRoot(element, number = 1) {
  root = element;
  if (number === 1) return;
  mark = `-${number}`;
  for (const name of ["id", "for", "aria-labelledby", "aria-describedby", "aria-controls"]) {
    const marked = (one) => one.setAttribute(name, one.getAttribute(name) + mark);
    [root, ...root.querySelectorAll(`[${name}]`)].filter((one) => one.hasAttribute(name)).forEach(marked);
  }
}

// A copy of the styles, with the ids of a further card.
export function markStyles(addresses) {
  if (!mark) return;
  const ids = [root, ...root.querySelectorAll("[id]")].map((one) => one.id.slice(0, -mark.length));
  const named = new RegExp(`#(${ids.join("|")})(?![\\w-])`, "g");
  const sheets = [...document.styleSheets].filter((sheet) => addresses.includes(sheet.href));
  const style = document.createElement("style");
  style.textContent = sheets
    .flatMap((sheet) => [...sheet.cssRules].map((rule) => rule.cssText.replace(named, `#$1${mark}`)))
    .join("\n");
  document.head.append(style);
}

// Whether a key press is for this card: it comes from within, or from no element in particular and this card is the one
// that was pointed at or focused last. Keys that somebody types elsewhere on the page are none of ours.
export function isForThisCard(event) {
  const there = event.target.closest(".annotate");
  if (there || !root.isConnected) return there === root;
  const nowhere = event.target === document.body || event.target === document.documentElement;
  return nowhere && (document.querySelector(".annotate.current") || document.querySelector(".annotate")) === root;
}

export function makeCurrent() {
  document.querySelectorAll(".annotate.current").forEach((other) => other.classList.remove("current"));
  root.classList.add("current");
}

// The keyboard goes to the prompt, unless somebody is at work elsewhere on the page.
export function focusPrompt() {
  const now = document.activeElement;
  if (now === document.body || now === null || root.contains(now)) $("prompt").focus({ preventScroll: true });
}

// What scrolls: the window, or a card that has a height of its own. Positions are relative to the visible part's top.
const boxed = () => root.classList.contains("boxed");
export const scroller = {
  element: () => (boxed() ? root : window),
  observed: () => (boxed() ? root : null),
  top: () => (boxed() ? root.scrollTop : window.scrollY),
  height: () => (boxed() ? root.clientHeight : window.innerHeight),
  length: () => (boxed() ? root : document.documentElement).scrollHeight,
  to: (top) => scroller.element().scrollTo(0, top),
  place: (element) => {
    const box = element.getBoundingClientRect();
    const above = boxed() ? root.getBoundingClientRect().top : 0;
    return { top: box.top - above, bottom: box.bottom - above, height: box.height };
  },
};
