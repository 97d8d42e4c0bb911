"""The result of a campaign: win rates with intervals and Bradley-Terry ratings, computed from the judgements.

Both bad counts as a tie; a reviewer's ruling replaces the annotators' judgements.
"""

import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from annotate.campaign.battles import ARENA, answers_of_runs, is_battle, opened_runs
from annotate.campaign.scores import newest_scores, predictions
from annotate.campaign.start import campaign_names, started_campaigns
from annotate.labels.resolve import Label, resolve
from annotate.labels.votes import collect
from annotate.statistics.powered import FIRST_LOOK, Powered, powered
from annotate.statistics.ratings import Rating, rate
from annotate.store.database import Store
from annotate.store.statements import StoredItem, StoredResponse, Transaction
from workbench.data.hashing import unit_hash
from workbench.evaluate.win_rate import Comparisons, WinRate, win_rate
from workbench.run.errors import WorkbenchError, did_you_mean


@dataclass(frozen=True)
class Pair:
    """Two runs, compared."""

    own: str
    other: str
    win_rate: WinRate | None
    """Win rate of `own`; None before the first judgement."""
    judgements: int
    both_bad: int
    """Judgements that call both bad."""
    identical: int
    """Prompts to which both gave the same answer; they count as ties in the win rate."""
    powered: Powered | None = None
    """With a reward model's predictions; None if the campaign was not scored or too few prompts are judged."""


@dataclass(frozen=True)
class Report:
    """The result of a campaign so far."""

    name: str
    runs: tuple[str, ...]
    prompts: int
    given: int
    wanted: int
    pairs: tuple[Pair, ...]
    ratings: tuple[Rating, ...]
    """In the order of the runs; empty before comparisons lead from each run to every other one."""
    reward_run: str | None = None
    """The reward run that scored all answers, if any."""


@dataclass
class _Tally:
    """The comparisons of two runs."""

    outcomes: list[float] = field(default_factory=list)
    longer: list[float] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    judgements: int = 0
    both_bad: int = 0
    identical: int = 0

    def add(self, prompt: str, outcome: float, longer: float) -> None:
        """Add one comparison, from the point of view of the first run."""
        self.outcomes.append(outcome)
        self.longer.append(longer)
        self.prompts.append(prompt)

    def comparisons(self) -> Comparisons:
        """The comparisons, weighted so that each prompt counts the same, however many people judged it."""
        sizes = Counter(self.prompts)
        return Comparisons(
            np.array(self.outcomes),
            np.array(self.longer),
            self.prompts,
            np.array([1 / sizes[prompt] for prompt in self.prompts]),
        )

    def powered(self, predicted: Mapping[str, float]) -> Powered | None:
        """The win rate with a prediction for every prompt."""
        said: dict[str, list[float]] = {}
        for prompt, outcome in zip(self.prompts, self.outcomes, strict=True):
            said.setdefault(prompt, []).append(outcome)
        judged = sorted(prompt for prompt in said if prompt in predicted)
        outcomes = [sum(said[prompt]) / len(said[prompt]) for prompt in judged]
        return powered(outcomes, [predicted[prompt] for prompt in judged], list(predicted.values()))


@dataclass(frozen=True)
class _Asked:
    """What a campaign, or the arena, asks people."""

    runs: list[str]
    kept: Mapping[str, Sequence[int | None]]
    """Per question the position of each run's answer, equal for equal texts; None: the run did not answer it."""
    items: list[StoredItem]
    battles: bool = False
    """Each item is a question of its own, and its answers are in its own order."""

    def question(self, item: StoredItem) -> str:
        """The key of an item in `kept`."""
        return item.item_id if self.battles else item.group_id

    def positions(self, item: StoredItem, responses: Sequence[StoredResponse]) -> tuple[int, ...]:
        """The positions in `kept` of an item's answers."""
        return (0, 1) if self.battles else tuple(int(response.response_id) for response in responses)


def _asked(
    transaction: Transaction, store: Store, name: str, responses: Mapping[int, Sequence[StoredResponse]]
) -> _Asked:
    items, started = transaction.items(kind="ordinary"), started_campaigns(transaction)
    if name == ARENA and (opened := opened_runs(transaction)):
        battles = [item for item in items if is_battle(item)]
        voted, answers = answers_of_runs(battles, responses)
        return _Asked(voted or opened, answers, battles, battles=True)
    if name not in started:
        remedy = did_you_mean(name, started) if started else "start it: python -m annotate campaign start CONFIG.yaml"
        raise WorkbenchError(f"campaign.name={name}", f"no such campaign in {store.place}", remedy=remedy)
    runs: list[str] = started[name]["runs"]  # type: ignore[assignment]
    kept: dict[str, list[int | None]] = started[name]["answers"]  # type: ignore[assignment]
    return _Asked(runs, kept, [item for item in items if item.campaign == name])


def campaign_report(store: Store, name: str, *, simulated: bool = False, seed: int = 0) -> Report:
    """Win rates and ratings from the judgements of people, or of simulated annotators.

    Raises:
        WorkbenchError: there is no such campaign.
    """
    with store.read() as transaction:
        responses = transaction.all_responses()
        asked = _asked(transaction, store, name, responses)
        judgements = [j for j in transaction.current_judgements() if j.simulated == simulated]
        rulings = transaction.adjudications()
        scored = newest_scores(transaction, name)
    runs, kept, items = asked.runs, asked.kept, asked.items
    votes = collect(items, responses, judgements)
    said: dict[str, dict[tuple[int, int], list[Label]]] = {}
    for label in resolve(votes, rulings, mode="single"):
        item = label.comparison.item
        first, second = asked.positions(item, responses[item.id])
        if label.outcome != "left_out":
            said.setdefault(asked.question(item), {}).setdefault((first, second), []).append(label)
    lengths = {
        (asked.question(item), position): len(response.text)
        for item in items
        for position, response in zip(asked.positions(item, responses[item.id]), responses[item.id], strict=True)
    }
    scores = {
        (asked.question(item), position): value
        for item in items
        if scored is not None and item.item_id in scored[1]
        for position, value in zip(asked.positions(item, responses[item.id]), scored[1][item.item_id], strict=True)
    }
    tallies = {
        (own, other): _tally(own, other, kept, said, lengths)
        for own, other in itertools.combinations(range(len(runs)), 2)
    }
    return Report(
        name=name,
        runs=tuple(runs),
        prompts=len(kept),
        given=len(votes),
        wanted=sum(item.overlap for item in items),
        pairs=tuple(
            Pair(
                runs[own],
                runs[other],
                win_rate(tally.comparisons(), seed=seed) if tally.outcomes else None,
                tally.judgements,
                tally.both_bad,
                tally.identical,
                tally.powered(predictions(own, other, kept, scores)) if scored is not None else None,
            )
            for (own, other), tally in tallies.items()
        ),
        ratings=_ratings(tallies, list(kept), len(runs), seed),
        reward_run=scored[0] if scored is not None else None,
    )


def _tally(
    own: int,
    other: int,
    kept: Mapping[str, Sequence[int | None]],
    said: Mapping[str, Mapping[tuple[int, int], Sequence[Label]]],
    lengths: Mapping[tuple[str, int], int],
) -> _Tally:
    """The judgements of two runs, from the first run's point of view.

    Prompts without a judgement are left out, and the same proportion of the prompts with identical answers: otherwise
    these ties would outweigh the judgements until every prompt is judged.
    """
    tally = _Tally()
    both = {
        prompt: (mine, theirs)
        for prompt, texts in kept.items()
        if (mine := texts[own]) is not None and (theirs := texts[other]) is not None
    }
    different = [prompt for prompt, (mine, theirs) in both.items() if mine != theirs]
    asked = [prompt for prompt in different if _about(said, prompt, *both[prompt])]
    share = len(asked) / len(different) if different else 1.0
    for prompt, (mine, theirs) in both.items():
        if mine == theirs:
            tally.identical += 1
            if unit_hash(0, "identical", prompt) < share:
                tally.add(prompt, 0.5, 0.0)
            continue
        longer = float(lengths[prompt, mine] - lengths[prompt, theirs]) if (prompt, mine) in lengths else 0.0
        for label, position in _about(said, prompt, mine, theirs):
            won = 0.5 if label.outcome != "decided" else float(label.chosen == position)
            tally.add(prompt, won, longer)
            tally.judgements += 1
            tally.both_bad += label.outcome == "both_bad"
    return tally


def _about(
    said: Mapping[str, Mapping[tuple[int, int], Sequence[Label]]], prompt: str, mine: int, theirs: int
) -> list[tuple[Label, int]]:
    """The labels of two answers to a prompt, each with the position (0, 1) of `mine` in the item."""
    labels = said.get(prompt, {})
    return [(label, 0) for label in labels.get((mine, theirs), ())] + [
        (label, 1) for label in labels.get((theirs, mine), ())
    ]


def _ratings(
    tallies: Mapping[tuple[int, int], _Tally], prompts: Sequence[str], runs: int, seed: int
) -> tuple[Rating, ...]:
    if not _connected(tallies, runs):
        return ()
    rows_of = {prompt: row for row, prompt in enumerate(prompts)}
    wins = np.zeros((len(prompts), runs, runs))
    for (own, other), tally in tallies.items():
        if not tally.outcomes:
            continue
        comparisons = tally.comparisons()
        rows = [rows_of[prompt] for prompt in comparisons.prompts]
        np.add.at(wins, (rows, own, other), comparisons.outcomes * comparisons.weights)
        np.add.at(wins, (rows, other, own), (1 - comparisons.outcomes) * comparisons.weights)
    return tuple(rate(wins[wins.sum((1, 2)) > 0], seed=seed))


def _connected(tallies: Mapping[tuple[int, int], _Tally], runs: int) -> bool:
    """Whether comparisons lead from each run to every other one; else the distance of two groups is unknown."""
    reached = {0}
    for _ in range(runs):
        reached |= {run for pair, tally in tallies.items() if tally.outcomes and reached & set(pair) for run in pair}
    return runs > 1 and len(reached) == runs


def report_campaigns(store: Store, name: str | None, *, as_json: bool) -> None:
    """Print the result of one campaign, or of all."""
    names = [name] if name else campaign_names(store)
    reports = [_people_or_simulated(store, one) for one in names]
    if as_json:
        print(json.dumps([asdict(report) for report in reports], indent=2))
    elif not reports:
        print(f"{store.place}: no campaign has been started")
    else:
        print("\n\n".join(text_of(report) for report in reports))


def _people_or_simulated(store: Store, name: str) -> Report:
    """The report of people, or of simulated annotators if only they have judged."""
    people, simulated = (campaign_report(store, name, simulated=kind) for kind in (False, True))
    return people if people.given or not simulated.given else simulated


def text_of(report: Report) -> str:
    """A report as text."""
    lines = [
        f"campaign {report.name!r}: {report.given:,} of {report.wanted:,} judgements; {report.prompts:,} prompts, "
        f"{len(report.runs)} runs"
    ]
    for pair in report.pairs:
        lines.append(f"  {pair.own}  against  {pair.other}")
        rate = pair.win_rate
        if rate is None:
            lines.append(f"    not judged yet; {pair.identical:,} prompts with the same answer")
            continue
        lines.append(
            f"    wins {rate.mean:.1%} (bootstrap {rate.low:.1%} to {rate.high:.1%}; Wilson {rate.wilson_low:.1%} to "
            f"{rate.wilson_high:.1%}; at equal length {rate.length_controlled:.1%}); {rate.prompts:,} prompts, "
            f"{pair.judgements:,} judgements, ties {rate.ties:.0%}, both bad {pair.both_bad:,}, same answer "
            f"{pair.identical:,}"
        )
        if pair.powered is not None:
            lines += _powered_lines(pair.powered, str(report.reward_run))
        elif report.reward_run is not None:
            lines.append(f"    with a reward model: from {FIRST_LOOK} judged prompts on")
    if report.ratings:
        lines.append("  Bradley-Terry ratings (Elo points, mean 0; 95 % bootstrap over prompts)")
        ranked = sorted(zip(report.runs, report.ratings, strict=True), key=lambda pair: -pair[1].value)
        for run, rating in ranked:
            known = f"{rating.elo.low:+.0f} to {rating.elo.high:+.0f}"
            if rating.low == rating.high:
                known = "no interval: every comparison went one way"
            lines.append(f"    {rating.elo.value:+7.0f}  ({known})  {run}")
    return "\n".join(lines)


def _powered_lines(found: Powered, reward_run: str) -> list[str]:
    shown = (
        (f"with {reward_run} (weight {found.weight:.2f})", found.with_predictions),
        ("people only", found.human_only),
    )
    return [
        f"    {found.judged:,} of {found.pairs:,} prompts judged; intervals for one look, and valid at every look"
    ] + [
        f"      {name}: {one.mean:.1%} ({one.low:.1%} to {one.high:.1%}; {one.sequence_low:.1%} to "
        f"{one.sequence_high:.1%})"
        for name, one in shown
    ]
