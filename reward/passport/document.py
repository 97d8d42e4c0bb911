"""A passport as a file and as a page: passport.json, and passport.html, which holds no script and fetches nothing."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reward.passport.findings import Findings
from reward.passport.judge import Check
from workbench.evaluate.charts import histogram_chart, interval_chart, reliability_chart
from workbench.evaluate.figures import Figure
from workbench.evaluate.pages import render_page
from workbench.evaluate.statistics import Estimate
from workbench.run.checkpoints import write_text_atomically

VERSION = 1
"""Version of passport.json; raised when the meaning of a field changes."""
NAME, PAGE = "passport.json", "passport.html"
TEMPLATE = Path(__file__).parent / "templates/passport.html.jinja"
BLUE, GREEN = 3, 2
WORDS = {"pass": "passed", "fail": "failed", "undefined": "undefined", "not applicable": "not applicable"}


@dataclass(frozen=True)
class Passport:
    """The examination of a reward run."""

    run: str
    outcome: str
    failed: list[str]
    checks: list[Check]
    findings: Findings
    limits: dict[str, float]
    origins: dict[str, str]
    """Where each limit comes from: default, the run's file, the command line."""
    files: dict[str, str]
    """SHA-256 of the adapters and heads examined, by path within the run."""
    facts: dict[str, Any]
    """Pairs, members, seed, data, commit, versions; `not_sampled`: why the start run was not sampled, or empty."""
    warnings: list[str] = field(default_factory=list)
    """Failed checks that the judge makes warnings."""
    version: int = VERSION

    def save(self, folder: Path) -> Path:
        """Write passport.json, atomically."""
        path = folder / NAME
        text = json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False, allow_nan=False)
        write_text_atomically(path, text + "\n")
        return path


def render(passport: Passport) -> str:
    """The page as text."""
    order = {"fail": 0, "undefined": 1, "pass": 2, "not applicable": 3}
    return render_page(
        TEMPLATE,
        filters={"small": _small},
        passport=passport,
        findings=passport.findings,
        checks=sorted(passport.checks, key=lambda check: order[check.outcome]),
        words=WORDS,
        interval=_interval,
        figures=figures(passport.findings),
    )


def _small(value: float | None) -> str:
    """Three significant digits."""
    return "–" if value is None else f"{value:.3g}".replace("-", "−")


def _interval(check: Check) -> str:
    """A check's interval, or nothing if it has no sampling error."""
    if check.low is None or check.high is None or check.low == check.high:
        return ""
    return f"{_small(check.low)} to {_small(check.high)}"


def figures(findings: Findings) -> list[Figure]:
    """The plots, with captions that say how to read them."""
    return [plot(findings) for plot in (_accuracy, _slices, _reliability, _margins, _probes, _swaps)]


def _marks(
    rows: Sequence[tuple[str, Estimate | None]], colour: int
) -> list[tuple[str, list[tuple[str, Estimate, int]]]]:
    return [(label, [(label, estimate, colour)]) for label, estimate in rows if estimate is not None]


def _accuracy(findings: Findings) -> Figure:
    rows = _marks(
        [
            ("agrees with labels", findings.accuracy),
            ("noise ceiling", findings.ceiling),
            ("… shorter is better", findings.shorter_better),
        ],
        BLUE,
    )
    caption = "On held-out pairs; bars are 95 % intervals over prompts, the dashed line is chance. "
    caption += (
        "The noise ceiling is how often a model that always knew the better answer would agree with these labels."
        if findings.ceiling is not None
        else "No pair was judged by several people, so the noise ceiling is not known."
    )
    return Figure("Accuracy", caption, interval_chart("accuracy", rows, x_label="share of pairs", reference=0.5))


def _slices(findings: Findings) -> Figure:
    rows = _marks([(f"{s.by}: {s.name}", s.accuracy) for s in findings.slices][:24], BLUE)
    caption = "Accuracy on parts of the held-out pairs. Strong preferences should be easier than slight ones."
    return Figure("Accuracy by slice", caption, interval_chart("slices", rows, x_label="share right", reference=0.5))


def _reliability(findings: Findings) -> Figure:
    calibration = findings.calibration
    caption = (
        f"After dividing score gaps by the temperature {_small(calibration.temperature)}, fitted on half of the "
        "prompts; the plot shows the pairs of the other half. On the dashed diagonal the model is right as often as it "
        f"claims. Calibration error {_small(calibration.ece)}, {_small(calibration.ece_before)} before the division; "
        f"chance alone shows {_small(calibration.ece_by_chance)}. Brier score {_small(calibration.brier.mean)}."
    )
    return Figure("Reliability", caption, reliability_chart("reliability", calibration.reliability, colour=BLUE))


def _margins(findings: Findings) -> Figure:
    caption = "Score of the chosen answer minus that of the rejected one. Left of 0 the model contradicts the label."
    svg = histogram_chart(
        "margins", findings.margins, x_label="gap, in standard deviations of the scores", colour=GREEN
    )
    return Figure("Margins", caption, svg)


def _probes(findings: Findings) -> Figure:
    rows = _marks([(probe.name, probe.raised) for probe in findings.probes], GREEN)
    caption = (
        "Share of held-out answers that score higher after a damage; 0 is right. The table of checks describes each "
        "damage."
    )
    svg = interval_chart("probes", rows, x_label="share that scores higher", reference=0.5, limits=(0.0, 1.0))
    return Figure("Damaged answers", caption, svg)


def _swaps(findings: Findings) -> Figure:
    rows = _marks([(swap.name, swap.gap) for swap in findings.swaps], GREEN)
    if not rows:
        return Figure("Who asks", "", missing="No request could be swapped.")
    caption = (
        "Mean score of the same answer for one asker minus that for another, in standard deviations of the scores; 0 "
        "is right. The word lists cannot prove that there is no gap."
    )
    return Figure("Who asks", caption, interval_chart("swaps", rows, x_label="gap", reference=0.0))
