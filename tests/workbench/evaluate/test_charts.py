"""Charts are valid SVG in page colours, load nothing, and escape hostile labels."""

import re
import xml.etree.ElementTree as ET

import pytest

from workbench.evaluate.charts import (
    Series,
    fit_chart,
    histogram_chart,
    interval_chart,
    line_chart,
    named_paths_chart,
    path_chart,
    reliability_chart,
    share_chart,
    stacked_chart,
)
from workbench.evaluate.metrics import reliability_bins
from workbench.evaluate.statistics import Estimate

HOSTILE = '</text><script>alert(1)</script>"$\\frac{x\x1b\x00漢'
RISING = Series("ppo", list(range(40)), [0.1 * i for i in range(40)], 2)
OTHER = Series(HOSTILE, list(range(40)), [0.05 * i for i in range(40)], 3)
ESTIMATE = Estimate(0.4, 0.3, 0.5, 100, 50)

CHARTS = {
    "line": lambda name: line_chart(name, [RISING, OTHER], x_label="step", y_label="loss", smooth=True),
    "path": lambda name: path_chart(name, [RISING, OTHER], x_label="KL", y_label="score"),
    "named": lambda name: named_paths_chart(name, [RISING, OTHER], x_label="KL", y_label="gold"),
    "stacked": lambda name: stacked_chart(name, [("score", [RISING]), (HOSTILE, [OTHER])], x_label="√KL"),
    "share": lambda name: share_chart(
        name,
        RISING,
        [OTHER, Series(HOSTILE, [1, 2], [0.2, 0.4], 3, ([0.1, 0.2], [0.6, 0.9]))],
        x_label="step",
        y_label="score",
    ),
    "interval": lambda name: interval_chart(
        name, [("facts", [("a", ESTIMATE, 1), (HOSTILE, ESTIMATE, 2)])], x_label="gold", reference=0.5
    ),
    "fit": lambda name: fit_chart(
        name,
        Series(HOSTILE, [250, 250, 1000], [0.7, 0.72, 0.8], 1),
        RISING,
        (RISING.y, RISING.y),
        x_label="n",
        y_label="a",
    ),
    "histogram": lambda name: histogram_chart(name, [0.1, -1.0, 2.0], x_label=HOSTILE, colour=5),
    "reliability": lambda name: reliability_chart(name, reliability_bins([1, -1, 2, 0.5] * 9, bins=6), colour=4),
}


@pytest.mark.parametrize("kind", CHARTS)
def test_svg_is_valid_uses_page_colours_and_loads_nothing(kind):
    svg = CHARTS[kind]("one")
    root = ET.fromstring(svg)
    assert root.get("role") == "img"
    assert root.get("width") is None
    assert root.get("viewBox")
    assert not re.findall(r"#[0-9a-f]{6}\b", svg), "a fixed colour would not follow dark mode"
    assert "var(--series-" in svg
    assert not re.search(r"https?:|<script|<style|<image|onload", svg)


@pytest.mark.parametrize("kind", CHARTS)
def test_identifiers_of_two_charts_differ(kind):
    def identifiers(svg):
        return set(re.findall(r'\bid="([^"]+)"', svg))

    one, two = CHARTS[kind]("one"), CHARTS[kind]("two")
    assert not identifiers(one) & identifiers(two)
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', one)) <= identifiers(one)
    assert one == CHARTS[kind]("one")


def test_the_description_has_the_numbers():
    root = ET.fromstring(CHARTS["line"]("one"))
    assert "ppo: from 0 at 0 to 3.9 at 39, lowest 0, highest 3.9" in root.get("aria-label")
    assert "a 0.40 (0.30 to 0.50)" in ET.fromstring(CHARTS["interval"]("one")).get("aria-label")


def test_long_label_is_cut():
    svg = line_chart("one", [Series("x" * 99, [1, 2], [1, 2], 1), RISING], x_label="step", y_label="loss")
    assert "x" * 25 + "…" in svg
    assert "x" * 26 + "<" not in svg


def test_a_legend_stays_within_the_figure():
    def rows(length):
        series = [Series(f"{n}" * length, [1, 2], [1, 2], 1) for n in range(4)]
        root = ET.fromstring(line_chart("one", series, x_label="step", y_label="loss"))
        labels = [text for text in root.iter("text") if set(text.text) < set("0123") and len(text.text) == length]
        assert len(labels) == 4
        return len({text.get("y") or text.get("transform").split()[-1] for text in labels})

    assert rows(4) == 1
    assert rows(15) == 2
    assert rows(25) == 2


def test_single_point_is_drawn():
    svg = line_chart("one", [Series("x", [1.0], [2.0], 1)], x_label="step", y_label="loss", smooth=True)
    assert "<use" in svg


def test_a_histogram_has_one_bar_per_bin_and_a_description():
    svg = histogram_chart("h", [*[0.1] * 98, -5.0, 5.0], x_label="gap", colour=2, bins=10)
    assert "Histogram of 100 values of gap, from -5 to 5, median 0.1" in svg
    assert svg.count("var(--series-2)") == 10, "a bar a bin"
