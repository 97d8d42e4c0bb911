"""Progress and agreement of a label store, for the terminal."""

import math
import time
from collections.abc import Sequence
from typing import Any

from annotate.labels.notices import Notice, notices
from annotate.labels.quality_table import Row, Share
from annotate.labels.survey import RESAMPLES, Survey, survey
from annotate.statistics.agreement import Statistic
from annotate.store.database import Store

AGREEMENT = {
    "raw_with_ties": "raw agreement, ties count",
    "raw_without_ties": "raw agreement, ties left out",
    "kappa_quadratic": "weighted kappa (strength)",
    "fleiss": "Fleiss' kappa (side)",
    "alpha_nominal": "Krippendorff's alpha (side)",
    "alpha_ordinal": "Krippendorff's alpha (strength)",
    "alpha_interval": "Krippendorff's alpha (strength, interval)",
}


def surveys(store: Store, *, resamples: int = RESAMPLES) -> list[Survey]:
    """Surveys of people, and of simulated annotators if there are any."""
    both = [survey(store, simulated=simulated, now=time.time(), resamples=resamples) for simulated in (False, True)]
    return [found for found in both if not found.simulated or found.given or found.rows]


def status(store: Store) -> dict[str, Any]:
    """Counts and agreement, separately for people and simulated annotators; plain values, ready for JSON."""
    found = surveys(store)
    report: dict[str, Any] = {"store": store.place, "items": found[0].items}
    report["notices"] = [notice._asdict() for notice in _notices(store)]
    for one in found:
        report["simulated" if one.simulated else "people"] = _plain(one)
    return report


def _notices(store: Store) -> Sequence[Notice]:
    with store.read() as transaction:
        return notices(transaction)


def _plain(one: Survey) -> dict[str, Any]:
    return {
        "judgements": one.given,
        "wanted": one.wanted,
        "finished": one.finished,
        **one.choices,
        "contested": sum(contested.apart > 0 for contested in one.contested),
        "adjudicated": one.adjudicated,
        "labels_per_person_hour": one.pace.per_person_hour,
        "hours_left": one.pace.hours_left,
        "agreement": {name: _statistic(statistic) for name, statistic in one.agreement.items()},
        "annotators": {row.name: _row(row) for row in one.rows},
        "campaigns": {name: {"given": given, "wanted": wanted} for name, (given, wanted) in one.campaigns.items()},
    }


def _statistic(statistic: Statistic) -> dict[str, Any]:
    known = {"value": statistic.value, "low": statistic.low, "high": statistic.high, "items": statistic.items}
    return known | ({"undefined": statistic.reason} if statistic.value is None else {})


def _row(row: Row) -> dict[str, Any]:
    shares = {"gold", "repeats", "others", "left", "longer", "quick"}
    return {
        "state": row.state,
        "judged": row.judged,
        "skipped": row.skipped,
        "reliability": row.reliability,
        "median_seconds": row.median_seconds,
        "warnings": list(row.warnings),
        **{name: _share(getattr(row, name)) for name in sorted(shares)},
    }


def _share(share: Share) -> dict[str, Any]:
    return {"share": share.value, "interval": share.interval, "of": share.cases}


def render(store: Store) -> str:
    """The report as text."""
    found = surveys(store)
    lines = [f"{store.place}: {found[0].items:,} items"]
    lines += [f"notice of {notice.run}: {notice.text}" for notice in _notices(store)]
    for one in found:
        lines += ["", *_section(one)]
    return "\n".join(lines)


def _section(one: Survey) -> list[str]:
    share = one.given / one.wanted if one.wanted else 0.0
    choices = one.choices
    title = "Simulated annotators" if one.simulated else "People"
    title += " and imported judgements" if one.imported else ""
    lines = [
        f"{title}: {one.given:,} of {one.wanted:,} judgements ({share:.0%}); {one.finished:,} items finished; "
        f"ties {choices['ties']:,}, both bad {choices['both_bad']:,}, skipped {choices['skipped']:,}, "
        f"flagged {choices['flagged']:,}"
    ]
    if one.pace.per_person_hour and one.pace.hours_left and math.isfinite(one.pace.hours_left):
        lines.append(
            f"  {one.pace.per_person_hour:.0f} labels per person and hour; {one.pace.hours_left:.1f} hours of work left"
        )
    items = next(iter(one.agreement.values())).items
    lines.append(f"  agreement on {items:,} comparisons judged more than once:")
    width = max(len(label) for label in AGREEMENT.values())
    lines += [f"    {AGREEMENT[name]:<{width}}  {_shown(statistic)}" for name, statistic in one.agreement.items()]
    return lines + _table(one)


def _table(one: Survey) -> list[str]:
    if not one.rows:
        return []
    width = max(9, *(len(row.name) for row in one.rows))
    lines = [f"  {'annotator':<{width}}  judged  skipped  gold  repeats  reliability  left  longer  seconds"]
    for row in one.rows:
        lines.append(
            f"  {row.name:<{width}}  {row.judged:>6}  {row.skipped:>7}  {number(row.gold.value):>4}  "
            f"{number(row.repeats.value):>7}  {number(row.reliability):>11}  {number(row.left.value):>4}  "
            f"{number(row.longer.value):>6}  {number(row.median_seconds, 1):>7}"
            + (f"  look at: {', '.join(row.warnings)}" if row.warnings else "")
        )
    return lines


def _shown(statistic: Statistic) -> str:
    if statistic.value is None:
        return f"undefined: {statistic.reason}"
    interval = "" if statistic.low is None else f"  ({number(statistic.low)} to {number(statistic.high)})"
    return number(statistic.value) + interval


def number(value: float | None, digits: int = 2) -> str:
    """A number, or a dash if it is undefined."""
    return "–" if value is None else f"{value:,.{digits}f}"
