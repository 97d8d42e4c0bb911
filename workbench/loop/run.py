"""Runs the rounds one after the other; each ends with the report over all rounds so far."""

import os
from pathlib import Path

from workbench.data.inputs import sha_of_labels
from workbench.loop.config import LoopConfig
from workbench.loop.plan import Round, page_command, plan
from workbench.run import lock
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.lineage import data_fingerprint
from workbench.run.steps import Ledger, check_commands, run_steps


def run_loop(config: LoopConfig) -> None:
    """Run every command that has not ended yet; the same call resumes a loop that was stopped or killed.

    Raises:
        WorkbenchError: a configuration is wrong, a command failed, or the loop began with other values.
    """
    out, section = Path(config.loop.out), config.loop
    os.environ.setdefault("WANDB_RUN_GROUP", out.name)  # one W&B group for the runs of all rounds
    _check_rounds(config)
    check_commands(plan(config), out)
    if section.annotators == "people":
        print(f"once the first pairs are loaded, label here, also while the machine trains:\n  {page_command(config)}")
    for number in range(section.rounds + 1):
        _export_again(Round(config, number))
        ledger = run_steps(plan(config, number), out, description=f"round {number} of {section.rounds}")
        from workbench.loop.page import write_results  # matplotlib and scikit-learn take seconds to import

        print("\n".join(write_results(config, ledger, number)), flush=True)


def _export_again(this: Round) -> None:
    """Export the labels of a round again if its reward model was refused, and set the model aside if they have changed.

    The loop then fits another one. A policy that has begun keeps the model that it began with.
    """
    ledger, steps = Ledger.open(this.out), {step.part: step for step in plan(this.config) if step.number == this.number}
    if "reward" not in steps or not ledger.is_done(steps["reward"]) or this.policy.exists():
        return
    from workbench.loop.results import read_verdict  # scipy takes seconds to import

    if this.reward.exists():
        if read_verdict(this.reward).outcome == "pass":
            return
        lock.check_free(this.out)
        ledger.drop(steps["export"])
        run_steps([steps["export"]], this.out, description="export")
        if sha_of_labels(RunFolder.open(this.reward)) == data_fingerprint(this.labels)["sha256"]:
            return
        number = 1 + len(list(this.folder.glob("refused-*")))
        refused = this.reward.rename(this.folder / f"refused-{number}")
        print(f"round {this.number}: the labels have changed, so another reward model is fitted; the last is {refused}")
    Ledger.open(this.out).drop(steps["reward"])  # after the renaming: a kill between them is no harm


def _check_rounds(config: LoopConfig) -> None:
    """Check that no finished round is beyond the last one: the report would leave it out."""
    last = Round(config, config.loop.rounds)
    finished = [name.split() for name in Ledger.open(last.out).done if name.startswith("round ")]
    most = max((int(words[1]) for words in finished if words[2:] == ["measure"]), default=0)
    if most > last.number:
        raise WorkbenchError(
            "loop.rounds",
            f"is {last.number}, but {last.out} holds {most} finished rounds, and the report would leave some out",
            expected=f"{most} or more",
            remedy=f"--rounds {most}, or another folder (loop.out=…)",
        )
