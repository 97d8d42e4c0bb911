"""One self-contained HTML page about a set of runs: no script, nothing fetched, every text of a model escaped."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.evaluate.alarms import Alarm, gain, policy_alarms, reward_alarms, run_alarms
from workbench.evaluate.collect import RunView, depth_of, read_runs, starting_policy
from workbench.evaluate.evaluation import Answer, PolicyEvaluation
from workbench.evaluate.figures import (
    Figure,
    cost_figures,
    policies,
    quality_figures,
    reward_figures,
    reward_models,
    training_figures,
)
from workbench.evaluate.overlap import overlap
from workbench.evaluate.pages import TEMPLATES, render_page
from workbench.evaluate.statistics import Estimate
from workbench.evaluate.tables import duration, number, policy_rows, reward_rows
from workbench.run.checkpoints import write_text_atomically
from workbench.run.errors import WorkbenchError

ANSWERS_SHOWN = 10


@dataclass(frozen=True)
class Verdict:
    """What came of one run, in a sentence."""

    view: RunView
    text: str


@dataclass(frozen=True)
class Exchange:
    """One prompt and what each policy answered."""

    prompt: list[dict[str, str]]
    answers: list[tuple[RunView, Answer]]


def build_report(runs: Sequence[Path], out: Path) -> Path:
    """Write the report of some runs.

    Args:
        runs: run folders of any phases, in any order.
        out: the HTML file to write, atomically.
    Returns:
        `out`.
    Raises:
        WorkbenchError: no run is given, or one is missing or broken. A run without evaluation is shown as such.
    """
    if not runs:
        raise WorkbenchError("report", "no run is given", remedy="python -m workbench report runs/NAME …")
    views = read_runs([Path(run) for run in runs])
    write_text_atomically(out, render(views, title=_title(views)))
    return out


def render(views: Sequence[RunView], *, title: str) -> str:
    """The page as text."""
    found = policies(views)
    return render_page(
        TEMPLATES / "report.html.jinja",
        filters={"duration": duration},
        title=title,
        views=views,
        verdicts=verdicts(views),
        alarms=alarms(views),
        policy_views=[view for view, _ in found],
        policy_rows=policy_rows([policy for _, policy in found]),
        reward_views=[view for view, _ in reward_models(views)],
        reward_rows=reward_rows([reward for _, reward in reward_models(views)]),
        unevaluated=[view for view in views if view.evaluation is None],
        sections=_sections(views),
        exchanges=exchanges(found),
        generations=_generations(views),
        versions=_versions(views),
        configs=[(view, _config(view)) for view in views],
        conditions=_conditions(found),
    )


def alarms(views: Sequence[RunView]) -> list[Alarm]:
    """What to doubt, over all runs."""
    found = [
        Alarm(view.name, f"The run is not finished (status {view.record['status']}): its numbers may change.")
        for view in views
        if view.record.get("status", "finished") != "finished"
    ]
    for view in views:
        found += run_alarms(view.name, view.record, _passport(view), view.series("validation/loss")[1])
    for view, policy in policies(views):
        start = starting_policy(view, views)
        optimised = any(role.startswith("reward") for role in view.parents())
        found += policy_alarms(view.name, policy, _policy_of(start), optimised=optimised)
    for view, reward in reward_models(views):
        found += reward_alarms(view.name, reward)
    return found


def _passport(view: RunView) -> dict[str, Any] | None:
    path = view.folder.path / "passport.json"
    if not path.is_file():
        return None
    passport: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return passport


def overlaps(views: Sequence[RunView]) -> str:
    """How many of the evaluation prompts each run was trained on, in a sentence."""
    found = policies(views)
    prompts = {answer.prompt_id: answer.prompt for _, policy in found for answer in policy.answers}
    if not prompts:
        return "No policy was evaluated."
    each = [overlap(view.name, view.folder, list(prompts.values())) for view in views]
    return "Of the evaluation prompts, compared by their text: " + "; ".join(one.sentence() for one in each) + "."


def verdicts(views: Sequence[RunView]) -> list[Verdict]:
    """A sentence for each policy that has a predecessor, and one for each reward model."""
    found = []
    for view, reward in reward_models(views):
        text = f"orders {reward.accuracy.mean:.0%} of the held-out pairs as their labels do"
        if reward.noise_ceiling is not None:
            text += f" (noise ceiling {reward.noise_ceiling.mean:.0%})"
        found.append(Verdict(view, text + "."))
    for view, policy in policies(views):
        start = starting_policy(view, views)
        before = _policy_of(start)
        if start is not None and before is not None:
            found.append(Verdict(view, _progress(policy, before, start.name)))
    return found


def _progress(policy: PolicyEvaluation, before: PolicyEvaluation, start: str) -> str:
    difference, parts = gain(policy, before), []
    if policy.gold is not None and before.gold is not None and difference is not None:
        parts.append(
            f"earns {number(policy.gold.mean)} gold points of at most 1 on the evaluation prompts, against "
            f"{number(before.gold.mean)} of {start} ({_signed(difference)})"
        )
    elif policy.reward_model_score is not None and before.reward_model_score is not None:
        parts.append(
            f"is scored {number(policy.reward_model_score.mean)} by the reward model, against "
            f"{number(before.reward_model_score.mean)} of {start}"
        )
    if policy.win_rate is not None:
        parts.append(f"wins {policy.win_rate.mean:.0%} of the comparisons with {Path(policy.opponent or '?').name}")
    if policy.kl is not None:
        parts.append(f"lies {number(policy.kl.mean, 1)} nats away from its reference")
    if not parts:
        return "was evaluated, but nothing judged its answers."
    return (" and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]) + "."


def _signed(estimate: Estimate) -> str:
    low, high = (number(value) for value in (estimate.low, estimate.high))
    return f"{'+' if estimate.mean >= 0 else ''}{number(estimate.mean)}, 95% interval {low} to {high}"


def exchanges(found: Sequence[tuple[RunView, PolicyEvaluation]]) -> list[Exchange]:
    """Evenly spaced prompts that every policy answered, each with every policy's first answer."""
    if not found:
        return []
    first = [{a.prompt_id: a for a in reversed(policy.answers)} for _, policy in found]
    ordered = dict.fromkeys(answer.prompt_id for answer in found[0][1].answers)
    shared = [prompt for prompt in ordered if all(prompt in answers for answers in first)]
    shown = min(ANSWERS_SHOWN, len(shared))
    chosen = [shared[index * len(shared) // shown] for index in range(shown)]
    return [
        Exchange(first[0][prompt].prompt, [(view, own[prompt]) for (view, _), own in zip(found, first, strict=True)])
        for prompt in chosen
    ]


def _sections(views: Sequence[RunView]) -> list[tuple[str, str, str, str, list[Figure]]]:
    """(anchor, short name, title, lead, figures)."""
    return [
        (
            "quality",
            "Quality",
            "Are the answers better?",
            overlaps(views),
            quality_figures(views),
        ),
        (
            "reward-model",
            "Reward model",
            "Can the reward model be trusted?",
            "Everything after it stands on it.",
            reward_figures(views),
        ),
        (
            "cost",
            "Cost",
            "What did the reward cost?",
            "A policy can raise its score by exploiting the reward model. Distance and truth show it.",
            cost_figures(views),
        ),
        ("training", "Training", "How did training go?", "As logged in metrics.jsonl.", training_figures(views)),
    ]


def _generations(views: Sequence[RunView]) -> list[list[RunView]]:
    """Runs by how many generations of parents they have."""
    levels: dict[int, list[RunView]] = {}
    for view in views:
        levels.setdefault(depth_of(view, views), []).append(view)
    return [levels[level] for level in sorted(levels)]


def _versions(views: Sequence[RunView]) -> list[tuple[str, list[str]]]:
    """Package → its version in each run."""
    names = dict.fromkeys(name for view in views for name in view.record.get("versions", {}))
    return [(name, [str(view.record.get("versions", {}).get(name, "–")) for view in views]) for name in names]


def _conditions(found: Sequence[tuple[RunView, PolicyEvaluation]]) -> list[tuple[str, dict[str, Any]]]:
    """How each policy was measured."""
    return [
        (
            view.name,
            {
                "answers": len(policy.answers),
                "prompts": policy.length.prompts,
                "temperature": policy.temperature,
                "seed": view.evaluation.seed if view.evaluation else None,
                "opponent": Path(policy.opponent).name if policy.opponent else None,
                "judge": policy.judge,
            },
        )
        for view, policy in found
    ]


def _config(view: RunView) -> str | None:
    path = view.folder.config_path
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _policy_of(view: RunView | None) -> PolicyEvaluation | None:
    return view.evaluation.policy if view is not None and view.evaluation is not None else None


def _title(views: Sequence[RunView]) -> str:
    folders = {view.folder.path.resolve().parent for view in views}
    return folders.pop().name if len(folders) == 1 and len(views) > 1 else ", ".join(view.name for view in views)
