// Places in the exact text of an answer, and where they are on the page.
//
// Places are UTF-16 units of the text, as in a string of JavaScript. The server counts code points: `points` and
// `units` convert. In each view the text nodes of a box hold the exact text in order; typeset math stands for its source.

const isText = (node) => node.nodeType === Node.TEXT_NODE;

// The pieces of the text in order, each a text node or typeset math, with its length.
function* pieces(parent) {
  for (const node of parent.childNodes) {
    if (isText(node)) yield [node, node.length];
    else if (node.source !== undefined) yield [node, node.source.length];
    else if (!node.classList.contains("empty")) yield* pieces(node);
  }
}

// Where a boundary of a selection is in the text; `after`: within typeset math it counts as its end.
export function placeOf(box, container, offset, after) {
  const boundary = document.createRange();
  boundary.setStart(container, offset);
  let place = 0;
  for (const [node, length] of pieces(box)) {
    if (node === container) return place + (isText(node) ? offset : after ? length : 0);
    if (node.contains(container)) return place + (after ? length : 0);
    if (boundary.comparePoint(node, 0) >= 0) break;
    place += length;
  }
  return place;
}

// The ranges of a page for [start, end) places of a box's text.
export function rangesOf(box, passages) {
  const all = [...pieces(box)];
  const starts = [];
  let total = 0;
  for (const [, length] of all) {
    starts.push(total);
    total += length;
  }
  return passages.map(([start, end]) => {
    const range = document.createRange();
    const first = indexAt(starts, start);
    const last = indexAt(starts, end - 1);
    if (isText(all[first][0])) range.setStart(all[first][0], start - starts[first]);
    else range.setStartBefore(all[first][0]);
    if (isText(all[last][0])) range.setEnd(all[last][0], end - starts[last]);
    else range.setEndAfter(all[last][0]);
    return range;
  });
}

// The last piece that starts at or before a place; empty pieces do not count.
function indexAt(starts, place) {
  let low = 0;
  let high = starts.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (starts[middle] <= place) low = middle;
    else high = middle - 1;
  }
  return low;
}

export const points = (text, place) => [...text.slice(0, place)].length;

export function units(text, point) {
  let place = 0;
  for (const character of text) {
    if (point-- <= 0) break;
    place += character.length;
  }
  return place;
}

const painted = {};

// Colours ranges without touching the page's elements (CSS Custom Highlight API, in browsers since 2023 to 2025). The
// colours are the document's: other cards on the page keep theirs.
export function paint(name, ranges) {
  if (!globalThis.CSS?.highlights) return;
  const highlight = CSS.highlights.get(name) ?? new Highlight();
  for (const range of painted[name] ?? []) highlight.delete(range);
  for (const range of ranges) highlight.add(range);
  painted[name] = ranges;
  CSS.highlights.set(name, highlight);
}
