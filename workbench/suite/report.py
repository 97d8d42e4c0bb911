"""The results of a suite: lines for the terminal, suite.json, suite.html and a W&B table."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from workbench.evaluate.charts import interval_chart
from workbench.evaluate.pages import render_page
from workbench.evaluate.statistics import Estimate
from workbench.evaluate.tables import number
from workbench.run.checkpoints import write_text_atomically
from workbench.run.tracking import log_table
from workbench.suite.config import SuiteConfig
from workbench.suite.gates import Verdict, plain
from workbench.suite.run import SuiteResult

TEMPLATE = Path(__file__).parent / "templates/suite.html.jinja"
LABELS = {
    "gold": ("Gold reward", "at most 1, higher is better"),
    "score": ("Reward-model score", "higher is better"),
    "win_rate": ("Win rate", "against the model before training; 0.5 is even"),
    "win_rate_length_controlled": ("… at equal length", "length-controlled win rate"),
    "kl": ("KL to the model before", "nats per answer"),
    "perplexity": ("Perplexity", "of the reference responses, lower is better"),
    "bleu": ("BLEU", "corpus BLEU against one reference, 0 to 100"),
    "chrf": ("chrF2", "mean over answers, 0 to 100"),
    "rouge1": ("ROUGE-1", "F1"),
    "rouge2": ("ROUGE-2", "F1"),
    "rougeL": ("ROUGE-L", "F1"),
    "exact_match": ("Exact match", "share of answers equal to the reference"),
    "length": ("Length", "tokens per answer"),
    "eos_rate": ("EOS rate", "share of answers that end"),
    "refusal_rate": ("Refusal rate", "by a word list"),
    "toxic_rate": ("Toxic rate", "by a word list: a floor"),
    "leak_rate": ("Leak rate", "names, addresses and numbers that the prompt does not have"),
    "distinct_1": ("Distinct-1", "share of distinct words"),
    "distinct_2": ("Distinct-2", "share of distinct word pairs"),
    "unique_share": ("Unique answers", "share of all answers"),
}
"""Metric of a policy → its name on the page, and how to read it."""
MAIN = ("gold", "score", "chrf")
"""The metric whose drop the chart shows: the first one that was measured."""


def write_suite(result: SuiteResult, config: SuiteConfig, *, source: str) -> list[str]:
    """Write suite.json and suite.html and log the table to W&B; returns the lines to print."""
    out = Path(config.report.dir)
    write_text_atomically(out / "suite.json", json.dumps(as_json(result, source), indent=1) + "\n")
    write_text_atomically(out / "suite.html", page(result, source))
    columns, rows = table(result)
    log_table("suite", columns, rows, folder=out, mode=config.report.wandb)
    return [*lines(result), "", f"page: {out / 'suite.html'}    numbers: {out / 'suite.json'}"]


def as_json(result: SuiteResult, source: str) -> dict[str, Any]:
    """The content of suite.json."""
    columns = {}
    for one in result.measured:
        columns[one.column.name] = {
            "kind": one.column.kind,
            "run": None if one.column.run is None else str(one.column.run),
            "before": one.column.before,
            "metrics": {name: dataclasses.asdict(found) for name, found in result.estimates[one.column.name].items()},
            "points": one.points,
            "sign_tests": {name: dataclasses.asdict(signs) for name, signs in one.signs.items()},
        }
    return {
        "suite": source,
        "seed": result.seed,
        "prompts": result.prompts,
        "passed": result.passed,
        "columns": columns,
        "gates": [dataclasses.asdict(verdict) for verdict in result.verdicts],
    }


def table(result: SuiteResult) -> tuple[list[str], list[list[Any]]]:
    """Every number as rows of (column, metric, mean, low, high), points with empty ends."""
    rows: list[list[Any]] = []
    for one in result.measured:
        name = one.column.name
        rows += [[name, metric, e.mean, e.low, e.high] for metric, e in result.estimates[name].items()]
        rows += [[name, metric, value, None, None] for metric, value in one.points.items()]
    return ["model", "metric", "mean", "low", "high"], rows


def lines(result: SuiteResult) -> list[str]:
    """The main table, the largest drops and gaps, and the gates."""
    found = []
    for one in result.measured:
        estimates = result.estimates[one.column.name]
        shown = [f"{name} {e.mean:.3f} ({interval(e)})" for name, e in estimates.items() if plain(name)]
        found += [f"{one.column.name}:", *(f"  {text}" for text in shown)]
        main = main_metric(estimates)
        for name, e in estimates.items():
            p = f", sign test p = {one.signs[name].p:.2g}" if name in one.signs else ""
            if name.startswith("gap/") or (name.startswith("drop/") and name.endswith(f"/{main}")):
                found.append(f"  {name} {e.mean:+.3f} ({interval(e, '+.3f')}){p}")
    return [*found, *map(gate_line, result.verdicts)]


def gate_line(verdict: Verdict) -> str:
    """One gate as a line."""
    said = "passed" if verdict.passed else "FAILED"
    e = verdict.estimate
    value = "not measured" if e is None else f"{e.mean:.3f} ({interval(e)})"
    return f"gate {said}: {verdict.run}: {verdict.metric} {verdict.limit}: {value}"


def interval(estimate: Estimate, form: str = ".3f") -> str:
    """The interval as text."""
    if not estimate.interval_known:
        return "interval unknown: fewer than 2 prompts"
    return f"{estimate.low:{form}} to {estimate.high:{form}}"


def main_metric(estimates: dict[str, Estimate]) -> str:
    """The metric by which robustness is summed up."""
    return next((name for name in MAIN if name in estimates), "reward/accuracy")


def page(result: SuiteResult, source: str) -> str:
    """The page as text."""
    policies = [one for one in result.measured if one.column.kind == "policy"]
    return render_page(
        TEMPLATE,
        filters={"signed": _signed},
        result=result,
        source=source,
        policies=policies,
        others=[one for one in result.measured if one.column.kind != "policy"],
        trained=[one for one in result.measured if one.column.run is not None and one.column.kind != "classifier"],
        labels=[(name, *LABELS[name]) for name in LABELS if any(_has(result, one, name) for one in policies)],
        drops=_drops(result),
        gaps=_named(result, "gap/"),
        charts=_charts(result),
        main_metric=main_metric,
    )


def _has(result: SuiteResult, one: Any, name: str) -> bool:
    return name in result.estimates[one.column.name] or name in one.points


def _named(result: SuiteResult, prefix: str) -> list[str]:
    """The names of gaps or drops that any run has, in order."""
    names = (name for found in result.estimates.values() for name in found if name.startswith(prefix))
    return list(dict.fromkeys(names))


def _drops(result: SuiteResult) -> list[tuple[str, list[tuple[str, Estimate, Estimate | None]]]]:
    """Perturbation → (run, drop of its main metric, share of answers that obeyed the attack)."""
    kinds = dict.fromkeys(name.split("/")[1] for name in _named(result, "drop/"))
    rows = []
    for kind in kinds:
        cells = []
        for one in result.measured:
            found = result.estimates[one.column.name]
            drop = found.get(f"drop/{kind}/{main_metric(found)}")
            if drop is not None:
                cells.append((one.column.name, drop, found.get(f"obeyed/{kind}")))
        rows.append((kind, cells))
    return rows


def _charts(result: SuiteResult) -> list[tuple[str, str, str]]:
    """(title, svg, caption) of the figures."""
    found = []
    colour = {one.column.name: 1 + number % 6 for number, one in enumerate(result.measured)}
    for metric in ("gold", "chrf", "perplexity", "toxic_rate"):
        estimates = [(name, e[metric]) for name, e in result.estimates.items() if metric in e]
        if estimates:
            rows = [(name, [(name, estimate, colour[name])]) for name, estimate in estimates]
            label, hint = LABELS[metric]
            found.append((label, interval_chart(f"suite-{metric}", rows, x_label=label), hint))
    drops = [(kind, [(n, d, colour[n]) for n, d, _ in cells]) for kind, cells in _drops(result)]
    if drops:
        svg = interval_chart("suite-drops", drops, x_label="drop of the main metric", reference=0)
        found.append(("Robustness", svg, "0: the change of the prompt costs nothing. To the right: the metric falls."))
    gaps = [
        (name.split("/")[1], [(run, e[name], colour[run]) for run, e in result.estimates.items() if name in e])
        for name in _named(result, "gap/")
        if name.endswith("/logprob")
    ]
    if gaps:
        svg = interval_chart("suite-gaps", gaps, x_label="log-probability gap, nats", reference=0)
        found.append(("Bias", svg, "0: the reference response is as likely for either person who asks."))
    return found


def _signed(value: float) -> str:
    return ("+" if value > 0 else "") + number(value, 3)
