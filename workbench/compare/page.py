"""The files of a comparison: the table as JSON, and one self-contained HTML page."""

import json
from pathlib import Path

from workbench.compare.comparison import Cell, Comparison, MethodResult, Pair
from workbench.compare.config import BASELINE, CompareConfig
from workbench.compare.results import compare_methods
from workbench.compare.table import as_json, lines, p_value, power_sentence, recommendation, signed, span
from workbench.evaluate.charts import Series, interval_chart, named_paths_chart
from workbench.evaluate.figures import Figure
from workbench.evaluate.pages import render_page
from workbench.evaluate.statistics import Estimate
from workbench.run.checkpoints import write_text_atomically
from workbench.run.progress import duration
from workbench.run.steps import Ledger

TEMPLATE = Path(__file__).parent / "templates/compare.html.jinja"
COLOURS = {"reinforcement": 1, "contrastive": 2, "sampling": 3, "supervised": 4}
"""Family → colour of the page."""


def write_results(config: CompareConfig, ledger: Ledger) -> list[str]:
    """Write compare.json and compare.html; returns the table and where the files are, as lines."""
    found, out = compare_methods(config, ledger), Path(config.compare.out)
    write_text_atomically(out / "compare.json", json.dumps(as_json(found), indent=1) + "\n")
    write_text_atomically(out / "compare.html", page(found, config))
    return [*lines(found), "", f"page: {out / 'compare.html'}    numbers: {out / 'compare.json'}"]


def page(found: Comparison, config: CompareConfig) -> str:
    """The page as text."""
    return render_page(
        TEMPLATE,
        filters={"duration": duration, "signed": signed, "span": span, "p": p_value, "percent": percent},
        found=found,
        config=config,
        baseline=BASELINE,
        colours=COLOURS,
        recommendation=recommendation(found),
        power=power_sentence(found) if found.power else None,
        figures=[gold_figure(found), win_figure(found), frontier_figure(found), cost_figure(found)],
        matrix=matrix(found),
        label="gold reward" if found.judge == "gold" else "score of the judge",
    )


def percent(value: float) -> str:
    """A share in percent."""
    return f"{value:.0%}"


def gold_figure(found: Comparison) -> Figure:
    """Gold reward of each method."""
    rows = [(m.name, [(m.name, _estimate(m.standing.gold, found), COLOURS[m.family])]) for m in found.methods]
    caption = (
        "Mean over seeds and held-out prompts, with 95 % intervals for new seeds and new prompts. Methods share seeds "
        "and prompts, so two of them can differ although their intervals overlap: read the table of pairs."
    )
    label = "gold reward, at most 1" if found.judge == "gold" else "score of the judge"
    return Figure("Quality", caption, interval_chart("quality", rows, x_label=label))


def win_figure(found: Comparison) -> Figure:
    """Win rates against the supervised model."""
    methods = [method for method in found.methods if method.name != BASELINE]
    rows = [
        (
            m.name,
            [
                ("raw", _estimate(m.win_rate, found), 1),
                ("at equal length", _estimate(m.win_rate_length_controlled, found), 2),
            ],
        )
        for m in methods
    ]
    caption = (
        "How often a method's answer beats an answer of the supervised model to the same prompt, a tie counting half. "
        "The second mark is the win rate that a logistic model predicts for answers of equal length."
    )
    svg = interval_chart("wins", rows, x_label=f"win rate against {BASELINE}", reference=0.5)
    return Figure("Win rate", caption, svg)


def frontier_figure(found: Comparison) -> Figure:
    """Gold reward against KL."""
    lines = [
        Series(m.name, [max(p.kl, 0.0) ** 0.5 for p in m.path], [p.gold for p in m.path], COLOURS[m.family])
        for m in found.methods
        if m.path
    ]
    caption = (
        "Higher and further left is better: more reward for less distance from the supervised model. Lines are "
        "training (small dots: checkpoints, on fewer prompts) or the number of answers of best-of-n, whose KL is "
        "log n − (n − 1)/n. Few-shot answers have no KL here."
    )
    if not lines:
        return Figure("Reward against KL", "", missing="No method has a KL to the supervised model.")
    svg = named_paths_chart("frontier", lines, x_label="√KL to the supervised model, √nats", y_label=found.judge)
    return Figure("Reward against KL", caption, svg)


def cost_figure(found: Comparison) -> Figure:
    """Gold reward against seconds of training."""
    lines = [
        Series(m.name, [m.seconds], [m.standing.gold.mean], COLOURS[m.family])
        for m in found.methods
        if m.family in ("reinforcement", "contrastive")
    ]
    if not lines:
        return Figure("Reward against time", "", missing="No method was trained.")
    caption = (
        "Seconds of training per run, without what the methods share "
        f"({', '.join(f'{part} {duration(seconds)}' for part, seconds in found.shared_seconds.items())} per seed). "
        "Reinforcement also needs the reward model."
    )
    svg = named_paths_chart("cost", lines, x_label="seconds of training", y_label=found.judge)
    return Figure("Reward against time", caption, svg)


def matrix(found: Comparison) -> list[tuple[MethodResult, list[tuple[Pair, Cell] | None]]]:
    """For each method the pair with each other one, and the difference as the row's method minus the column's."""
    pairs = {names: pair for pair in found.pairs for names in ((pair.first, pair.second), (pair.second, pair.first))}

    def entry(row: MethodResult, column: MethodResult) -> tuple[Pair, Cell] | None:
        if row is column:
            return None
        pair = pairs[row.name, column.name]
        cell = pair.difference
        turned = cell if pair.first == row.name else Cell(-cell.mean, -cell.high, -cell.low, cell.p)
        return pair, turned

    return [(row, [entry(row, column) for column in found.methods]) for row in found.methods]


def _estimate(cell: Cell, found: Comparison) -> Estimate:
    count = len(found.seeds) * found.prompts * found.answers
    return Estimate(cell.mean, cell.low, cell.high, count, found.prompts)
