"""Changed copies of training texts whose label or answer stays right. Knows no file and no model.

Only training records are augmented, after the split: held-out texts stay as they are, and none has a changed copy in
training. A change depends on the seed, the text and the number of the copy alone.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from workbench.data.hashing import unit_hash
from workbench.data.perturb import lower_case, paraphrase, pick, typos, upper_case
from workbench.data.records import Demonstration, LabelledText
from workbench.run.sections import AugmentSection

_MARKS = re.compile(r"[.,;:!?]+(?=\s|$)")


def casing(text: str, seed: int) -> str:
    """The text in lower case or, for one in four, in capitals."""
    return upper_case(text) if unit_hash("casing", seed, text) < 0.25 else lower_case(text)


def punctuation(text: str, seed: int) -> str:
    """The text without punctuation marks at the ends of words, with the last one tripled, or with one added."""
    kind = pick(("none", "more", "added"), "punctuation", seed, text)
    last = text.rstrip()[-1:]
    if kind == "none":
        return _MARKS.sub("", text)
    return text.rstrip() + (last * 2 if kind == "more" and last in ".!?" else pick((".", "!", "…"), "mark", seed, text))


TRANSFORMS: Mapping[str, Callable[[str, int], str]] = {
    "typos": lambda text, seed: typos(text, seed=seed),
    "casing": casing,
    "punctuation": punctuation,
    "paraphrase": lambda text, seed: paraphrase(text, seed=seed),
}


def changed(text: str, section: AugmentSection, *, seed: int, copy: int) -> str:
    """One copy of a text: one of the transforms, drawn by a hash, is applied to it."""
    name = pick(section.transforms, "transform", seed, copy, text)
    return swapped_words(text, section.words) if name == "words" else TRANSFORMS[name](text, seed + 1000 * copy)


def swapped_words(text: str, pairs: Sequence[str]) -> str:
    """The text with each word or phrase of a pair `A=B` replaced by the other; capitals stay."""
    sides = [tuple(side.strip() for side in pair.split("=", 1)) for pair in pairs]
    other = {a.lower(): b for one, two in sides for a, b in ((one, two), (two, one))}

    def swap(match: re.Match[str]) -> str:
        word = match.group()
        new = other[word.lower()]
        if word.isupper() and len(word) > 1:
            return new.upper()
        return new[:1].upper() + new[1:] if word[:1].isupper() else new

    longest_first = sorted(other, key=len, reverse=True)
    return re.sub(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)", swap, text, flags=re.IGNORECASE)


def augmented_texts(records: Sequence[LabelledText], section: AugmentSection, *, seed: int) -> list[LabelledText]:
    """Labelled texts, and after them their changed copies with the same labels.

    A copy that equals its text, or has no letter left, is left out.
    """
    copies: list[LabelledText] = []
    for copy in range(section.copies if section.transforms else 0):
        for record in records:
            text = changed(record.text, section, seed=seed, copy=copy)
            if text != record.text and text.strip():
                copies.append(record.model_copy(update={"id": f"{record.id}~{copy}", "text": text}))
    return [*records, *copies]


def augmented_demonstrations(
    records: Sequence[Demonstration], section: AugmentSection, *, seed: int
) -> Iterator[Demonstration]:
    """Demonstrations, and after them copies whose last user message is changed; the response stays as it is."""
    yield from records
    for copy in range(section.copies if section.transforms else 0):
        for record in records:
            *before, last = record.prompt
            text = changed(last.content, section, seed=seed, copy=copy)
            if text != last.content and text.strip():
                prompt = (*before, last.model_copy(update={"content": text}))
                yield record.model_copy(update={"id": f"{record.id}~{copy}", "prompt": prompt})
