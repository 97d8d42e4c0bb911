"""Runs the rounds one after the other; each ends with the report over all rounds so far."""

import os
from pathlib import Path

from workbench.loop.config import LoopConfig
from workbench.loop.plan import Round, page_command, plan
from workbench.run.errors import WorkbenchError
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
        ledger = run_steps(plan(config, number), out, description=f"round {number} of {section.rounds}")
        from workbench.loop.page import write_results  # matplotlib and scikit-learn take seconds to import

        print("\n".join(write_results(config, ledger, number)), flush=True)


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
