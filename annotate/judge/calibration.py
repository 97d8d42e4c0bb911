"""How far a judge agrees with people on the items that both judged, and where its biases differ from theirs."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np

from annotate.config import ExportSection
from annotate.store.database import Store
from annotate.store.statements import CurrentJudgement, StoredItem, StoredResponse
from workbench.evaluate.statistics import Estimate, bootstrap_interval, share_interval

ROLE = "judge"
"""The role of accounts that are judges: they may do nothing here."""
_ORDERS = re.compile(r"both orders: (-?\d), (-?\d)")


def orders_text(as_given: int, swapped: int) -> str:
    """The comment that keeps both verdicts of a judge."""
    return f"both orders: {as_given}, {swapped}"


@dataclass(frozen=True)
class Calibration:
    """What is known about a judge."""

    judged: int
    """Items that the judge has judged."""
    double: int
    """Those among them that people decided, too."""
    agreement: Estimate | None
    """Share on which judge and people prefer the same answer; a tie of the judge counts ½. None: no such item."""
    position: Estimate | None
    """Share of the judged items whose verdict depends on the order of the answers."""
    longer: Estimate | None
    """Share for the longer answer, the judge's minus the people's, on the same items."""
    own: Estimate | None
    """Share for the answer of the judge's own model, the judge's minus the people's; None: no such answers."""

    def refusal(self, section: ExportSection) -> str | None:
        """Why the judge does not count in exports; None if it does."""
        if self.agreement is None or self.double < section.judge_items:
            return f"{self.double} of {section.judge_items} items that people decided, too"
        if self.agreement.low <= section.judge_agreement:
            least = f"above {section.judge_agreement:.0%}"
            return f"agreement with people {shown(self.agreement)}; its lower end must be {least}"
        return None

    def lines(self) -> list[str]:
        """For the terminal."""
        return [
            f"judged {self.judged:,} items, {self.double:,} of them decided by people, too",
            f"agreement with people: {shown(self.agreement)}",
            f"verdict depends on the order: {shown(self.position)}",
            f"longer answer, against people: {shown(self.longer, sign=True)}",
            f"own model's answer, against people: {shown(self.own, sign=True)}",
        ]


def shown(estimate: Estimate | None, *, sign: bool = False) -> str:
    """A share with its 95 % interval."""
    if estimate is None:
        return "unknown"
    form = "+.1%" if sign else ".1%"
    return f"{estimate.mean:{form}} (95% CI {estimate.low:{form}} to {estimate.high:{form}}, {estimate.count} items)"


def calibrations(store: Store) -> dict[str, Calibration]:
    """By account: every judge of the store. The own model of a judge is the one that its account was made for."""
    with store.read() as transaction:
        names = [account.name for account in transaction.annotators() if account.role == ROLE]
        if not names:
            return {}
        models = {name: transaction.setting(f"judge {name}") or "" for name in names}
        items = {item.id: item for item in transaction.items(kind="ordinary")}
        responses, judgements = transaction.all_responses(), list(transaction.current_judgements())
    return {name: calibrated(name, models[name], items, responses, judgements) for name in names}


def calibrated(
    name: str,
    model: str,
    items: Mapping[int, StoredItem],
    responses: Mapping[int, Sequence[StoredResponse]],
    judgements: Iterable[CurrentJudgement],
) -> Calibration:
    """The calibration of one judge.

    Args:
        name: of its account.
        model: answers whose run is this model are its own.
        items: ordinary items by key.
        responses: by key of the item.
        judgements: current ones, of everybody.
    """
    own: dict[int, CurrentJudgement] = {}
    people: dict[int, list[int]] = {}
    for judgement in judgements:
        if judgement.item not in items or judgement.choice not in ("compared", "both_bad"):
            continue
        if judgement.annotator == name:
            own[judgement.item] = judgement
        elif not judgement.simulated:
            people.setdefault(judgement.item, []).append(int(np.sign(judgement.strength or 0)))
    decided = {item: int(np.sign(sum(signs))) for item, signs in people.items() if sum(signs)}
    double = sorted(own.keys() & decided.keys())
    verdicts = {item: int(np.sign(judgement.strength or 0)) for item, judgement in own.items()}
    groups = [items[item].group_id for item in double]
    orders = [_ORDERS.search(judgement.comment or "") for judgement in own.values()]
    turned = [float(match.group(1) != match.group(2)) for match in orders if match]
    sides = {item: _side_of_longer(responses[item]) for item in double}
    mine = {item: _side_of_own(responses[item], model) for item in double}
    return Calibration(
        judged=len(own),
        double=len(double),
        agreement=share_interval([(1 + verdicts[i] * decided[i]) / 2 for i in double], groups) if double else None,
        position=share_interval(turned) if turned else None,
        longer=_excess(double, sides, verdicts, decided, items),
        own=_excess(double, mine, verdicts, decided, items),
    )


def _excess(
    double: Sequence[int],
    sides: Mapping[int, int],
    verdicts: Mapping[int, int],
    decided: Mapping[int, int],
    items: Mapping[int, StoredItem],
) -> Estimate | None:
    """How much more often the judge than people prefers the side of each item; side 0 is left out."""
    counted = [item for item in double if sides[item]]
    if not counted:
        return None
    values = [sides[item] * (verdicts[item] - decided[item]) / 2 for item in counted]
    return bootstrap_interval(values, [items[item].group_id for item in counted], seed=0)


def _side_of_longer(answers: Sequence[StoredResponse]) -> int:
    return int(np.sign(len(answers[1].text) - len(answers[0].text)))


def _side_of_own(answers: Sequence[StoredResponse], model: str) -> int:
    """−1 or 1 if exactly one of the answers is the judge's own model's, else 0."""
    first, second = (model in (answer.run, PurePath(answer.run).name) for answer in answers[:2])
    return second - first if model else 0


def not_counting(store: Store, section: ExportSection) -> dict[str, str]:
    """The judges that do not count in exports, each with the reason."""
    refusals = {name: found.refusal(section) for name, found in calibrations(store).items()}
    return {name: refusal for name, refusal in refusals.items() if refusal is not None}
