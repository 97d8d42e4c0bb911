"""Progress and agreement of a label store, for the terminal."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from annotate.agreement import krippendorff_alpha, raw_agreement
from annotate.statements import CurrentJudgement
from annotate.store import Store


def status(store: Store) -> dict[str, Any]:
    """Counts and agreement, for people and for simulated annotators apart; plain values, ready for JSON."""
    with store.read() as transaction:
        judgements = list(transaction.current_judgements())
        totals = {kind: transaction.totals(simulated=kind == "simulated") for kind in ("people", "simulated")}
    report: dict[str, Any] = {"store": store.place, "items": totals["people"][0]}
    for kind, (_, wanted, given) in totals.items():
        own = [j for j in judgements if j.simulated == (kind == "simulated")]
        if kind == "people" or own:
            report[kind] = {"judgements": given, "wanted": wanted, **_summary(own)}
    return report


def _summary(judgements: Sequence[CurrentJudgement]) -> dict[str, Any]:
    choices = Counter(j.choice for j in judgements)
    units: dict[int, list[int]] = {}
    for judgement in judgements:
        if judgement.choice != "skipped":
            units.setdefault(judgement.item, []).append(judgement.strength or 0)
    strengths = list(units.values())
    compared = [unit for unit in strengths if len(unit) > 1]
    return {
        "ties": sum(s == 0 for unit in strengths for s in unit) - choices["both_bad"],
        "both_bad": choices["both_bad"],
        "skipped": choices["skipped"],
        "items_judged": len(units),
        "agreement": {
            "items": len(compared),
            "raw_with_ties": raw_agreement(compared, ties=True),
            "raw_without_ties": raw_agreement(compared, ties=False),
            "alpha_nominal": krippendorff_alpha([_signs(unit) for unit in compared], level="nominal"),
            "alpha_ordinal": krippendorff_alpha(compared, level="ordinal"),
        },
        "annotators": _by_annotator(judgements),
    }


def _signs(unit: Sequence[int]) -> list[int]:
    return [(s > 0) - (s < 0) for s in unit]


def _by_annotator(judgements: Sequence[CurrentJudgement]) -> dict[str, dict[str, float | None]]:
    table: dict[str, dict[str, float | None]] = {}
    for name in sorted({j.annotator for j in judgements}):
        own = [j for j in judgements if j.annotator == name]
        sides = [(j.strength > 0) != j.swapped for j in own if j.strength]
        seconds = sorted(j.seconds for j in own if j.seconds is not None)
        table[name] = {
            "judged": sum(j.choice != "skipped" for j in own),
            "skipped": sum(j.choice == "skipped" for j in own),
            "left_preferred": 1 - sum(sides) / len(sides) if sides else None,
            "median_seconds": seconds[len(seconds) // 2] if seconds else None,
        }
    return table


def render(report: dict[str, Any]) -> str:
    """The report as a few lines of text."""
    lines = [f"{report['store']}: {report['items']:,} pairs"]
    for kind in ("people", "simulated"):
        if kind in report:
            lines += ["", *_section(kind, report[kind])]
    return "\n".join(lines)


def _section(kind: str, part: dict[str, Any]) -> list[str]:
    share = part["judgements"] / part["wanted"] if part["wanted"] else 0.0
    agreement = part["agreement"]
    title = {"people": "People", "simulated": "Simulated annotators"}[kind]
    lines = [
        f"{title}: {part['judgements']:,} of {part['wanted']:,} judgements ({share:.0%}) on "
        f"{part['items_judged']:,} pairs; ties {part['ties']:,}, both bad {part['both_bad']:,}, "
        f"skipped {part['skipped']:,}",
        f"  agreement on {agreement['items']:,} pairs judged more than once: "
        f"raw {_number(agreement['raw_with_ties'])} with ties, "
        f"{_number(agreement['raw_without_ties'])} without; Krippendorff's alpha "
        f"{_number(agreement['alpha_nominal'])} (side), {_number(agreement['alpha_ordinal'])} (strength)",
    ]
    if part["annotators"]:
        width = max(len(name) for name in part["annotators"])
        lines.append(f"  {'annotator':<{width}}  judged  skipped  left preferred  median seconds")
    for name, row in part["annotators"].items():
        lines.append(
            f"  {name:<{width}}  {row['judged']:>6}  {row['skipped']:>7}  "
            f"{_number(row['left_preferred']):>14}  {_number(row['median_seconds'], 1):>14}"
        )
    return lines


def _number(value: float | None, digits: int = 2) -> str:
    return "undefined" if value is None else f"{value:.{digits}f}"
