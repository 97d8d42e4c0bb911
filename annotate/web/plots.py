"""Small plots as inline SVG: numbers in, markup out; colours and fonts are the page's (classes, no styles)."""

import html
import math
from collections.abc import Sequence
from datetime import UTC, datetime

from annotate.statistics.agreement import Statistic
from annotate.statistics.pace import Pace
from annotate.web.texts import Texts

_WIDTH, _HEIGHT = 640, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 34
_WIDEST = (_WIDTH - _LEFT - _RIGHT) / 4
"""Widest bar, in pixels: a single day's bar does not fill the plot, and two labels below do not overlap."""


def labels_over_time(t: Texts, pace: Pace) -> str:
    """Bars: labels in each stretch of time. Empty without labels."""
    if not pace.counts:
        return ""
    most, step = _scale(max(pace.counts))
    width = min((_WIDTH - _LEFT - _RIGHT) / len(pace.counts), _WIDEST)
    gap = min(2.0, width / 5)
    parts = _levels(most, step)
    for place, count in enumerate(pace.counts):
        height = _span(count, most)
        when = html.escape(_when(t, pace.starts[place], pace.bucket_seconds))
        parts.append(
            f'<rect class="bar" x="{_LEFT + place * width + gap / 2:.1f}" y="{_HEIGHT - _BOTTOM - height:.1f}" '
            f'width="{max(width - gap, 1):.1f}" height="{height:.1f}"><title>{when}: {count:,}</title></rect>'
        )
    parts += _times(t, pace, width)
    said = t(
        "lead.plot.labels.said",
        unit=bucket_name(t, pace.bucket_seconds),
        bars=len(pace.counts),
        highest=max(pace.counts),
        last=pace.counts[-1],
    )
    return _svg(parts, said)


def progress_over_time(t: Texts, pace: Pace, wanted: int) -> str:
    """A line: labels given so far, towards the number wanted. Empty without labels."""
    if not pace.counts:
        return ""
    most, step = _scale(max(wanted, sum(pace.counts)))
    width = (_WIDTH - _LEFT - _RIGHT) / len(pace.counts)
    so_far, points = 0, [(float(_LEFT), float(_HEIGHT - _BOTTOM))]
    for place, count in enumerate(pace.counts, start=1):
        so_far += count
        points.append((_LEFT + place * width, _HEIGHT - _BOTTOM - _span(so_far, most)))
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    goal = _HEIGHT - _BOTTOM - _span(wanted, most)
    parts = _levels(most, step)
    parts.append(
        f'<polygon class="area" points="{line} {points[-1][0]:.1f},{_HEIGHT - _BOTTOM} {_LEFT},{_HEIGHT - _BOTTOM}"/>'
    )
    parts.append(f'<polyline class="line" points="{line}"/>')
    parts.append(f'<line class="goal" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{goal:.1f}" y2="{goal:.1f}"/>')
    parts += _times(t, pace, width)
    return _svg(parts, t("lead.plot.so_far.said", given=so_far, wanted=wanted))


def learning_curve(
    t: Texts, points: Sequence[tuple[float, float]], line: Sequence[tuple[float, float, float, float]], sentence: str
) -> str:
    """Dots, a fit each, over the power law with its interval; the number of pairs on a logarithmic scale."""
    left, right = math.log(line[0][0]), math.log(line[-1][0])
    values = [value for _, value in points] + [value for _, *three in line for value in three]
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if (max(values) - min(values)) / step <= 5)
    low, high = math.floor(min(values) / step) * step, math.ceil(max(values) / step) * step

    def at(pairs: float, value: float) -> str:
        x = _LEFT + (math.log(pairs) - left) / max(right - left, 1e-9) * (_WIDTH - _LEFT - _RIGHT)
        return f"{x:.1f},{_HEIGHT - _BOTTOM - _span(value - low, max(high - low, 1e-9)):.1f}"

    parts = []
    for number in range(round((high - low) / step) + 1):
        y = at(line[0][0], low + number * step).split(",")[1]
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y}" dy="4" text-anchor="end">{low + number * step:.2f}</text>')
    band = [at(x, top) for x, _, _, top in line] + [at(x, bottom) for x, _, bottom, _ in reversed(line)]
    parts.append(f'<polygon class="area" points="{" ".join(band)}"/>')
    parts.append(f'<polyline class="line" points="{" ".join(at(x, y) for x, y, _, _ in line)}"/>')
    for pairs, value in points:
        x, y = at(pairs, value).split(",")
        title = html.escape(t("lead.curve.fit", pairs=f"{pairs:,.0f}", accuracy=f"{value:.3f}"))
        parts.append(f'<circle class="dot" cx="{x}" cy="{y}" r="3.5"><title>{title}</title></circle>')
    for pairs in sorted({pairs for pairs, _ in points}):
        parts.append(
            f'<text x="{at(pairs, low).split(",")[0]}" y="{_HEIGHT - 8}" text-anchor="middle">{pairs:,.0f}</text>'
        )
    return _svg(parts, sentence)


def interval(t: Texts, statistic: Statistic, *, low: float = -0.2, high: float = 1.0) -> str:
    """A dot with its interval on the scale of agreement; only the scale where the statistic is undefined."""
    width, middle = 240, 11

    def at(value: float) -> float:
        return 4 + (min(max(value, low), high) - low) / (high - low) * (width - 8)

    parts = [f'<line class="axis" x1="{at(low):.1f}" x2="{at(high):.1f}" y1="{middle}" y2="{middle}"/>']
    for mark in (0.0, 0.5, 1.0):
        parts.append(
            f'<line class="axis" x1="{at(mark):.1f}" x2="{at(mark):.1f}" y1="{middle - 4}" y2="{middle + 4}"/>'
        )
    said = t("lead.undefined")
    if statistic.value is not None:
        said = f"{statistic.value:.2f}"
        if statistic.low is not None and statistic.high is not None:
            x = at(statistic.low)
            parts.append(
                f'<rect class="range" x="{x:.1f}" y="{middle - 3}" width="{max(at(statistic.high) - x, 1):.1f}" '
                'height="6" rx="3"/>'
            )
            low_, high_ = f"{statistic.low:.2f}", f"{statistic.high:.2f}"
            said = t("lead.plot.interval", value=said, low=low_, high=high_)
        parts.append(f'<circle class="dot" cx="{at(statistic.value):.1f}" cy="{middle}" r="5"/>')
    return _svg(parts, f"{said}, on a scale from {low:g} to {high:g}", size=(width, 22), name="interval")


def share(value: float | None, bounds: tuple[float, float] | None, *, reference: float | None = None) -> str:
    """A share of 0 to 1 with its interval; a line marks what it should be. Empty where it is undefined."""
    if value is None:
        return ""
    width = 64
    parts = [f'<line class="axis" x1="2" x2="{width - 2}" y1="6" y2="6"/>']
    if reference is not None:
        x = 2 + reference * (width - 4)
        parts.append(f'<line class="reference" x1="{x:.1f}" x2="{x:.1f}" y1="1" y2="11"/>')
    if bounds is not None:
        x = 2 + bounds[0] * (width - 4)
        length = max((bounds[1] - bounds[0]) * (width - 4), 1)
        parts.append(f'<rect class="range" x="{x:.1f}" y="4" width="{length:.1f}" height="4" rx="2"/>')
    parts.append(f'<circle class="dot" cx="{2 + value * (width - 4):.1f}" cy="6" r="3.2"/>')
    return _svg(parts, "", size=(width, 12), name="share")


def bucket_name(t: Texts, seconds: int) -> str:
    """The name of a bar of this width: per hour, per day …"""
    if seconds < 86400:
        return t(f"lead.unit.{seconds}")
    return t("lead.unit.day") if seconds == 86400 else t("lead.unit.days", count=seconds // 86400)


def _scale(largest: int) -> tuple[int, int]:
    """A round number at or above the largest, and the distance of grid lines."""
    rough = max(largest, 1) / 4
    power = 10 ** math.floor(math.log10(rough)) if rough >= 1 else 1
    step = max(1, int(next(k * power for k in (1, 2, 5, 10) if k * power >= rough)))
    return step * math.ceil(max(largest, 1) / step), step


def _span(count: float, most: float) -> float:
    return count / most * (_HEIGHT - _TOP - _BOTTOM)


def _levels(most: int, step: int) -> list[str]:
    parts = []
    for level in range(0, most + 1, step):
        y = _HEIGHT - _BOTTOM - _span(level, most)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(level)}</text>')
    return parts


def _times(t: Texts, pace: Pace, width: float) -> list[str]:
    """When the first, the middle and the last bar begin."""
    last = len(pace.starts) - 1
    places = sorted({0, last // 2, last} if last > 3 else {0, last})
    ends = {0: "start", last: "end"} if last else {0: "start"}
    parts = []
    for place in places:
        anchor = ends.get(place, "middle")
        x = {"start": _LEFT, "end": _LEFT + len(pace.starts) * width}.get(anchor, _LEFT + (place + 0.5) * width)
        label = html.escape(_when(t, pace.starts[place], pace.bucket_seconds))
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 8}" text-anchor="{anchor}">{label}</text>')
    return parts


def _when(t: Texts, seconds: float, width: int) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.strftime(t("lead.format.day") if width >= 86400 else t("lead.format.hour"))


def _short(count: int) -> str:
    return f"{count / 1000:g}k" if count >= 1000 else str(count)


def _svg(parts: Sequence[str], said: str, *, size: tuple[int, int] = (_WIDTH, _HEIGHT), name: str = "plot") -> str:
    role = f'role="img" aria-label="{html.escape(said)}"' if said else 'aria-hidden="true"'
    return f'<svg class="{name}" viewBox="0 0 {size[0]} {size[1]}" {role}>{"".join(parts)}</svg>'
