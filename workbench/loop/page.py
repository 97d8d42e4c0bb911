"""The files of a loop: the table as JSON, one self-contained HTML page, and the lines for the terminal."""

import json
from pathlib import Path

from workbench.evaluate.charts import Series, interval_chart, line_chart
from workbench.evaluate.figures import Figure
from workbench.evaluate.pages import render_page
from workbench.evaluate.statistics import Estimate
from workbench.evaluate.summary import parts_moved
from workbench.evaluate.tables import number
from workbench.loop.config import LoopConfig
from workbench.loop.control import control_sentence
from workbench.loop.forecast import Gain
from workbench.loop.outlook import check_sentence, recommendation
from workbench.loop.results import UNITS, LoopResult, as_json, loop_result
from workbench.run.checkpoints import write_text_atomically
from workbench.run.progress import duration
from workbench.run.steps import Ledger

TEMPLATE = Path(__file__).parent / "templates/loop.html.jinja"
LABELS = {"gold": "gold reward", "judge": "score of the judge", "none": "quality"}


def write_results(config: LoopConfig, ledger: Ledger, last: int) -> list[str]:
    """Write loop.json and loop.html of the rounds up to `last`; returns the table as lines."""
    found, out = loop_result(config, ledger, last), Path(config.loop.out)
    write_text_atomically(out / "loop.json", json.dumps(as_json(found, config), indent=1) + "\n")
    write_text_atomically(out / "loop.html", page(found, config))
    return [
        *lines(found),
        "",
        *next_labels(found, config),
        "",
        f"page: {out / 'loop.html'}    numbers: {out / 'loop.json'}",
    ]


def page(found: LoopResult, config: LoopConfig) -> str:
    """The page as text."""
    return render_page(
        TEMPLATE,
        filters={"duration": duration, "signed": signed, "span": span},
        found=found,
        config=config,
        sentence=sentence(found),
        next_labels=next_labels(found, config),
        label=LABELS[found.judge],
        figures=[quality_figure(found), parts_figure(found)],
    )


def sentence(found: LoopResult) -> str:
    """The outcome in one sentence: the gain of the last round, its labels, and the parts of gold that moved."""
    last = found.rounds[-1]
    if last.number == 0:
        return "No round has finished yet."
    labels = f"{last.labels:,} labels in {last.number} round{'s' if last.number > 1 else ''}"
    if last.gain is None:
        if last.win_rate is None:
            return f"{labels}; neither a gold reward nor measure.judge is known, so rounds cannot be compared."
        return (
            f"{labels}: {last.win_rate.mean:.0%} of the answers win against the supervised model, by the last round's "
            "own reward model. Set measure.judge to compare rounds."
        )
    text = f"{labels}: {LABELS[found.judge]} {signed(last.gain)} over the supervised model ({span(last.gain)})."
    moved = parts_moved(*({name: part.mean for name, part in each.parts.items()} for each in (found.rounds[0], last)))
    return f"{text} Parts of gold: {moved}." if moved else text


def next_labels(found: LoopResult, config: LoopConfig) -> list[str]:
    """Whether to label on, whether the last forecast held, and whether choosing pairs helps: a sentence each."""
    if found.outlook is None:
        return ["No forecast yet." if found.judge != "none" else "No forecast: rounds cannot be compared."]
    said = [recommendation(found.outlook, UNITS[found.judge]), check_sentence(found.outlook)]
    if found.alike < found.rounds[-1].number:
        alike = "round 1" if found.alike == 1 else f"rounds 1 to {found.alike}"
        said.append(f"The forecast is from {alike}: loop.last trains the policy of the last round otherwise.")
    strategy = config.loop.strategy
    if found.control is not None:
        said.append(control_sentence(found.control, strategy))
    if strategy != "random":
        said.append(
            f"To see whether {strategy} makes better policies than random pairs, run a second loop with "
            f"loop.strategy=random loop.out={config.loop.out}-random."
        )
    return [each for each in said if each]


def quality_figure(found: LoopResult) -> Figure:
    """Quality of the policy after each round."""
    title = f"{LABELS[found.judge].capitalize()} after each round"
    rows = [
        (f"round {each.number}, {each.labels:,} labels", [("", each.quality, 1)])
        for each in found.rounds
        if each.quality is not None
    ]
    if not rows:
        return Figure(title, "", missing="Each round is scored by another reward model. Set measure.judge to one run.")
    caption = "Mean over held-out prompts with its 95 % interval. All rounds answer the same prompts."
    last = found.rounds[found.alike]
    if found.outlook and last.quality:
        next_round, start = found.outlook.forecast.measured, last.quality.mean
        expected = Estimate(start + next_round.mean, start + next_round.low, start + next_round.high, 0, 0)
        rows.append((f"forecast, {last.labels + found.outlook.forecast.more:,} labels", [("", expected, 2)]))
    return Figure(title, caption, interval_chart("quality", rows, x_label=LABELS[found.judge]))


def parts_figure(found: LoopResult) -> Figure:
    """Parts of the gold reward over the labels."""
    names = list(found.rounds[0].parts)
    if not names:
        return Figure("Parts of the gold reward", "", missing="No gold reward is known for these prompts.")
    labels = [float(each.labels) for each in found.rounds]
    series = [
        Series(name, labels, [each.parts[name].mean for each in found.rounds], colour)
        for colour, name in enumerate(names, start=1)
    ]
    caption = "Means. If courtesy rises and facts do not, the manner of the answers improves, not their knowledge."
    chart = line_chart("parts", series, x_label="labels", y_label="points")
    return Figure("Parts of the gold reward", caption, chart)


def lines(found: LoopResult) -> list[str]:
    """The table for the terminal."""
    head = (
        f"{'round':>5}{'labels':>8}{LABELS[found.judge]:>20}{'gain':>9}{'win rate':>10}{'KL':>7}{'length':>8}  passport"
    )
    rows = [sentence(found), "", head]
    for each in found.rounds:
        quality = "–" if each.quality is None else f"{number(each.quality.mean, 3)} ± {_half(each.quality):.3f}"
        rows.append(
            f"{each.number:>5}{each.labels:>8,}{quality:>20}{signed(each.gain):>9}"
            f"{'–' if each.win_rate is None else format(each.win_rate.mean, '.0%'):>10}"
            f"{number(each.kl.mean if each.kl else None):>7}{number(each.length.mean, 1):>8}  "
            + ("–" if each.verdict is None else verdict_text(each.verdict.outcome, each.verdict.failed))
        )
    return rows


def verdict_text(outcome: str, failed: list[str]) -> str:
    """The passport's verdict, with the checks that fail."""
    return f"{outcome}: {', '.join(failed)}" if failed else outcome


def _half(estimate: Estimate) -> float:
    return (estimate.high - estimate.low) / 2


def signed(estimate: Estimate | Gain | None) -> str:
    """A mean with its sign."""
    return "–" if estimate is None else f"{estimate.mean:+.3f}".replace("-", "−")


def span(estimate: Estimate | Gain, digits: int = 2) -> str:
    """An interval."""
    return f"{number(estimate.low, digits)} to {number(estimate.high, digits)}"
