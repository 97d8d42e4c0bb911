"""The state of a label store, read in one transaction: for the lead's page and `status`.

People and simulated annotators are surveyed separately. Progress, agreement and pace cover ordinary items outside
campaigns; an annotator's row counts gold items and repeats too. Training items count nowhere.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from annotate.config import ExportSection
from annotate.intake.labels import IMPORTED
from annotate.labels.contested import Considered, considered
from annotate.labels.export import Exported, gather, made_of
from annotate.labels.quality_table import Row, annotator_rows
from annotate.labels.votes import Votes, collect
from annotate.statistics.agreement import Statistic, agreement
from annotate.statistics.pace import Pace, pace
from annotate.store.database import Store
from annotate.store.statements import Adjudication, Annotator, CurrentJudgement, StoredItem, StoredResponse

RESAMPLES = 500
"""Of the bootstrap for intervals of agreement."""


@dataclass(frozen=True)
class Survey:
    """The state of the labelling by people, or by simulated annotators."""

    place: str
    simulated: bool
    items: int
    wanted: int
    """Judgements wanted."""
    given: int
    """Judgements given, without those beyond an item's overlap."""
    finished: int
    """Items with all judgements that they need."""
    choices: Mapping[str, int]
    """Judgements: compared, ranked, ties, both_bad, skipped; and flagged items."""
    agreement: Mapping[str, Statistic]
    rows: Sequence[Row]
    pace: Pace
    contested: Sequence[Considered]
    """Largest difference first."""
    adjudicated: int
    campaigns: Mapping[str, tuple[int, int]]
    """Judgements given and wanted by campaign."""
    imported: bool = False
    """Whether judgements of this kind were imported."""


@dataclass(frozen=True)
class _Contents:
    """Content of the store, read in one transaction."""

    items: Sequence[StoredItem]
    responses: Mapping[int, Sequence[StoredResponse]]
    judgements: Sequence[CurrentJudgement]
    adjudications: Mapping[int, Adjudication]
    accounts: Sequence[Annotator]


def survey(store: Store, *, simulated: bool, now: float, resamples: int = RESAMPLES) -> Survey:
    """Survey one of the two kinds of annotators.

    Args:
        now: seconds since 1970, for the forecast.
        resamples: bootstrap resamples for the intervals of agreement; 0 gives no intervals.
    """
    with store.read() as transaction:
        items = [item for item in transaction.items() if item.kind != "training"]
        counted = {item.id for item in items}
        every = _Contents(
            items,
            transaction.all_responses(),
            [j for j in transaction.current_judgements() if j.simulated == simulated and j.item in counted],
            {pk: ruling for pk, ruling in transaction.adjudications().items() if ruling.choice != "withdrawn"},
            transaction.annotators(),
        )
    return _survey(store.place, every, simulated, now, resamples)


def _survey(place: str, every: _Contents, simulated: bool, now: float, resamples: int) -> Survey:
    ordinary = [item for item in every.items if item.kind == "ordinary" and item.campaign is None]
    own = {item.id for item in ordinary}
    judged = [judgement for judgement in every.judgements if judgement.item in own]
    votes = collect(ordinary, every.responses, judged)
    labels = [judgement for judgement in judged if judgement.choice != "skipped"]
    done = Counter(judgement.item for judgement in every.judgements if judgement.choice != "skipped")
    wanted = sum(item.overlap for item in ordinary)
    given = sum(min(done[item.id], item.overlap) for item in ordinary)
    names = {name: code for code, name in enumerate(sorted({judgement.annotator for judgement in labels}))}
    every_vote = collect(every.items, every.responses, every.judgements)
    return Survey(
        place=place,
        simulated=simulated,
        items=len(ordinary),
        wanted=wanted,
        given=given,
        finished=sum(done[item.id] >= item.overlap for item in ordinary),
        choices=_choices(judged, votes),
        agreement=agreement(votes.comparison, votes.annotator, votes.strength, resamples=resamples),
        rows=annotator_rows(every_vote, every.responses, every.judgements, every.accounts),
        pace=pace(
            [judgement.created_at for judgement in labels],
            [names[judgement.annotator] for judgement in labels],
            remaining=max(wanted - given, 0),
            now=now,
        ),
        contested=[
            each for each in considered(ordinary, every.responses, judged, every.adjudications) if each.contested
        ],
        adjudicated=sum(pk in own for pk in every.adjudications),
        campaigns=_campaigns(every.items, done),
        imported=any(account.role == IMPORTED and account.simulated == simulated for account in every.accounts),
    )


def _choices(judged: Sequence[CurrentJudgement], votes: Votes) -> dict[str, int]:
    counted = Counter(judgement.choice for judgement in judged)
    return {
        "compared": counted["compared"],
        "ranked": counted["ranked"],
        "ties": int(((votes.strength == 0) & ~votes.both_bad).sum()),
        "both_bad": counted["both_bad"],
        "skipped": counted["skipped"],
        "flagged": len({judgement.item for judgement in judged if judgement.flag}),
    }


def _campaigns(items: Sequence[StoredItem], done: Counter[int]) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for item in items:
        if item.campaign is not None and item.kind == "ordinary":
            given, wanted = found.get(item.campaign, (0, 0))
            found[item.campaign] = (given + min(done[item.id], item.overlap), wanted + item.overlap)
    return found


@dataclass(frozen=True)
class Impact:
    """The export with and without the judgements of one annotator."""

    before: Mapping[str, int]
    after: Mapping[str, int]
    gone: int
    """Records that would disappear."""
    new: int
    """Records that would be added: the remaining votes break a tie."""
    turned: int
    """Records whose chosen answer would change."""
    alpha_before: Statistic
    """Krippendorff's alpha of strength, as the overview shows it for people or for simulated annotators."""
    alpha_after: Statistic
    unlabelled: int
    """Items that would be left without a judgement."""


def impact_of_removing(store: Store, name: str, section: ExportSection) -> Impact:
    """Compare the export with and without an annotator."""
    with_them, without = (gather(store, section, without=names) for names in ((), (name,)))
    before, after = made_of(with_them, section), made_of(without, section)
    chosen_before, chosen_after = _chosen(before), _chosen(after)
    both = chosen_before.keys() & chosen_after.keys()
    alphas = _alphas(store, name)
    return Impact(
        before=before.counts,
        after=after.counts,
        gone=len(chosen_before.keys() - both),
        new=len(chosen_after.keys() - both),
        turned=sum(chosen_before[record] != chosen_after[record] for record in both),
        alpha_before=alphas[0],
        alpha_after=alphas[1],
        unlabelled=after.counts["not_judged"] - before.counts["not_judged"],
    )


def _chosen(exported: Exported) -> dict[str, str]:
    return {record.id: record.chosen_text for record in exported.preferences}


def _alphas(store: Store, name: str) -> tuple[Statistic, Statistic]:
    """Agreement on strength with and without an annotator, over the judgements that the overview counts."""
    with store.read() as transaction:
        items = [item for item in transaction.items(kind="ordinary") if item.campaign is None]
        responses, judgements = transaction.all_responses(), list(transaction.current_judgements())
        account = transaction.annotator(name)
    simulated = account is not None and account.simulated
    same_kind = [judgement for judgement in judgements if judgement.simulated == simulated]
    others = [judgement for judgement in same_kind if judgement.annotator != name]
    before, after = (_alpha(collect(items, responses, counted)) for counted in (same_kind, others))
    return before, after


def _alpha(votes: Votes) -> Statistic:
    return agreement(votes.comparison, votes.annotator, votes.strength, resamples=RESAMPLES)["alpha_ordinal"]
