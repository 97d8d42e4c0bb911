"""Claim: what the demo shows is learnt from the labels. Each control breaks one thing; the effect must vanish or turn.

Needs a finished demo (runs/demo). Controls: labels shuffled (accuracy ½); the reward's sign flipped (gold falls); a
reward model fitted too long on 300 pairs whose label is "the longer one", and PPO without KL penalty against it (score
rises, gold falls: over-optimisation).

    python -m benchmarks.negative_controls
"""

import json
from pathlib import Path
from typing import Any

from benchmarks.command import command
from workbench.data.readers import read_preferences, write_records
from workbench.evaluate.evaluation import read_evaluation
from workbench.evaluate.summary import policy_summary, reward_summary
from workbench.run.checkpoints import write_text_atomically
from workbench.run.lineage import git_commit

OUT = Path("benchmarks/results/negative_controls.json")
DEMO, RUNS = Path("runs/demo"), Path("runs/controls")


def main() -> None:
    """Run the controls and write what they gave."""
    biased = RUNS / "longer.jsonl"
    RUNS.mkdir(parents=True, exist_ok=True)
    write_records(biased, longer_is_better(DEMO / "annotate/preferences.jsonl", 300))
    fresh = ("run.overwrite=true", "tracking.wandb=disabled")
    reward, ppo = ("reward", "configs/tiny/reward.yaml"), ("ppo", "configs/tiny/ppo.yaml")
    command(*reward, f"run.dir={RUNS / 'shuffled'}", "data.shuffle_labels=true", *fresh)
    command(
        *reward,
        f"run.dir={RUNS / 'longer'}",
        f"data.train={biased}",
        "data.heldout_share=0.1",
        "train.epochs=4.0",
        *fresh,
    )
    command(*ppo, f"run.dir={RUNS / 'flipped'}", "reward.sign=-1", *fresh)
    command(
        *ppo,
        f"run.dir={RUNS / 'overoptimised'}",
        f"model.reward={RUNS / 'longer'}",
        "model.force=true",  # its passport fails, as it should
        "reward.kl_coef=0.0",
        "reward.score_clip=0.0",
        "evaluation.every=5",
        *fresh,
    )
    command("workbench", "evaluate", str(RUNS / "shuffled"), str(RUNS / "flipped"), "--reward", str(DEMO / "reward"))
    command("workbench", "evaluate", str(RUNS / "overoptimised"), "--reward", str(RUNS / "longer"))
    command(
        "workbench", "report", str(RUNS / "overoptimised"), str(RUNS / "longer"), "--out", str(RUNS / "report.html")
    )
    write_text_atomically(OUT, json.dumps(results(), indent=1) + "\n")
    print(OUT.read_text(encoding="utf-8"))


def longer_is_better(path: Path, number: int) -> list[Any]:
    """The first pairs of different length, relabelled so that the longer answer is chosen."""
    records = []
    for record in read_preferences(path):
        if len(record.chosen_text) < len(record.rejected_text):
            record = record.model_copy(update={"chosen": record.rejected, "rejected": record.chosen})
        if len(record.chosen_text) > len(record.rejected_text):
            records.append(record.model_copy(update={"split": None}))
    return records[:number]


def results() -> dict[str, Any]:
    """Numbers of the controls beside the demo's own."""
    policies = {
        "sft": DEMO / "sft",
        "ppo": DEMO / "ppo",
        "flipped": RUNS / "flipped",
        "overoptimised": RUNS / "overoptimised",
    }
    content: dict[str, Any] = {"commit": git_commit(), "seed": 0}
    for name, path in policies.items():
        policy = read_evaluation(path).policy
        assert policy is not None
        content[name] = policy_summary(policy)
        content[name]["trajectory"] = [
            {"step": p.step, "score": p.score, "gold": p.gold, "kl": p.kl} for p in policy.trajectory
        ]
    for name, path in {"reward": DEMO / "reward", "shuffled": RUNS / "shuffled"}.items():
        model = read_evaluation(path).reward_model
        assert model is not None
        content[name] = reward_summary(model)
    return content


if __name__ == "__main__":
    main()
