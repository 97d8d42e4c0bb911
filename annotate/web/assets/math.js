// Math as KaTeX sets it. KaTeX is loaded from this server when the first formula is shown.

const MOST = 500; // formulas of one text; the others stay as their source
const DELIMITERS = [["$$", "$$", true], ["\\[", "\\]", true], ["\\(", "\\)", false], ["$", "$", false]];
// Nothing may be loaded, linked or given attributes (`trust`), and macros must end (`maxExpand`).
const OPTIONS = { throwOnError: true, trust: false, strict: "ignore", maxExpand: 1000, maxSize: 20 };
let library = null;

function load() {
  const styles = document.createElement("link");
  styles.rel = "stylesheet";
  styles.href = new URL("katex/katex.min.css", import.meta.url);
  document.head.append(styles);
  return import("./katex/katex.min.js").then(() => globalThis.katex);
}

// Replaces the formulas within an element. A formula that KaTeX cannot read, or without KaTeX all, stay as their source.
export async function typeset(element) {
  const formulas = [...element.querySelectorAll("code.math")].slice(0, MOST);
  if (!formulas.length) return;
  library ??= load();
  let katex = null;
  try {
    katex = await library;
  } catch {
    library = null; // no connection: tried again with the next text
    return;
  }
  for (const formula of formulas) {
    const source = formula.textContent;
    const [before, after, displayMode] = DELIMITERS.find(([start]) => source.startsWith(start));
    const shown = document.createElement("span");
    try {
      katex.render(source.slice(before.length, source.length - after.length), shown, { ...OPTIONS, displayMode });
    } catch {
      continue;
    }
    for (const part of shown.querySelectorAll(".text")) part.classList.remove("text"); // which has a meaning of ours
    shown.className = displayMode ? "typeset block" : "typeset";
    shown.source = source; // places.js counts it in place of what is shown
    shown.title = source;
    formula.replaceWith(shown);
    if (displayMode && shown.scrollWidth > shown.clientWidth) shown.tabIndex = 0; // so that it can be scrolled by keyboard
  }
}
