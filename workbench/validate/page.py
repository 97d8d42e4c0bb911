"""The report as one self-contained page, with plots."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from workbench.evaluate.charts import bar_chart, histogram_chart, interval_chart
from workbench.evaluate.figures import Figure
from workbench.evaluate.pages import render_page
from workbench.evaluate.statistics import Estimate
from workbench.validate.examine import Examined, Report, name_of
from workbench.validate.findings import KINDS

TEMPLATE = Path(__file__).parent / "templates/validate.html.jinja"
SHOWN = 20
"""Rows of a finding on the page."""
_BARS = 12
"""Languages or labels in a chart."""


def page(report: Report) -> str:
    """The page as text."""
    levels = Counter(finding.level for finding in report.findings)
    return render_page(
        TEMPLATE,
        report=report,
        kinds=KINDS,
        shown=SHOWN,
        levels=levels,
        name_of=lambda path: name_of(path, report.files),
        figures=[figure for number, one in enumerate(report.files, 1) for figure in _figures(one, number, report)],
    )


def _figures(one: Examined, number: int, report: Report) -> list[Figure]:
    if not one.entries:
        return []
    suffix = f" · {name_of(one.read.path, report.files)}" if len(report.files) > 1 else ""
    found = [_lengths(one, number, suffix)]
    if one.languages:
        found.append(_bars("Languages", one.languages, number, suffix, "`?`: too short, or not certain."))
    if one.labels:
        found.append(_bars("Labels", one.labels, number, suffix, "Texts per label."))
    shares = [share for share in one.shares if share.count]
    if shares:
        rows = [
            (share.name, [(share.name, Estimate(share.share, share.low, share.high, share.count, share.count), number)])
            for share in shares
        ]
        caption = (
            "Shares with 95 % intervals. The dashed line is one half: no preference for length or side, or chance."
        )
        svg = interval_chart(f"shares-{number}", rows, x_label="share", reference=0.5, limits=(0.0, 1.0))
        found.append(Figure(f"Judgements{suffix}", caption, svg))
        found += _length_gaps(one, number, suffix)
    return found


def _lengths(one: Examined, number: int, suffix: str) -> Figure:
    if one.tokens is not None:
        values, unit = list(map(float, one.tokens.lengths)), "tokens per row"
        caption = f"{one.tokens.summary}. The dashed line is the limit."
        limit: float | None = float(one.tokens.limit)
    else:
        values, unit, limit = list(map(float, one.characters)), "characters of the longest answer", None
        caption = f"Median {np.median(values):,.0f}, longest {max(values):,.0f}. --base NAME counts tokens."
    limit = limit if limit is not None and limit <= 1.5 * max(values) else None
    svg = histogram_chart(f"lengths-{number}", values, x_label=unit, y_label="rows", colour=number, mark=limit)
    return Figure(f"Lengths{suffix}", caption, svg)


def _bars(title: str, counts: dict[str, int], number: int, suffix: str, caption: str) -> Figure:
    shown = dict(list(counts.items())[:_BARS])
    more = f" The {_BARS} most frequent of {len(counts)}." if len(counts) > _BARS else ""
    svg = bar_chart(f"{title.lower()}-{number}", shown, x_label="rows", colour=number)
    return Figure(f"{title}{suffix}", caption + more, svg)


def _length_gaps(one: Examined, number: int, suffix: str) -> Sequence[Figure]:
    gaps = [float(len(e.answers[0]) - len(e.answers[1])) for e in one.entries if e.decided]
    if len(gaps) < 2:
        return []
    caption = "Characters of the better answer minus those of the other one. No bias is symmetric around 0."
    svg = histogram_chart(f"gaps-{number}", gaps, x_label="characters", y_label="pairs", colour=number, mark=0.0)
    return [Figure(f"Length of the better answer{suffix}", caption, svg)]
