"""People's spot checks in a report: their win rate on one plot with the reward. Knows people.jsonl, no model."""

from collections.abc import Sequence

from workbench.evaluate.charts import SERIES, Series, share_chart
from workbench.evaluate.collect import RunView
from workbench.evaluate.figures import Figure

CAPTION = (
    "Left axis: the mean score of the rollouts by the reward model, which PPO raises. Right axis: how often people "
    "preferred the policy's answer to that of the start policy, blind; a tie counts half. The bars are 95 % intervals "
    "that hold at every look, one per check. On the dashed line, people see no difference. If the win rate falls below "
    "it while the score rises, the policy exploits the reward model."
)


def people_figures(views: Sequence[RunView]) -> list[Figure]:
    """A figure for each run with spot checks."""
    return [figure for view in views if (figure := _figure(view)) is not None]


def _figure(view: RunView) -> Figure | None:
    rows = view.folder.read_people()
    if not rows:
        return None
    title = f"Reward and people · {view.name}"
    checks = [check for check in rows[-1]["checks"] if check["judged"]]
    steps, scores = view.series("objective/score")
    if not checks or not steps:
        asked = sum(check["asked"] for check in rows[-1]["checks"])
        return Figure(title, "", missing=f"Nobody has judged one of the {asked} pairs of this run's spot checks yet.")
    wins = Series(
        "people's win rate (right axis)",
        [float(check["iteration"]) for check in checks],
        [check["won"] / check["judged"] for check in checks],
        view.colour % SERIES + 1,
        interval=([check["low"] for check in checks], [check["high"] for check in checks]),
    )
    score = Series("reward model", steps, scores, view.colour)
    svg = share_chart(f"people-{view.colour}", score, wins, x_label="iteration", y_label="mean score, σ")
    return Figure(title, f"{_outcome(view, rows[-1])} {CAPTION}", svg)


def _outcome(view: RunView, row: dict[str, object]) -> str:
    """One sentence about the whole run."""
    paused = view.record.get("people")
    if paused:
        return f"The run paused in iteration {paused['paused_at']}: {paused['why']}."
    return f"Spot checks: {row['why']}." if row["why"] else "People's judgements gave no reason to pause the run."
