"""Charts as inline SVG. Knows numbers and labels, no runs.

matplotlib draws them. Then its colours become CSS variables, so that dark mode applies; the text takes the page's font;
and identifiers get the chart's name as prefix, because several charts share one page.
"""

import html
import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from workbench.evaluate.metrics import Bin
from workbench.evaluate.statistics import Estimate

LEGEND = 60
"""Characters per row of a legend, marks and spaces included."""
SERIES = 6
"""Number of series colours on the page."""
_INK, _MUTED, _GRID, _PAPER = "#010101", "#020202", "#030303", "#040404"
_VARIABLES = {_INK: "--ink", _MUTED: "--muted", _GRID: "--line", _PAPER: "--card"} | {
    f"#11000{index}": f"--series-{index}" for index in range(1, SERIES + 1)
}
_CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"} | {127: 0x2421}
"""Control characters → their Unicode control pictures."""
_STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 11,
    "text.color": _INK,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _MUTED,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.7,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 10.5,
    "lines.linewidth": 1.9,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "none",
}


@dataclass(frozen=True)
class Series:
    """One line of a chart."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int
    """1 … SERIES, index of a colour of the page."""
    interval: tuple[Sequence[float], Sequence[float]] | None = None
    """Low and high ends of an interval around each y, if known."""


def line_chart(
    name: str, series: Sequence[Series], *, x_label: str, y_label: str, height: float = 2.7, smooth: bool = False
) -> str:
    """Lines over a common axis. `smooth` draws the raw line faintly and a rolling mean over it."""
    with _figure(height) as figure:
        axes = figure.add_subplot()
        for line in series:
            _draw_line(axes, line, smooth=smooth)
        _label(axes, x_label, y_label)
        if len(series) > 1:
            _legend(axes)
        described = "; ".join(_describe(line) for line in series)
        return _svg(figure, name, f"{y_label} against {x_label}. {described}")


def fit_chart(
    name: str,
    points: Series,
    curve: Series,
    band: tuple[Sequence[float], Sequence[float]],
    *,
    x_label: str,
    y_label: str,
) -> str:
    """Points, a curve fitted to them, and its band (low and high per x), over a logarithmic x axis."""
    with _figure(2.7) as figure:
        axes = figure.add_subplot()
        axes.fill_between(curve.x, *band, color=_colour(curve.colour), alpha=0.16, linewidth=0)
        axes.plot(curve.x, curve.y, color=_colour(curve.colour), label=_short(curve.label))
        axes.plot(points.x, points.y, "o", color=_colour(points.colour), markersize=4.5, label=_short(points.label))
        axes.set_xscale("log")
        _label(axes, x_label, y_label)
        places = sorted(set(points.x))
        axes.set_xticks(places, [f"{place:,.0f}" for place in places])
        axes.minorticks_off()
        _legend(axes)
        return _svg(figure, name, f"{y_label} against {x_label}. {_describe(points)}; {_describe(curve)}")


def path_chart(name: str, series: Sequence[Series], *, x_label: str, y_label: str) -> str:
    """Training as a path in a plane: one dot per step and their rolling mean, from hollow (start) to filled (end)."""
    with _figure(2.7) as figure:
        axes = figure.add_subplot()
        for line in series:
            colour, width = _colour(line.colour), max(1, len(line.x) // 8)
            x, y = _rolling_mean(line.x, width), _rolling_mean(line.y, width)
            axes.plot(line.x, line.y, ".", color=colour, alpha=0.4, markersize=4.5)
            axes.plot(x, y, color=colour)
            axes.plot(x[:1], y[:1], "o", markerfacecolor=_PAPER, markeredgecolor=colour, markersize=7)
            axes.plot(x[-1:], y[-1:], "o", color=colour, markersize=7, label=_short(line.label))
        _label(axes, x_label, y_label)
        if len(series) > 1:
            _legend(axes)
        described = "; ".join(_describe(line) for line in series)
        return _svg(figure, name, f"{y_label} against {x_label} during training. {described}")


def named_paths_chart(name: str, series: Sequence[Series], *, x_label: str, y_label: str, height: float = 4.2) -> str:
    """Paths in a plane, each from small dots to a large one at its end, named in a column on the right."""
    with _figure(height) as figure:
        axes = figure.add_subplot()
        for line in series:
            axes.plot(line.x, line.y, color=_colour(line.colour), marker=".", markersize=5, linewidth=1.2, alpha=0.7)
            axes.plot(line.x[-1:], line.y[-1:], "o", color=_colour(line.colour), markersize=6.5)
        (_, right), (low, high) = axes.get_xlim(), axes.get_ylim()
        order = sorted(series, key=lambda line: line.y[-1])
        step, places = (high - low) * 0.055, list[float]()
        for line in order:
            places.append(max(line.y[-1], places[-1] + step) if places else line.y[-1])
        for line, place in zip(order, places, strict=True):
            axes.annotate(
                _short(line.label),
                (line.x[-1], line.y[-1]),
                (right, place),
                color=_INK,
                verticalalignment="center",
                annotation_clip=False,
                arrowprops={"arrowstyle": "-", "color": _colour(line.colour), "linewidth": 0.6, "alpha": 0.6},
            )
        _label(axes, x_label, y_label)
        described = "; ".join(_describe(line) for line in series)
        return _svg(figure, name, f"{y_label} against {x_label}. {described}")


def stacked_chart(name: str, panels: Sequence[tuple[str, Sequence[Series]]], *, x_label: str, marker: str = "o") -> str:
    """Stacked panels over a common x axis, each with its own y axis: (y label, series)."""
    with _figure(1.75 * len(panels) + 0.5) as figure:
        rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (y_label, series) in zip(rows, panels, strict=True):
            for line in series:
                axes.plot(
                    line.x, line.y, color=_colour(line.colour), marker=marker, markersize=4, label=_short(line.label)
                )
                _draw_band(axes, line)
            _label(axes, x_label if axes is rows[-1] else "", y_label)
        if len(panels[0][1]) > 1:
            _legend(rows[0])
        described = "; ".join(f"{label}: {_describe(line)}" for label, series in panels for line in series)
        return _svg(figure, name, f"Against {x_label}. {described}")


def share_chart(name: str, line: Series, shares: Sequence[Series], *, x_label: str, y_label: str) -> str:
    """A line, and on a right axis from 0 to 1 shares with their intervals and a dashed line at ½."""
    with _figure(3.0) as figure:
        axes = figure.add_subplot()
        right = axes.twinx()
        axes.plot(line.x, line.y, color=_colour(line.colour), label=_short(line.label))
        for share in shares:
            axes.plot([], [], color=_colour(share.colour), marker="o", markersize=4, label=_short(share.label, 44))
            right.plot(share.x, share.y, color=_colour(share.colour), marker="o", markersize=4)
            _draw_band(right, share)
        right.axhline(0.5, color=_MUTED, linewidth=1.1, linestyle=(0, (4, 4)))
        right.set_ylim(-0.02, 1.02)
        right.grid(visible=False)
        _label(axes, x_label, y_label)
        _legend(axes)
        return _svg(figure, name, f"Against {x_label}. {'; '.join(map(_describe, (line, *shares)))}")


def interval_chart(
    name: str,
    rows: Sequence[tuple[str, Sequence[tuple[str, Estimate, int]]]],
    *,
    x_label: str,
    reference: float | None = None,
    limits: tuple[float, float] | None = None,
) -> str:
    """Means with intervals: one row per (label, marks), one mark per (label, estimate, colour).

    `reference` draws a dashed line at a value; `limits` fixes the axis.
    """
    marks = max(len(row) for _, row in rows)
    with _figure(0.75 + len(rows) * (0.2 + 0.21 * marks)) as figure:
        axes = figure.add_subplot()
        if reference is not None:
            axes.axvline(reference, color=_MUTED, linewidth=1.1, linestyle=(0, (4, 4)))
        if limits is not None:
            axes.set_xlim(limits[0] - 0.02, limits[1] + 0.02)
        for place, (_, row) in enumerate(rows):
            offsets = (np.arange(len(row)) - (len(row) - 1) / 2) * 0.62 / max(marks, 1)
            for (label, estimate, colour), offset in zip(row, offsets, strict=True):
                y = place + offset
                axes.plot([estimate.low, estimate.high], [y, y], color=_colour(colour), linewidth=2.4, alpha=0.55)
                axes.plot(
                    estimate.mean,
                    y,
                    "o",
                    color=_colour(colour),
                    markersize=6.5,
                    label=_short(label) if place == 0 else None,
                )
        axes.set_yticks(range(len(rows)), [_short(label) for label, _ in rows])
        axes.tick_params(axis="y", labelcolor=_INK)
        axes.set_ylim(len(rows) - 0.45, -0.55)
        axes.grid(False, axis="y")
        _label(axes, x_label, "")
        if marks > 1:
            _legend(axes)
        described = "; ".join(
            f"{row_label}{' ' + label if marks > 1 else ''} {estimate.mean:.2f} "
            f"({estimate.low:.2f} to {estimate.high:.2f})"
            for row_label, row in rows
            for label, estimate, _ in row
        )
        return _svg(figure, name, f"{x_label}: {described}")


def reliability_chart(name: str, bins: Sequence[Bin], *, colour: int) -> str:
    """Accuracy against confidence, with the diagonal of perfect calibration and Wilson's intervals.

    The axes begin at ½, the least confidence of a choice between two, or lower if a bin's confidence does.
    """
    start = min(0.5, *(b.confidence for b in bins))
    with _figure(3.3) as figure:
        axes = figure.add_subplot()
        axes.plot([start, 1], [start, 1], color=_MUTED, linewidth=1.1, linestyle=(0, (4, 4)))
        confidence, accuracy = [b.confidence for b in bins], [b.accuracy for b in bins]
        axes.vlines(
            confidence,
            [b.accuracy_low for b in bins],
            [b.accuracy_high for b in bins],
            color=_colour(colour),
            alpha=0.4,
        )
        axes.plot(confidence, accuracy, color=_colour(colour), marker="o", markersize=6, linewidth=1.2)
        axes.set_xlim(start - 0.01, 1.01)
        axes.set_ylim(min(0.4, *(b.accuracy_low for b in bins)) - 0.02, 1.03)
        _label(axes, "confidence", "accuracy")
        described = "; ".join(f"confidence {b.confidence:.2f} and accuracy {b.accuracy:.2f}" for b in bins)
        return _svg(figure, name, f"Reliability in {len(bins)} bins: {described}")


def histogram_chart(
    name: str,
    values: Sequence[float],
    *,
    x_label: str,
    colour: int,
    bins: int = 30,
    y_label: str = "pairs",
    mark: float | None = 0.0,
) -> str:
    """A histogram with a dashed line at `mark`; values outside the 0.5 % to 99.5 % quantiles go to the outer bins."""
    array = np.asarray(values, dtype=np.float64)
    low, high = np.quantile(array, [0.005, 0.995])
    counts, edges = np.histogram(array.clip(low, high), bins=bins)
    with _figure(2.7) as figure:
        axes = figure.add_subplot()
        axes.bar(edges[:-1], counts, width=np.diff(edges), align="edge", color=_colour(colour), alpha=0.75)
        if mark is not None:
            axes.axvline(mark, color=_MUTED, linewidth=1.1, linestyle=(0, (4, 4)))
        _label(axes, x_label, y_label)
        described = f"from {array.min():.3g} to {array.max():.3g}, median {np.median(array):.3g}"
        return _svg(figure, name, f"Histogram of {len(array)} values of {x_label}, {described}")


def bar_chart(name: str, counts: Mapping[str, int], *, x_label: str, colour: int) -> str:
    """A horizontal bar per name, with its count beside it."""
    with _figure(0.75 + 0.27 * len(counts)) as figure:
        axes = figure.add_subplot()
        places = range(len(counts))
        axes.barh(places, list(counts.values()), color=_colour(colour), alpha=0.75, height=0.62)
        for place, count in zip(places, counts.values(), strict=True):
            axes.annotate(f"{count:,}", (count, place), (4, 0), textcoords="offset points", verticalalignment="center")
        axes.set_xlim(0, 1.14 * max(counts.values()))
        axes.set_yticks(places, [_short(label) for label in counts])
        axes.tick_params(axis="y", labelcolor=_INK)
        axes.set_ylim(len(counts) - 0.45, -0.55)
        axes.grid(False, axis="y")
        _label(axes, x_label, "")
        described = "; ".join(f"{label} {count:,}" for label, count in counts.items())
        return _svg(figure, name, f"{x_label}: {described}")


@contextmanager
def _figure(height: float) -> Iterator[Figure]:
    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]
        yield Figure(figsize=(4.9, height), layout="constrained")


def _draw_band(axes: Axes, line: Series) -> None:
    if line.interval is not None:
        axes.vlines(line.x, *line.interval, color=_colour(line.colour), alpha=0.35)


def _draw_line(axes: Axes, line: Series, *, smooth: bool) -> None:
    colour, few = _colour(line.colour), len(line.x) < 6
    width = max(3, len(line.y) // 12) if smooth else 1
    if width == 1 or len(line.y) < 12:
        style = (0, (1.5, 2.5)) if few else "solid"
        axes.plot(line.x, line.y, color=colour, label=_short(line.label), marker="o" if few else "", linestyle=style)
        return
    axes.plot(line.x, line.y, color=colour, alpha=0.28, linewidth=1.0)
    axes.plot(line.x, _rolling_mean(line.y, width), color=colour, label=_short(line.label))


def _rolling_mean(values: Sequence[float], width: int) -> list[float]:
    """Mean over a centred window that shrinks at both ends."""
    array, half = np.asarray(values, dtype=np.float64), width // 2
    reach = [min(half, i, len(array) - 1 - i) for i in range(len(array))]
    return [float(array[i - r : i + r + 1].mean()) for i, r in enumerate(reach)]


def _colour(index: int) -> str:
    return f"#11000{(index - 1) % SERIES + 1}"


def visible(text: str) -> str:
    """A text with its control characters replaced by visible symbols (␀, ␛ …)."""
    return text.translate(_CONTROLS)


def _short(text: str, most: int = 26) -> str:
    """A label on one line, cut to `most` characters."""
    line = " ".join(visible(text).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def _label(axes: Axes, x_label: str, y_label: str) -> None:
    axes.set_xlabel(_short(x_label, 60))
    axes.set_title(_short(y_label, 60), loc="left", fontsize=11, color=_MUTED)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    if not axes.yaxis.get_ticklabels() or not any(t.get_text() for t in axes.yaxis.get_ticklabels()):
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))


def _legend(axes: Axes) -> None:
    labels = axes.get_legend_handles_labels()[1]
    columns = max(1, min(4, len(labels), LEGEND // (max(map(len, labels)) + 5)))
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1.03), ncols=columns, borderpad=0, handlelength=1.2, borderaxespad=0
    )
    rows = -(-len(labels) // columns)
    axes.set_title(axes.get_title(loc="left"), loc="left", fontsize=11, color=_MUTED, pad=5 + 17 * rows)


def _describe(line: Series) -> str:
    return (
        f"{line.label}: from {line.y[0]:.3g} at {line.x[0]:.3g} to {line.y[-1]:.3g} at {line.x[-1]:.3g}, "
        f"lowest {min(line.y):.3g}, highest {max(line.y):.3g}"
    )


def _svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an `<svg>` element without fixed size, colours or fonts, and without external references."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}), warnings.catch_warnings():
        # The browser draws the text, so glyphs that matplotlib's font lacks affect only the spacing.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r' id="', f' id="{name}-', text)
    text = re.sub(r'href="#', f'href="#{name}-', text).replace("url(#", f"url(#{name}-")
    text = re.sub(r" font-family: [^;\"]*;", "", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    size = re.search(r'viewBox="[^"]*"', text)
    assert size is not None
    head = f'<svg role="img" class="chart" {size.group()} aria-label="{html.escape(visible(description))}">'
    return head + text[text.index(">") + 1 :].strip()
