"""Gates: limits that the whole 95 % interval of a metric must keep, and how often they stop a sound run. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench.evaluate.statistics import Estimate
from workbench.suite.measures import Difference, Measure

if TYPE_CHECKING:
    from workbench.suite.config import GateSection

OTHER_KINDS = ("reward", "classifier")
"""First parts of the names of metrics that policies do not have."""
ATTACKS = ("injection", "jailbreak")
"""Perturbations that ask for a word that no answer should contain."""
ANSWER_METRICS = (
    *("length", "eos_rate", "bleu", "chrf", "rouge1", "rouge2", "rougeL", "exact_match"),
    *("refusal_rate", "toxic_rate", "leak_rate", "gold", "score"),
)
"""Of a policy's answers, with an interval."""
CLASSIFIER_METRICS = ("accuracy", "macro_precision", "macro_recall", "macro_f1", "gain")


@dataclass(frozen=True)
class Verdict:
    """One gate for one run."""

    run: str
    metric: str
    limit: str
    """Such as `≤ 0.1`."""
    estimate: Estimate | None
    """None: the run has no such metric with an interval, and the gate counts as failed."""
    passed: bool


def gate_metrics(perturbations: Sequence[str], dimensions: Sequence[str], subsets: Sequence[str]) -> list[str]:
    """Every name that a gate can have.

    Args:
        perturbations: of the suite.
        dimensions: of the suite.
        subsets: of the suite's choices; none without choices.
    """
    choices = ["reward/choices", *(f"reward/choices/{subset}" for subset in subsets)] if subsets else []
    drops = [f"drop/{kind}/{metric}" for kind in perturbations for metric in (*ANSWER_METRICS, "reward/accuracy")]
    gaps = [f"gap/{dimension}/{metric}" for dimension in dimensions for metric in ("logprob", "reward/score")]
    return [
        *(*ANSWER_METRICS, "perplexity", "kl", "win_rate"),
        *(f"change/{metric}" for metric in (*ANSWER_METRICS, "perplexity")),
        *(f"obeyed/{kind}" for kind in ATTACKS if kind in perturbations),
        *drops,
        *gaps,
        *("reward/accuracy", *choices),
        *(f"classifier/{metric}" for metric in CLASSIFIER_METRICS),
    ]


def kind_of_metric(metric: str) -> str:
    """The kind of run that has this metric: `policy`, `reward` or `classifier`."""
    return next((other for other in OTHER_KINDS if other in metric.split("/")), "policy")


def plain(name: str) -> bool:
    """Whether a metric is a level, and not a difference from another one."""
    return "/" not in name or name.startswith(("obeyed/", "reward/", "classifier/"))


def applies(metric: str, kind: str) -> bool:
    """Whether a gate on this metric is for runs of this kind."""
    return kind_of_metric(metric) == kind


def judge(run: str, gate: "GateSection", estimate: Estimate | None) -> Verdict:
    """Whether the interval keeps the gate: its lower end `at_least`, its upper end `at_most`; an unknown one fails."""
    limits = [f"≥ {gate.at_least:g}"] if gate.at_least is not None else []
    limits += [f"≤ {gate.at_most:g}"] if gate.at_most is not None else []
    passed = (estimate is not None and estimate.interval_known) and (
        (gate.at_least is None or estimate.low >= gate.at_least)
        and (gate.at_most is None or estimate.high <= gate.at_most)
    )
    return Verdict(run, gate.metric, " and ".join(limits), estimate, passed)


def false_alarms(
    measures: Mapping[str, Measure | Difference], gates: Sequence["GateSection"], *, resamples: int, seed: int
) -> dict[str, float]:
    """Share of resamples of the prompts in which each gate stops the run, and under `any` at least one of them.

    The measured run takes the place of the truth, so for a run that is sound this is the rate of false alarms.

    Args:
        measures: of one run, all on the same prompts.
        gates: those that apply to it.
        resamples: bootstrap samples of the prompts.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    (size,) = {measures[gate.metric].prompts for gate in gates}
    failed = np.zeros((resamples, len(gates)), dtype=bool)
    for number in range(resamples):
        index = rng.integers(size, size=size)
        for place, gate in enumerate(gates):
            failed[number, place] = not judge("", gate, measures[gate.metric].drawn(index).estimate(seed)).passed
    return {gate.metric: float(failed[:, place].mean()) for place, gate in enumerate(gates)} | {
        "any": float(failed.any(axis=1).mean())
    }
