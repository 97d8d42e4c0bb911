"""Whether choosing pairs finds other labels than drawing them at random: the strategy against its control.

A share of each round's labels is of random pairs (`RANDOM_SHARE` in plan.py). Without another fit it is known how often
the reward model of the round before was wrong about either kind. That cannot prove that choosing helps the policy:
near-ties, whose labels are noise, are wrong half of the time. But chosen pairs that are wrong no more often than random
ones give no reason to choose.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workbench.data.readers import read_items, read_preferences
from workbench.data.records import Item, Preference
from workbench.evaluate.statistics import Estimate, share_interval
from workbench.loop.plan import Round
from workbench.run.partial import lines_of


@dataclass(frozen=True)
class Control:
    """How often the reward model of the round before was wrong about the labels of a round, over all rounds."""

    chosen: Estimate
    """Share of the pairs that the strategy chose; left out are ties, and pairs whose texts are masked otherwise now."""
    random: Estimate
    """Share of the pairs that were drawn at random."""
    low: float
    """Lower end of the 95 % interval of the difference."""
    high: float
    """Upper end."""

    @property
    def difference(self) -> float:
        """Chosen minus random."""
        return self.chosen.mean - self.random.mean


def control(rounds: Sequence[Round]) -> Control | None:
    """The comparison over finished rounds; None if there are no labels of either kind.

    Raises:
        WorkbenchError: a file of a round is missing or broken.
    """
    if not rounds:
        return None
    labels = {record.id: record for record in read_preferences(rounds[-1].labels)}
    wrong: dict[bool, list[tuple[float, str]]] = {True: [], False: []}
    for this in rounds:
        items = {item.id: item for item in read_items(this.items, this.item_rules)}
        for row in map(json.loads, lines_of(this.priorities.read_text(encoding="utf-8"))):
            label = labels.get(row["id"])
            if label is None or label.strength <= 0 or "gap" not in row:
                continue
            preferred = _preferred(label, items[row["id"]])
            if preferred is not None:
                wrong[row["strategy"] == "random"].append((_wrong(row["gap"], preferred), label.group))
    if not (wrong[True] and wrong[False]):
        return None
    return compared(*(share_interval(*zip(*wrong[at_random], strict=True)) for at_random in (False, True)))


def _preferred(label: Preference, item: Item) -> float | None:
    """1 if a label prefers the item's first answer, −1 if the second; None if it is of other texts, so nobody can tell.

    A label names its answers by their texts alone: as the label store keeps them, without one leading space.
    """
    first, second = (response.text.removeprefix(" ") for response in item.responses)
    return {first: 1.0, second: -1.0}.get(label.chosen_text)


def _wrong(gap: float, preferred: float) -> float:
    """1 if the scores' gap (first answer minus second) has the other sign than the label, ½ if it is 0."""
    return 0.5 - 0.5 * float(np.sign(gap)) * preferred


def compared(chosen: Estimate, random: Estimate) -> Control:
    """The difference of two shares with its interval.

        d ± √(distance of either share to the end of its own interval, squared and summed)

    Source: Newcombe 1998, Statistics in Medicine 17(8), method 10.
    """
    apart = chosen.mean - random.mean
    low = apart - np.hypot(chosen.mean - chosen.low, random.high - random.mean)
    high = apart + np.hypot(chosen.high - chosen.mean, random.mean - random.low)
    return Control(chosen, random, float(low), float(high))


def control_sentence(found: Control, strategy: str) -> str:
    """What the control shows, in one or two sentences."""
    shares = (
        f"the reward model of the previous round was wrong about {found.chosen.mean:.0%} of the labels that {strategy} "
        f"chose and {found.random.mean:.0%} of the random ones (difference {_points(found.difference)} points, "
        f"{_points(found.low)} to {_points(found.high)})"
    )
    if found.low > 0:
        return f"Choosing finds pairs that the model gets wrong: {shares}. Some of them may be near-ties."
    return f"Random is as good here, as far as this shows: {shares}."


def _points(share: float) -> str:
    return f"{100 * share:+.0f}".replace("-", "−")
