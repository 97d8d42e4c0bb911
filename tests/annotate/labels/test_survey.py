"""The lead's numbers, from judgements to rows: annotators, pace, disagreements, plots."""

import json

import numpy as np
import pytest

from annotate.config import ExportSection
from annotate.labels.export import preferences
from annotate.labels.quality_table import Row, Share, annotator_rows
from annotate.labels.status import render, status
from annotate.labels.survey import impact_of_removing, survey
from annotate.labels.votes import collect
from annotate.statistics.agreement import Statistic
from annotate.statistics.pace import pace
from annotate.store.database import Store
from annotate.store.statements import Annotator, CurrentJudgement, StoredResponse
from benchmarks.annotate_store import fill
from tests.annotate.labels.test_resolve import item, judgement

HOUR = 3600.0


def rows_of(judgements: list[CurrentJudgement], **kinds: object) -> dict[str, Row]:
    """Rows by name; `kinds` gives items that are not ordinary, as `i3={"kind": "gold", …}`."""
    numbers = sorted({judgement.item for judgement in judgements})
    items = [item(number, **kinds.get(f"i{number}", {})) for number in numbers]  # type: ignore[arg-type]
    responses = {n: [StoredResponse("short", "", True), StoredResponse("much longer", "", True)] for n in numbers}
    names = sorted({judgement.annotator for judgement in judgements})
    accounts = [Annotator(n, name, "annotator", None, False, "active", 0) for n, name in enumerate(names)]
    votes = collect(items, responses, judgements)
    return {row.name: row for row in annotator_rows(votes, responses, judgements, accounts)}


def test_a_row_by_hand() -> None:
    judgements = [
        judgement(2, "ann", 1, seconds=10.0),  # second, shown right; the longer one
        judgement(-1, "ann", 2, seconds=20.0, swapped=True),  # first, shown right; the shorter one
        judgement(1, "ann", 3, seconds=30.0, swapped=True),  # second, shown left; the longer one
        judgement(0, "ann", 4, seconds=90.0),
        judgement("skipped", "ann", 5),
        judgement(3, "bea", 1),
        judgement(1, "bea", 2),
    ]
    rows = rows_of(judgements)
    ann = rows["ann"]
    assert (ann.judged, ann.skipped) == (4, 1)
    assert (ann.left, ann.longer, ann.others) == (Share(1, 3), Share(2, 3), Share(1, 2))
    assert ann.median_seconds == 25
    assert (ann.gold, ann.repeats) == (Share(0, 0), Share(0, 0))
    assert rows["bea"].median_seconds is None
    assert rows["bea"].left == Share(0, 2)


def test_gold_and_repeats_are_counted_for_their_annotator() -> None:
    gold = {"kind": "gold", "known_strength": -2}
    judgements = [
        judgement(-1, "ann", 1),
        judgement(3, "bea", 1),
        judgement(2, "ann", 2),
        judgement(1, "ann", 3),
        judgement(-2, "bea", 2),
        judgement(2, "bea", 4),
    ]
    rows = rows_of(judgements, i1=gold, i3={"kind": "repeat", "repeat_of": 2}, i4={"kind": "repeat", "repeat_of": 2})
    assert (rows["ann"].gold, rows["bea"].gold) == (Share(1, 1), Share(0, 1))
    assert (rows["ann"].repeats, rows["bea"].repeats) == (Share(1, 1), Share(0, 1))
    # Left, length and agreement are of ordinary items alone.
    assert rows["ann"].longer == Share(1, 1)


def test_without_others_reliability_is_undefined() -> None:
    rows = rows_of([judgement(2, "ann", 1), judgement(1, "bea", 2), judgement("skipped", "cai", 3)])
    assert rows["ann"].reliability is None
    assert rows["cai"].left.value is None
    assert rows["cai"].left.interval is None


def test_warnings_need_enough_cases() -> None:
    rng = np.random.default_rng(0)

    def judged(who: str, number: int) -> CurrentJudgement:
        sides = {"swapped": bool(rng.random() < 0.5), "seconds": float(20 + number % 7)}
        return judgement(int(rng.choice([-2, 2])), who, number, **sides)

    judgements = [judged(who, number) for number in range(60) for who in ("ann", "bea", "dee", "eve")]
    lefty = [
        judgement(2 if number % 2 else -2, "cai", number, swapped=bool(number % 2), seconds=0.2) for number in range(60)
    ]
    rows = rows_of(judgements + lefty)
    assert rows["cai"].left == Share(60, 60)
    assert {"left", "quick"} <= set(rows["cai"].warnings)
    assert "left" not in rows["ann"].warnings
    assert rows_of(lefty[:5])["cai"].warnings == ()


def test_pace_by_hand() -> None:
    # Ann: 60 s, 60 s, a break of two hours, 120 s; Bea alone once. 3 judgements follow another, in 240 s.
    times = [0.0, 60, 120, 120 + 2 * HOUR, 240 + 2 * HOUR, 300]
    found = pace(times, [0, 0, 0, 0, 0, 1], remaining=90, now=240 + 2 * HOUR)
    assert found.per_person_hour == pytest.approx(45)
    assert found.work_hours == pytest.approx(240 / HOUR)
    assert found.hours_left == pytest.approx(2)
    # 6 labels in 2 h 4 min: 90 more take 15 times as long.
    assert found.days_left == pytest.approx(15 * (240 + 2 * HOUR) / 86400)
    assert sum(found.counts) == 6
    assert np.diff(found.starts).tolist() == [found.bucket_seconds] * (len(found.starts) - 1)


def test_pace_without_anything_to_tell_from() -> None:
    nothing = pace([], [], remaining=5, now=0.0)
    assert (nothing.per_person_hour, nothing.hours_left, nothing.days_left, nothing.counts) == (None, None, None, ())
    assert pace([1.0], [0], remaining=0, now=2.0).hours_left == 0
    old = pace([0.0, 30.0], [0, 0], remaining=5, now=30 * 86400.0)
    assert old.days_left is None
    assert old.hours_left == pytest.approx(5 / 120)


@pytest.mark.parametrize("span", [1.0, HOUR, 86400.0, 30 * 86400.0, 900 * 86400.0])
def test_bars_are_few_enough_to_see(span: float) -> None:
    found = pace(np.linspace(0, span, 500), np.zeros(500, int), remaining=0, now=span)
    assert 1 <= len(found.counts) <= 51
    assert sum(found.counts) == 500


def test_a_survey_counts_what_is_there(store: Store) -> None:
    fill(store, 40, 3)
    found = survey(store, simulated=False, now=2000.0)
    assert (found.items, found.finished, found.given, found.wanted) == (40, 40, 80, 80)
    assert found.choices["compared"] == 80
    assert found.agreement["raw_with_ties"].items == 40
    assert len(found.rows) == 3
    assert all(contested.apart >= 2 for contested in found.contested)
    assert [c.apart for c in found.contested] == sorted((c.apart for c in found.contested), reverse=True)
    empty = survey(store, simulated=True, now=2000.0)
    assert (empty.given, empty.wanted, len(empty.rows)) == (0, 80, 0)


def test_status_for_people_and_for_programs(store: Store) -> None:
    fill(store, 40, 3)
    report = status(store)
    assert json.loads(json.dumps(report))["people"]["judgements"] == 80
    assert report["people"]["agreement"]["alpha_ordinal"]["low"] is not None
    text = render(store)
    assert "80 of 80 judgements (100%)" in text
    assert "Krippendorff's alpha (strength)" in text
    assert "person-2" in text
    assert "undefined" not in text


def test_what_removing_somebody_would_do_is_what_it_does(store: Store) -> None:
    from annotate.people.accounts import set_state

    fill(store, 60, 3)
    before = preferences(store, ExportSection())
    impact = impact_of_removing(store, "person-1", ExportSection())
    assert impact.before == before.counts
    set_state(store, "person-1", "removed")
    after = preferences(store, ExportSection())
    assert impact.after == after.counts
    chosen = [{record.id: record.chosen_text for record in made.preferences} for made in (before, after)]
    both = chosen[0].keys() & chosen[1].keys()
    assert impact.gone == len(chosen[0].keys() - both)
    assert impact.new == len(chosen[1].keys() - both)
    assert impact.turned == sum(chosen[0][record] != chosen[1][record] for record in both)
    assert impact.unlabelled == after.counts["not_judged"] - before.counts["not_judged"]


def test_alpha_is_the_same_on_the_overview_and_where_somebody_is_removed(store: Store) -> None:
    from annotate.people.accounts import set_state

    fill(store, 60, 3)
    with store.write() as transaction:  # flagged items are not exported, and count in agreement
        transaction._connection.exec_driver_sql("UPDATE judgement SET flag = 'pii' WHERE item <= 10")

    def overview() -> Statistic:
        return survey(store, simulated=False, now=2000.0).agreement["alpha_ordinal"]

    before, impact = overview(), impact_of_removing(store, "person-1", ExportSection())
    assert before.value is not None
    assert impact.alpha_before == before
    set_state(store, "person-1", "removed")
    assert impact.alpha_after == overview() != before
