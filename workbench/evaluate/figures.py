"""The figures of a report, with captions that say how to read them. Draws with `charts`."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from workbench.evaluate.charts import (
    SERIES,
    Series,
    interval_chart,
    line_chart,
    path_chart,
    reliability_chart,
    stacked_chart,
)
from workbench.evaluate.collect import RunView
from workbench.evaluate.evaluation import PolicyEvaluation, RewardEvaluation, TrajectoryPoint
from workbench.evaluate.statistics import Estimate

LOSS = re.compile(r"(^|/)loss$")
HELDOUT = ("validation/", "old_validation/", "heldout/")
"""Metric groups that are measured on held-out data."""


@dataclass(frozen=True)
class Figure:
    """A chart with title and caption, or the reason why there is none."""

    title: str
    caption: str
    svg: str | None = None
    missing: str | None = None


def policies(views: Iterable[RunView]) -> list[tuple[RunView, PolicyEvaluation]]:
    """The runs with a policy evaluation."""
    return [(v, v.evaluation.policy) for v in views if v.evaluation is not None and v.evaluation.policy is not None]


def reward_models(views: Iterable[RunView]) -> list[tuple[RunView, RewardEvaluation]]:
    """The runs with a reward-model evaluation."""
    return [
        (v, v.evaluation.reward_model)
        for v in views
        if v.evaluation is not None and v.evaluation.reward_model is not None
    ]


def quality_figures(views: Sequence[RunView]) -> list[Figure]:
    """Gold reward, win rates and parts of the gold reward; the score if no gold reward is known."""
    found = policies(views)
    if not found:
        return [Figure("Gold reward", "", missing=f"No policy has been evaluated. {_remedies(views)}")]
    return [_gold(found), _wins(found), _gold_parts(found)]


def _gold(found: Sequence[tuple[RunView, PolicyEvaluation]]) -> Figure:
    title, label, caption = (
        "Gold reward",
        "gold reward, at most 1",
        "Mean gold reward of the answers to held-out prompts. No training phase can read it. Dots are means, bars 95% "
        "intervals over prompts: two policies whose bars do not overlap differ by more than chance.",
    )
    estimates = [(view, policy.gold) for view, policy in found]
    if all(estimate is None for _, estimate in estimates):
        title, label, caption = (
            "Reward-model score",
            "score of the reward model",
            "No gold reward is known for these prompts, so the reward model judges. Training optimised the same "
            "score: a higher score shows that training worked, not that people would prefer the answers.",
        )
        estimates = [(view, policy.reward_model_score) for view, policy in found]
    rows = [(view.name, [(view.name, e, view.colour)]) for view, e in estimates if e is not None]
    if not rows:
        return Figure(title, "", missing="Neither a gold reward nor a reward model judged these answers.")
    return Figure(title, caption, interval_chart("gold", rows, x_label=label))


def _gold_parts(found: Sequence[tuple[RunView, PolicyEvaluation]]) -> Figure:
    title = "Parts of the gold reward"
    names = list(dict.fromkeys(name for _, policy in found for name in policy.gold_parts))
    if not names:
        return Figure(title, "", missing="The parts are known only for prompts of the embedded task.")
    rows = [
        (name, [(v.name, p.gold_parts[name], v.colour) for v, p in found if name in p.gold_parts]) for name in names
    ]
    caption = (
        "The parts add up to the gold reward. Look for a part that grew at the cost of another: courtesy is learnt "
        "before facts, because it is the same in every answer."
    )
    return Figure(title, caption, interval_chart("parts", rows, x_label="points"))


def _wins(found: Sequence[tuple[RunView, PolicyEvaluation]]) -> Figure:
    title, rows = "Win rate", []
    for view, policy in found:
        wins = policy.win_rate
        if wins is not None:
            estimate = Estimate(wins.mean, wins.low, wins.high, wins.count, wins.prompts)
            rows.append((f"{view.name} against {_folder_name(policy.opponent)}", [(view.name, estimate, view.colour)]))
    if not rows:
        return Figure(title, "", missing="No run was compared with another: python -m workbench evaluate RUN --help")
    judges = " and ".join(dict.fromkeys(p.judge or "" for _, p in found if p.win_rate is not None))
    caption = (
        "How often an answer of the first policy beats an answer of the second to the same prompt; a tie counts half. "
        f"Judged by: {judges}. The dashed line marks no difference."
    )
    svg = interval_chart("wins", rows, x_label="win rate", reference=0.5, limits=(0.0, 1.0))
    return Figure(title, caption, svg)


def reward_figures(views: Sequence[RunView]) -> list[Figure]:
    """Reliability and accuracy of each reward model."""
    found = reward_models(views)
    if not found:
        rewards = [view for view in views if view.phase == "reward"]
        reason = (
            f"No reward model has been evaluated. {_remedies(rewards)}" if rewards else "This report has no reward run."
        )
        return [Figure("Reliability", "", missing=reason)]
    figures = []
    for view, reward in found:
        suffix = f" · {view.name}" if len(found) > 1 else ""
        figures += [_reliability(view, reward, suffix), _accuracy(view, reward, suffix)]
    return figures


def _reliability(view: RunView, reward: RewardEvaluation, suffix: str) -> Figure:
    over = sum(b.count * (b.confidence - b.accuracy) for b in reward.reliability)
    calibrated = reward.ece <= 1.5 * reward.ece_by_chance
    tendency = "overconfident" if over > 0 else "underconfident"
    verdict = "no more than expected by chance" if calibrated else f"on average the reward model is {tendency}"
    caption = (
        "Pairs are sorted by the reward model's confidence σ(|score gap|) and cut into bins of equal size. On the "
        "dashed diagonal confidence equals accuracy; below it the model is overconfident. "
        f"Calibration error {reward.ece:.3f}: {verdict}."
    )
    return Figure(
        f"Reliability{suffix}",
        caption,
        reliability_chart(f"reliability-{view.colour}", reward.reliability, colour=view.colour),
    )


def _accuracy(view: RunView, reward: RewardEvaluation, suffix: str) -> Figure:
    marks = [("agrees with labels", reward.accuracy), ("agrees with gold reward", reward.gold_accuracy)]
    marks.append(("noise ceiling", reward.noise_ceiling))
    rows = [(label, [(label, e, view.colour)]) for label, e in marks if e is not None]
    caption = (
        "On held-out pairs; the dashed line is chance. Annotators make mistakes, so even the gold reward does not "
        "agree with every label. Its agreement is the noise ceiling: the best that a reward model can reach."
        if reward.noise_ceiling is not None
        else "On held-out pairs; the dashed line is chance. No gold reward is known, so there is no noise ceiling."
    )
    svg = interval_chart(f"accuracy-{view.colour}", rows, x_label="share of pairs", reference=0.5)
    return Figure(f"Accuracy{suffix}", caption, svg)


def training_figures(views: Sequence[RunView]) -> list[Figure]:
    """The loss curves of all runs, and the reward curve."""
    return [*[_losses(view) for view in views], _reward_curve(views)]


def _losses(view: RunView) -> Figure:
    title = f"Loss · {view.name}"
    names = list(dict.fromkeys(key for row in view.metrics for key in row if LOSS.search(key)))
    curves = {name: view.series(name) for name in names}
    kept = [
        (name, Series(name, x, y, view.colour)) for name, (x, y) in curves.items() if x and not name.startswith(HELDOUT)
    ]
    if not kept:
        return Figure(title, "", missing=f"No loss was logged in {view.folder.metrics_path.name}.")
    checked = [
        Series(name, x, y, view.colour % SERIES + 1)
        for name, (x, y) in curves.items()
        if x and name.startswith(HELDOUT)
    ]
    caption = "Faint: as logged; strong: rolling mean." if len(kept) == 1 else "As logged."
    if checked:
        last = checked[0].y[-1]
        caption += f" Second colour: held-out data ({last:.3g} at the end); a rise means overfitting."
    if "value/loss" in curves:
        caption += " In PPO, the policy loss says little; the value loss should fall."
    if len(kept) == 1:
        name = "loss" if checked else kept[0][0]
        svg = line_chart(f"loss-{view.colour}", [kept[0][1], *checked], x_label="step", y_label=name, smooth=True)
    else:
        panels = [(name, [line]) for name, line in kept]
        svg = stacked_chart(f"loss-{view.colour}", panels, x_label="step", marker="")
    return Figure(title, caption, svg)


def _reward_curve(views: Sequence[RunView]) -> Figure:
    title = "Reward curve"
    lines = [Series(view.name, *view.series("objective/score"), view.colour) for view in views]
    lines = [line for line in lines if line.x]
    if not lines:
        return Figure(title, "", missing="No run logged `objective/score`: only PPO has a reward curve.")
    caption = (
        "Mean score of the answers sampled in each iteration. It should rise. A rise alone does not show better "
        "answers: compare it with KL and gold reward."
    )
    svg = line_chart("reward-curve", lines, x_label="iteration", y_label="objective/score", smooth=True)
    return Figure(title, caption, svg)


def cost_figures(views: Sequence[RunView]) -> list[Figure]:
    """Score against KL, and over-optimisation."""
    return [_reward_against_kl(views), *_over_optimisation(views)]


def _reward_against_kl(views: Sequence[RunView]) -> Figure:
    title, lines = "Reward against KL", []
    for view in views:
        kl, score = (dict(zip(*view.series(f"objective/{name}"), strict=True)) for name in ("kl", "score"))
        steps = [step for step in kl if step in score]
        if steps:
            lines.append(Series(view.name, [kl[s] for s in steps], [score[s] for s in steps], view.colour))
    if not lines:
        return Figure(title, "", missing="No run logged both `objective/score` and `objective/kl`.")
    caption = (
        "Each dot is one iteration, the line is their rolling mean from start (hollow) to end (filled). Where the path "
        "bends to the right, the same gain in score takes more and more KL."
    )
    svg = path_chart("reward-kl", lines, x_label="KL to the reference, nats per answer", y_label="objective/score")
    return Figure(title, caption, svg)


def _over_optimisation(views: Sequence[RunView]) -> list[Figure]:
    title, figures = "Over-optimisation", []
    for view, policy in policies(views):
        known = [p for p in policy.trajectory if None not in (p.kl, p.score, p.gold)]
        if len(known) < 2:
            continue
        root = [math.sqrt(max(0.0, p.kl or 0.0)) for p in known]
        panels = [
            ("score of the reward model", [Series(view.name, root, [p.score or 0.0 for p in known], view.colour)]),
            (
                "gold reward",
                [Series(view.name, root, [p.gold or 0.0 for p in known], view.colour, _gold_interval(known))],
            ),
        ]
        count = min(p.count for p in known)
        caption = (
            "Score (above) and gold reward (below) of the same sampled answers, against √KL to the reference. While "
            "both rise, the reward model is a good proxy. If gold reward falls while the score rises, the policy "
            f"exploits the reward model. Bars are two standard errors; each point is at least {count} answers."
        )
        suffix = f" · {view.name}"
        figures.append(
            Figure(title + suffix, caption, stacked_chart(f"over-{view.colour}", panels, x_label="√KL, √nats"))
        )
    if figures:
        return figures
    reason = (
        "No run has samples over several steps with score, KL and gold reward. PPO writes samples to samples.jsonl; "
        "evaluating the run adds the gold reward."
    )
    return [Figure(title, "", missing=reason)]


def _gold_interval(points: Sequence[TrajectoryPoint]) -> tuple[list[float], list[float]]:
    low, high = ([(p.gold or 0.0) + sign * 2 * (p.gold_error or 0.0) for p in points] for sign in (-1, 1))
    return low, high


def _remedies(views: Iterable[RunView]) -> str:
    return " · ".join(f"{view.name}: {view.missing}" for view in views if view.missing)


def _folder_name(path: str | None) -> str:
    return "?" if path is None else path.rstrip("/").rsplit("/", 1)[-1]
