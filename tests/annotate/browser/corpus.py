"""The rendering corpus, and what a browser shows of a text."""

import json
from pathlib import Path

from tests.annotate.conftest import make_item
from workbench.data.records import Item

CORPUS = [
    entry["text"]
    for entry in json.loads((Path(__file__).parents[1] / "web/rendering_corpus.json").read_text(encoding="utf-8"))
]

# The characters that can be seen: text nodes that are laid out, in a colour and size that show; what has no shape of
# its own must be named beside it. Anything else is put into `hidden`.
SEEN = """selector => [...document.querySelectorAll(selector ?? '#answers .text')].map(box => {
  const walker = document.createTreeWalker(box, NodeFilter.SHOW_TEXT);
  const hidden = [];
  let text = '';
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (node.parentElement.className === 'empty') continue;
    text += node.data;
    const style = getComputedStyle(node.parentElement);
    const named = node.parentElement.className === 'unseen' &&
      getComputedStyle(node.parentElement, '::before').content.length > 2;
    const range = document.createRange();
    range.selectNodeContents(node);
    const laidOut = [...range.getClientRects()].some(r => r.width > 0 && r.height > 0);
    const shows = style.visibility === 'visible' && style.opacity === '1' && parseFloat(style.fontSize) >= 8 &&
      !/^rgba.*, 0\\)$/.test(style.color);
    if (!named && node.data.trim() && !(laidOut && shows)) hidden.push(node.data);
  }
  const wide = box.scrollWidth > box.clientWidth + 1;
  return { text, hidden, wide };
})"""


def pairs(*, asked: bool = False) -> list[Item]:
    """The corpus, two texts an item, to be shown in this order; `asked`: the first one is the prompt, too."""
    items = []
    for n in range(0, len(CORPUS) - 1, 2):
        more = {"prompt": [{"role": "user", "content": CORPUS[n]}]} if asked else {}
        items.append(make_item(f"c{n}", *CORPUS[n : n + 2], priority=-float(n), **more))
    return items


def as_stored(text: str) -> str:
    """Loading an answer takes one space from its beginning."""
    return text.removeprefix(" ")
