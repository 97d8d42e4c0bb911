"""The report: one self-contained HTML page about a set of runs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.evaluate.alarms import Alarm, gain, policy_alarms, reward_alarms, run_alarms
from workbench.evaluate.classifier_figures import classifier_alarms, classifier_blocks, classifiers
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
from workbench.evaluate.guard_figures import guard_blocks
from workbench.evaluate.overlap import overlap
from workbench.evaluate.pages import TEMPLATES, render_page
from workbench.evaluate.people_figures import people_figures
from workbench.evaluate.summary import parts_moved
from workbench.evaluate.tables import number, policy_rows, reward_rows
from workbench.run.checkpoints import write_text_atomically
from workbench.run.errors import WorkbenchError
from workbench.run.folder import FINISHED
from workbench.run.outputs import check_outputs
from workbench.run.progress import duration

ANSWERS_SHOWN = 10


@dataclass(frozen=True)
class Verdict:
    """The headline result of one run."""

    view: RunView
    text: str


@dataclass(frozen=True)
class Exchange:
    """One prompt and the answer of each policy."""

    prompt: list[dict[str, str]]
    answers: list[tuple[RunView, Answer]]


def build_report(runs: Sequence[Path], out: Path) -> Path:
    """Write the report of the given runs; returns `out`.

    Args:
        runs: run folders of any phases, in any order.
        out: the HTML file to write, atomically.

    Raises:
        WorkbenchError: no run is given, one is missing or broken, or `out` is a file of one, except
            a page. A run without evaluation is shown as such.
    """
    if not runs:
        raise WorkbenchError("report", "no run is given", remedy="python -m workbench report runs/NAME …")
    views = read_runs([Path(run) for run in runs])
    files = [file for view in views for file in view.folder.path.iterdir() if file.suffix != ".html"]
    check_outputs({"--out": out}, files, remedy="--out ANOTHER.html")
    write_text_atomically(out, render(views, title=_title(views)))
    return out


def render(views: Sequence[RunView], *, title: str) -> str:
    """The page as text."""
    found = policies(views)
    blocks = classifier_blocks(views)
    return render_page(
        TEMPLATES / "report.html.jinja",
        filters={"duration": duration, "zip": zip},
        classifier_blocks=blocks,
        answering=not blocks or any(view.phase != "classify" for view in views),
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
        guard_blocks=guard_blocks(views),
        exchanges=exchanges(found),
        generations=_generations(views),
        versions=_versions(views),
        configs=[(view, _config(view)) for view in views],
        conditions=_conditions(found),
    )


def alarms(views: Sequence[RunView]) -> list[Alarm]:
    """The warnings about all runs."""
    found = [
        Alarm(view.name, f"The run is not finished (status {view.record['status']}), so its numbers may change.")
        for view in views
        if view.record.get("status", "finished") not in FINISHED
    ]
    for view in views:
        found += run_alarms(view.name, view.record, _passport(view), view.series("validation/loss")[1])
    for view, policy in policies(views):
        start = starting_policy(view, views)
        optimised = any(role.startswith("reward") for role in view.parents)
        found += policy_alarms(view.name, policy, _policy_of(start), optimised=optimised)
    for view, reward in reward_models(views):
        found += reward_alarms(view.name, reward)
    return [*found, *classifier_alarms(views)]


def _passport(view: RunView) -> dict[str, Any] | None:
    path = view.folder.path / "passport.json"
    if not path.is_file():
        return None
    passport: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return passport


def overlaps(views: Sequence[RunView]) -> str:
    """A sentence about how many evaluation prompts each run was trained on."""
    found = policies(views)
    prompts = {answer.prompt_id: answer.prompt for _, policy in found for answer in policy.answers}
    if not prompts:
        return "No policy was evaluated."
    each = [overlap(view.name, view.folder, list(prompts.values())) for view in views]
    return "Evaluation prompts seen in training, compared by text: " + "; ".join(one.sentence() for one in each) + "."


def verdicts(views: Sequence[RunView]) -> list[Verdict]:
    """One line per classifier and reward model, and one per policy that started from another evaluated policy."""
    found = [Verdict(view, classifier.verdict()) for view, classifier in classifiers(views)]
    for view, reward in reward_models(views):
        ceiling = f" (noise ceiling {reward.noise_ceiling.mean:.0%})" if reward.noise_ceiling is not None else ""
        found.append(Verdict(view, f"accuracy {reward.accuracy.mean:.0%} on held-out pairs{ceiling}"))
    for view, policy in policies(views):
        start = starting_policy(view, views)
        before = _policy_of(start)
        if start is not None and before is not None:
            found.append(Verdict(view, _progress(policy, before, start.name)))
    return found


def _progress(policy: PolicyEvaluation, before: PolicyEvaluation, start: str) -> str:
    """For example "gold reward 0.58 (sft 0.26, +0.32, 95% CI 0.27 to 0.37); wins 76% against sft; KL 2.0 nats …"."""
    difference, parts = gain(policy, before), []
    if policy.gold is not None and before.gold is not None and difference is not None:
        parts.append(
            f"gold reward {number(policy.gold.mean)} ({start} {number(before.gold.mean)}, {_signed(difference.mean)}, "
            f"95% CI {number(difference.low)} to {number(difference.high)})"
        )
    elif policy.reward_model_score is not None and before.reward_model_score is not None:
        parts.append(
            f"reward-model score {number(policy.reward_model_score.mean)} "
            f"({start} {number(before.reward_model_score.mean)})"
        )
    if policy.win_rate is not None:
        parts.append(f"wins {policy.win_rate.mean:.0%} against {Path(policy.opponent or '?').name}")
    if policy.kl is not None:
        parts.append(f"KL {number(policy.kl.mean, 1)} nats per answer")
    if moved := parts_moved(*({name: one.mean for name, one in p.gold_parts.items()} for p in (before, policy))):
        parts.append(f"parts of gold: {moved}")
    return "; ".join(parts) or "evaluated without a judge"


def _signed(value: float) -> str:
    return f"{'+' if value >= 0 else ''}{number(value)}"


def exchanges(found: Sequence[tuple[RunView, PolicyEvaluation]]) -> list[Exchange]:
    """Evenly spaced prompts that every policy answered, each with the first answer of every policy."""
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


def _sections(views: Sequence[RunView]) -> list[tuple[str, str, str, list[Figure]]]:
    """(anchor, title, lead, figures); runs that only classify texts have no answers to show."""
    training = ("training", "Training", "As logged in metrics.jsonl.", training_figures(views))
    if classifiers(views) and all(view.phase == "classify" for view in views):
        return [training]
    people = people_figures(views)
    spot_checks = [("people", "Spot checks", "What people say of the policy while it trains, blind.", people)]
    return [
        ("quality", "Answer quality", overlaps(views), quality_figures(views)),
        (
            "reward-model",
            "Reward model",
            "PPO optimises the reward model, so its errors limit everything after it.",
            reward_figures(views),
        ),
        (
            "kl",
            "Reward against KL",
            "A policy can raise its score by exploiting the reward model. KL and gold reward show whether it did.",
            cost_figures(views),
        ),
        training,
        *(spot_checks if people else []),
    ]


def _generations(views: Sequence[RunView]) -> list[list[RunView]]:
    """The runs grouped by their number of generations of parents."""
    levels: dict[int, list[RunView]] = {}
    for view in views:
        levels.setdefault(depth_of(view, views), []).append(view)
    return [levels[level] for level in sorted(levels)]


def _versions(views: Sequence[RunView]) -> list[tuple[str, list[str]]]:
    """Package → its version per run."""
    names = dict.fromkeys(name for view in views for name in view.record.get("versions", {}))
    return [(name, [str(view.record.get("versions", {}).get(name, "–")) for view in views]) for name in names]


def _conditions(found: Sequence[tuple[RunView, PolicyEvaluation]]) -> list[tuple[str, dict[str, Any]]]:
    """The conditions under which each policy was evaluated."""
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
