"""The guard's part of a report: what it saw, and its decisions with their reasons. Knows guard.jsonl, no model."""

from collections.abc import Sequence
from dataclasses import dataclass

from workbench.evaluate.charts import SERIES, Series, stacked_chart
from workbench.evaluate.collect import RunView
from workbench.evaluate.figures import Figure

ACTIONS = {
    "say": "warned",
    "beta": "raised the KL penalty",
    "stop": "stopped, and went back",
}
"""What an action of the guard is called."""


@dataclass(frozen=True)
class GuardBlock:
    """One guarded run."""

    view: RunView
    outcome: str
    decisions: list[tuple[int, str, float, str]]
    """(step, action, risk, reasons) of each alarm."""
    figure: Figure


def guard_blocks(views: Sequence[RunView]) -> list[GuardBlock]:
    """A block for each run with a guard."""
    return [block for view in views if (block := _block(view)) is not None]


def _block(view: RunView) -> GuardBlock | None:
    rows = view.folder.read_guard()
    if not rows:
        return None
    alarms = [row for row in rows if row["action"] != "go on"]
    decisions = [(int(row["step"]), ACTIONS[row["action"]], float(row["risk"]), str(row["why"])) for row in alarms]
    steps = [float(row["step"]) for row in rows]
    scores = [Series("held-out judges", steps, [row["judge"] for row in rows], view.colour)]
    if rows[0]["score"] is not None:
        colour = view.colour % SERIES + 1
        scores.append(Series("reward model", steps, [row["score"] for row in rows], colour))
    risk = [Series("risk", steps, [row["risk"] for row in rows], view.colour)]
    caption = (
        "Above: the mean score of the answers, by the judges, which training never reads, and by the reward model that "
        "it optimises. If the reward model's score rises and the judges' does not, the policy exploits the reward "
        "model. Below: the risk that the guard computes from its signals; at the threshold it acts."
    )
    figure = Figure(
        f"Guard · {view.name}",
        caption,
        stacked_chart(f"guard-{view.colour}", [("score, σ", scores), ("risk", risk)], x_label="step", marker=""),
    )
    return GuardBlock(view, _outcome(view, len(rows), len(alarms)), decisions, figure)


def _outcome(view: RunView, observed: int, alarms: int) -> str:
    """One sentence about the whole run."""
    found = view.record.get("guard")
    if found:
        return (
            f"The guard stopped this run at step {found['stopped_at']} and took the policy of step {found['back_to']}."
        )
    if alarms:
        noun = "alarm" if alarms == 1 else "alarms"
        return f"The guard gave {alarms} {noun} in {observed} observations and did not stop the run."
    return f"No alarm in {observed} observations."
