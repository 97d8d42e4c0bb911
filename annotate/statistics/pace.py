"""How fast labels arrive, and when there will be enough. Pure. Times are seconds since 1970."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

BREAK_SECONDS = 600.0
"""A longer gap between two judgements of one person is a break."""
RECENT_SECONDS = 7 * 86400.0
"""The forecast assumes the pace of these last seconds."""
_WIDTHS = (300, 900, 3600, 4 * 3600, 86400, 7 * 86400, 28 * 86400)
_MOST_BUCKETS = 50


@dataclass(frozen=True)
class Pace:
    """Pace of labelling, and a forecast."""

    per_person_hour: float | None
    """Labels per person and hour of work; None without two judgements in a row."""
    work_hours: float
    """Hours of work so far, without breaks."""
    hours_left: float | None
    """Hours of one person's work that are still needed; None if the pace is unknown."""
    days_left: float | None
    """Days until the end, at the pace of the last seven days; None if there were no labels."""
    bucket_seconds: int
    """Width of the bars of `counts`."""
    starts: tuple[float, ...]
    """When each bar begins, without gaps."""
    counts: tuple[int, ...]
    """Labels in each bar."""


def pace(times: ArrayLike, annotators: ArrayLike, *, remaining: int, now: float) -> Pace:
    """Pace and forecast.

        per_person_hour = judgements that follow another within BREAK_SECONDS / the hours of those gaps

    Args:
        times: (M,) when each judgement was made.
        annotators: (M,) int codes, by whom.
        remaining: judgements still wanted.
    """
    made, who = np.asarray(times, dtype=float), np.asarray(annotators, dtype=np.int64)
    order = np.lexsort((made, who))
    gaps = np.diff(made[order])[np.diff(who[order]) == 0]
    working = gaps[gaps <= BREAK_SECONDS]
    hours = float(working.sum()) / 3600
    rate = len(working) / hours if hours > 0 else None
    recent = made[made > now - RECENT_SECONDS]
    days = max((now - float(recent.min())) / 86400, 1 / 24) if len(recent) else None
    width, starts, counts = _buckets(made)
    return Pace(
        per_person_hour=rate,
        work_hours=hours,
        hours_left=0.0 if not remaining else remaining / rate if rate else None,
        days_left=0.0 if not remaining else remaining / (len(recent) / days) if days else None,
        bucket_seconds=width,
        starts=starts,
        counts=counts,
    )


def _buckets(made: np.ndarray) -> tuple[int, tuple[float, ...], tuple[int, ...]]:
    if not len(made):
        return _WIDTHS[0], (), ()
    span = float(made.max() - made.min())
    width = next((width for width in _WIDTHS if span / width < _MOST_BUCKETS), _WIDTHS[-1])
    bars = (made // width).astype(np.int64)
    first = int(bars.min())
    counts = np.bincount(bars - first)
    return width, tuple(float((first + n) * width) for n in range(len(counts))), tuple(counts.tolist())
