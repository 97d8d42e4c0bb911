"""What a browser is told: cards and progress as plain values. Nothing of where an answer comes from is among them."""

from typing import Any

from annotate.queue import Card, Nothing, Progress
from annotate.render import as_markdown, as_source


def shown_text(text: str) -> dict[str, Any]:
    """A text as the two trees of `annotate.render`."""
    return {"formatted": as_markdown(text), "exact": as_source(text)}


def shown_card(card: Card | Nothing) -> dict[str, Any]:
    """`card`, or None and the reason why there is `nothing`."""
    if isinstance(card, Nothing):
        return {"card": None, "nothing": card.reason}
    turns = [{"role": turn["role"], **shown_text(turn["content"])} for turn in card.prompt]
    answers = [shown_text(answer.text) for answer in card.answers]
    shown = {"item": card.item, "prompt": turns, "answers": answers, "previous": card.previous}
    return {"card": shown, "nothing": None}


def shown_progress(progress: Progress) -> dict[str, Any]:
    """The annotator's own progress and pace."""
    return {
        "mine": progress.mine,
        "open_for_me": progress.open_for_me,
        "seconds_each": progress.seconds_each,
    }
