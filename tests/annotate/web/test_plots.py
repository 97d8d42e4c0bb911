"""The plots of the lead's page."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from annotate.statistics.agreement import Statistic
from annotate.statistics.pace import pace
from annotate.web import plots
from annotate.web.texts import Texts

T = Texts()


def test_plots_are_well_formed_and_say_what_they_show() -> None:
    found = pace(np.linspace(0, 9 * 3600.0, 90), np.zeros(90, int), remaining=10, now=9 * 3600.0)
    drawn = [
        plots.labels_over_time(T, found),
        plots.progress_over_time(T, found, 100),
        plots.interval(T, Statistic(0.5, 0.4, 0.6, 10)),
        plots.interval(T, Statistic(None, reason="nothing")),
        plots.share(0.2, (0.1, 0.4), reference=0.5),
    ]
    for picture in drawn:
        ElementTree.fromstring(picture)
        assert "style=" not in picture
    assert "90 labels so far, 100 wanted" in drawn[1]
    assert "0.50, interval 0.40 to 0.60" in drawn[2]
    assert "undefined" in drawn[3]
    bars = [float(bar.get("height", 0)) for bar in ElementTree.fromstring(drawn[0]).iter("rect")]
    assert len(bars) == len(found.counts)
    assert bars.index(max(bars)) == found.counts.index(max(found.counts))
    assert plots.share(None, None) == plots.labels_over_time(T, pace([], [], remaining=0, now=0)) == ""


def test_a_learning_curve_has_a_dot_for_each_fit_on_a_logarithmic_scale() -> None:
    points = [(100.0, 0.6), (100.0, 0.62), (200.0, 0.7), (400.0, 0.75)]
    line = [(n, 0.8 - 2 / n**0.5, 0.75 - 2 / n**0.5, 0.85 - 2 / n**0.5) for n in (100.0, 200.0, 400.0)]
    picture = ElementTree.fromstring(plots.learning_curve(T, points, line, "400 more pairs: +2.0 ± 0.5 points"))
    dots = [(float(dot.get("cx", 0)), float(dot.get("cy", 0))) for dot in picture.iter("circle")]
    assert len(dots) == 4
    assert dots[0][0] == dots[1][0] < dots[2][0] < dots[3][0]
    assert dots[2][0] - dots[0][0] == dots[3][0] - dots[2][0], "doubling is one step"
    assert dots[0][1] > dots[1][1] > dots[2][1] > dots[3][1], "better is higher"
    assert picture.get("aria-label") == "400 more pairs: +2.0 ± 0.5 points"
    assert next(title.text for title in picture.iter("title")) == "100 pairs: 0.600"


def test_every_width_of_bars_has_a_name() -> None:
    for span in (600.0, 86400.0, 40 * 86400.0, 3000 * 86400.0):
        found = pace(np.linspace(0, span, 50), np.zeros(50, int), remaining=0, now=span)
        assert plots.bucket_name(T, found.bucket_seconds).startswith("per ")
        ElementTree.fromstring(plots.labels_over_time(T, found))


def test_a_single_bar_is_no_wall_and_times_stand_below_the_bars() -> None:
    one = pace([100.0, 110.0], np.zeros(2, int), remaining=0, now=120.0)
    (bar,) = ElementTree.fromstring(plots.labels_over_time(T, one)).iter("rect")
    assert float(bar.get("width", 0)) < 160
    many = pace(np.linspace(0, 9 * 3600.0, 90), np.zeros(90, int), remaining=0, now=9 * 3600.0)
    drawn = ElementTree.fromstring(plots.labels_over_time(T, many))
    last = list(drawn.iter("rect"))[-1]
    end = [text for text in drawn.iter("text") if text.get("text-anchor") == "end"][-1]
    right = float(last.get("x", 0)) + float(last.get("width", 0))
    assert float(end.get("x", 0)) == pytest.approx(right, abs=2)
