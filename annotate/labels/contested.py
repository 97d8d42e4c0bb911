"""The judged items as a reviewer sees them: how far their annotators are apart, which are contested, and filters."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from annotate.labels.votes import Votes, collect
from annotate.store.database import Store
from annotate.store.statements import Adjudication, CurrentJudgement, StoredItem, StoredResponse

NO_CAMPAIGN = "-"
"""In a filter: items outside campaigns."""


@dataclass(frozen=True)
class Considered:
    """A judged item."""

    item: StoredItem
    responses: Sequence[StoredResponse]
    judgements: Sequence[CurrentJudgement]
    apart: int
    """Largest difference in strength on one comparison for which both sides were preferred (2 … 6), or 0."""
    flags: tuple[str, ...]
    ruling: Adjudication | None
    """The reviewer's ruling."""

    @property
    def contested(self) -> bool:
        """Whether its annotators prefer different sides, or somebody flagged it."""
        return self.apart > 0 or bool(self.flags)

    @property
    def prompt(self) -> str:
        """The last message of the prompt."""
        return str(json.loads(self.item.prompt)[-1]["content"])


@dataclass(frozen=True)
class Filter:
    """Which of the judged items a reviewer wants to see; empty values filter nothing."""

    show: Literal["open", "decided", "all"] = "open"
    """Contested items without a ruling, items with one, or every judged item."""
    person: str = ""
    """Only items that this annotator judged."""
    flag: str = ""
    """Only items with this flag."""
    campaign: str = ""
    """Only items of this campaign; `NO_CAMPAIGN`: only items outside campaigns."""
    apart: int = 0
    """Only items whose annotators are at least this far apart."""
    search: str = ""
    """Only items with this text in the prompt, an answer or the id, in any case."""

    def __call__(self, every: Iterable[Considered]) -> list[Considered]:
        """Those of the items that pass."""
        return [each for each in every if self._shows(each) and self._holds(each)]

    def _shows(self, each: Considered) -> bool:
        if self.show == "all":
            return True
        return each.ruling is not None if self.show == "decided" else each.ruling is None and each.contested

    def _holds(self, each: Considered) -> bool:
        campaign = NO_CAMPAIGN if each.item.campaign is None else each.item.campaign
        return (
            each.apart >= self.apart
            and (not self.flag or self.flag in each.flags)
            and self.campaign in ("", campaign)
            and (not self.person or any(judgement.annotator == self.person for judgement in each.judgements))
            and self._matches(each)
        )

    def _matches(self, each: Considered) -> bool:
        wanted = self.search.strip().casefold()
        if not wanted:
            return True
        texts = [each.item.item_id, *(response.text for response in each.responses)]
        texts += [message["content"] for message in json.loads(each.item.prompt)]
        return any(wanted in text.casefold() for text in texts)


def read_considered(store: Store, *, simulated: bool) -> list[Considered]:
    """The ordinary items, in and outside campaigns, that people judged (or simulated annotators)."""
    with store.read() as transaction:
        return considered(
            transaction.items(kind="ordinary"),
            transaction.all_responses(),
            [judgement for judgement in transaction.current_judgements() if judgement.simulated == simulated],
            {pk: ruling for pk, ruling in transaction.adjudications().items() if ruling.choice != "withdrawn"},
        )


def considered(
    items: Sequence[StoredItem],
    responses: Mapping[int, Sequence[StoredResponse]],
    judgements: Sequence[CurrentJudgement],
    rulings: Mapping[int, Adjudication],
) -> list[Considered]:
    """Those of the items that somebody judged or skipped, largest difference first."""
    apart = _apart(collect(items, responses, judgements))
    by_item: dict[int, list[CurrentJudgement]] = {}
    for judgement in judgements:
        by_item.setdefault(judgement.item, []).append(judgement)
    found = []
    for item in items:
        if own := by_item.get(item.id):
            flags = tuple(sorted({judgement.flag for judgement in own if judgement.flag}))
            found.append(Considered(item, responses[item.id], own, apart.get(item.id, 0), flags, rulings.get(item.id)))
    return sorted(found, key=lambda each: (-each.apart, each.item.id))


def _apart(votes: Votes) -> dict[int, int]:
    """By item: the largest difference in strength on a comparison for which both sides were preferred."""
    ends: dict[int, tuple[int, int]] = {}
    for index, strength in zip(votes.comparison.tolist(), votes.strength.tolist(), strict=True):
        low, high = ends.get(index, (0, 0))
        ends[index] = (min(low, strength), max(high, strength))
    found: dict[int, int] = {}
    for index, (low, high) in ends.items():
        if low < 0 < high:
            item = votes.comparisons[index].item.id
            found[item] = max(found.get(item, 0), high - low)
    return found
