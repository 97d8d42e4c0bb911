// The words that only one of two texts has: a word diff, and for texts that share little, words the other never uses.

import { textBoxes } from "./card.js";
import { paint, rangesOf } from "./places.js";
import { $ } from "./root.js";

const MOST_EDITS = 2000; // bounds time and memory; above it the texts share little
let on = false;

export const isOn = () => on;

// Marks the differences of a card's two answers, or removes the marks. False: this browser cannot mark them.
export function show(card, value) {
  on = value && !!globalThis.CSS?.highlights;
  $("differences").setAttribute("aria-pressed", on);
  const texts = card.answers.map((answer) => answer.text);
  const found = on ? onlyIn(...texts) : [[], []];
  paint("only", textBoxes().flatMap((box, at) => rangesOf(box, found[at] ?? [])));
  return on === value;
}

// For each text the [start, end) places of its own words, neighbours joined.
export function onlyIn(first, second) {
  const [a, b] = [wordsOf(first), wordsOf(second)];
  const [inA, inB] = shared(a.map(([word]) => word), b.map(([word]) => word)) ?? everywhere(a, b);
  return [places(first, a, inA), places(second, b, inB)];
}

// Scripts without spaces count by character.
const WORDS = /[\p{sc=Han}\p{sc=Hira}\p{sc=Kana}\p{sc=Thai}]|(?:(?![\p{sc=Han}\p{sc=Hira}\p{sc=Kana}\p{sc=Thai}])[\p{L}\p{M}\p{N}_])+|\S/gu;

function wordsOf(text) {
  return [...text.matchAll(WORDS)].map((found) => [found[0], found.index]);
}

function places(text, words, common) {
  const found = [];
  words.forEach(([word, start], at) => {
    if (common[at]) return;
    const last = found.at(-1);
    if (last && at > 0 && !common[at - 1] && !text.slice(last[1], start).trim()) last[1] = start + word.length;
    else found.push([start, start + word.length]);
  });
  return found;
}

function everywhere(a, b) {
  return [[a, b], [b, a]].map(([own, other]) => {
    const known = new Set(other.map(([word]) => word));
    return own.map(([word]) => known.has(word));
  });
}

// Which words of a and of b belong to a longest common subsequence (Myers 1986, the greedy algorithm); null: the texts
// share less than half of their words, or differ in too many.
function shared(a, b) {
  const inA = new Uint8Array(a.length);
  const inB = new Uint8Array(b.length);
  const most = Math.min(MOST_EDITS, Math.floor((a.length + b.length) / 2));
  const reached = new Int32Array(2 * most + 3); // by diagonal x - y: the furthest x
  const trace = [];
  const middle = most + 1;
  for (let edits = 0; edits <= most; edits++) {
    trace.push(reached.slice(middle - edits - 1, middle + edits + 2));
    for (let k = -edits; k <= edits; k += 2) {
      const down = k === -edits || (k !== edits && reached[middle + k - 1] < reached[middle + k + 1]);
      let x = down ? reached[middle + k + 1] : reached[middle + k - 1] + 1;
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x++;
      reached[middle + k] = x;
      if (x >= a.length && x - k >= b.length) return walkBack(a, b, trace, inA, inB);
    }
  }
  return null;
}

function walkBack(a, b, trace, inA, inB) {
  let x = a.length;
  let y = b.length;
  for (let edits = trace.length - 1; edits >= 0; edits--) {
    const before = trace[edits]; // diagonals -edits - 1 … edits + 1
    const at = (k) => before[k + edits + 1];
    const k = x - y;
    const down = k === -edits || (k !== edits && at(k - 1) < at(k + 1));
    const previous = down ? k + 1 : k - 1;
    const fromX = edits === 0 ? 0 : at(previous);
    const fromY = edits === 0 ? 0 : fromX - previous;
    while (x > fromX && y > fromY) inA[--x] = inB[--y] = 1;
    x = fromX;
    y = fromY;
  }
  return [inA, inB];
}
