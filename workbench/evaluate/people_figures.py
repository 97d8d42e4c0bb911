"""People's spot checks in a report: their win rates on one plot with the reward. Knows people.jsonl, no model."""

from collections.abc import Sequence
from typing import Any

from workbench.evaluate.charts import SERIES, Series, share_chart
from workbench.evaluate.collect import RunView
from workbench.evaluate.figures import Figure

CAPTION = (
    "Left axis: the mean score of the rollouts by the reward model, which PPO raises. Right axis: how often people "
    "preferred the policy's answer to that of the start policy, blind, in random pairs and in those of which the "
    "reward model is surest; a tie counts half. The bars are 95 % intervals that hold at every look, one per check. On "
    "the dashed line, people see no difference. A sound policy wins at least half of the random pairs and two thirds "
    "of the others. If people disagree while the score rises, the policy exploits the reward model."
)

KINDS = {"random": "people's win rate (right axis)", "surest": "the same, reward model surest (right axis)"}


def people_figures(views: Sequence[RunView]) -> list[Figure]:
    """A figure for each run with spot checks."""
    return [figure for view in views if (figure := _figure(view)) is not None]


def _figure(view: RunView) -> Figure | None:
    rows = view.folder.read_people()
    if not rows:
        return None
    title = f"Reward and people · {view.name}"
    steps, scores = view.series("objective/score")
    shares = [
        _share(rows[-1]["checks"], kind, label, view.colour % SERIES + place)
        for place, (kind, label) in enumerate(KINDS.items(), start=1)
    ]
    shown = [share for share in shares if share.x]
    if not shown or not steps:
        asked = sum(check["asked"] for check in rows[-1]["checks"])
        return Figure(title, "", missing=f"Nobody has judged one of the {asked} pairs of this run's spot checks yet.")
    score = Series("reward model", steps, scores, view.colour)
    svg = share_chart(f"people-{view.colour}", score, shown, x_label="iteration", y_label="mean score, σ")
    return Figure(title, f"{_outcome(view, rows[-1])} {CAPTION}", svg)


def _share(checks: Sequence[dict[str, Any]], kind: str, label: str, colour: int) -> Series:
    judged = [check for check in checks if check[kind]["judged"]]
    return Series(
        label,
        [float(check["iteration"]) for check in judged],
        [check[kind]["won"] / check[kind]["judged"] for check in judged],
        (colour - 1) % SERIES + 1,
        interval=([check[kind]["low"] for check in judged], [check[kind]["high"] for check in judged]),
    )


def _outcome(view: RunView, row: dict[str, object]) -> str:
    """One sentence about the whole run."""
    paused = view.record.get("people")
    if paused:
        return f"The run paused in iteration {paused['paused_at']}: {paused['why']}."
    return f"Spot checks: {row['why']}." if row["why"] else "People's judgements gave no reason to pause the run."
