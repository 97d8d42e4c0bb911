// The answer in the making. It is kept in this browser at every change, so that a reload loses nothing.

import * as kept from "./kept.js";

const MOST_KEPT = 30;
let box = "draft.";
let place = null;

const empty = () => ({
  strength: null, ranks: [], flag: null, comment: "", rubric: {}, edits: {}, remarking: false, editing: false,
  reasons: [], spans: [], differences: false,
});

export let draft = empty();

export function open(name) {
  box = `draft.${name}.`;
}

// The draft of this card: what was being written, else the earlier answer, else nothing.
export function take(card) {
  place = box + card.item;
  const before = card.previous;
  draft = { ...empty(), ...(kept.read(place) || (before ? fromAnswer(before) : {})) };
  return draft;
}

export function change(values) {
  Object.assign(draft, values);
  const old = kept.names(box);
  if (old.length > MOST_KEPT) old.slice(0, old.length - MOST_KEPT).forEach(kept.remove);
  kept.write(place, draft);
}

export function discard(item) {
  kept.remove(box + item);
}

function fromAnswer(before) {
  const edited = before.edited_response;
  return {
    strength: before.choice === "compared" ? before.strength : null,
    flag: before.flag || null,
    comment: before.comment || "",
    remarking: !!before.comment,
    rubric: before.rubric || {},
    ranks: before.ranking ? fromRanking(before.ranking) : [],
    edits: edited === undefined ? {} : { [edited]: before.edited_text },
    editing: edited !== undefined,
    reasons: before.reasons || [],
    spans: before.spans || [],
    differences: !!before.differences_shown,
  };
}

function fromRanking(ranking) {
  const values = [...new Set(ranking)].sort((a, b) => a - b);
  return values.map((rank) => ranking.flatMap((other, at) => (other === rank ? [at] : [])));
}
