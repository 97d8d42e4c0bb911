"""Runs the rounds one after the other; each ends with the report over all rounds so far."""

import os
from pathlib import Path

from workbench.loop.config import LoopConfig
from workbench.loop.plan import page_command, plan
from workbench.run.steps import check_commands, run_steps


def run_loop(config: LoopConfig) -> None:
    """Run every command that has not ended yet; the same call resumes a loop that was stopped or killed.

    Raises:
        WorkbenchError: a configuration is wrong, a command failed, or the loop began with other values.
    """
    out, section = Path(config.loop.out), config.loop
    os.environ.setdefault("WANDB_RUN_GROUP", out.name)  # one W&B group for the runs of all rounds
    check_commands(plan(config), out)
    if section.annotators == "people":
        print(f"once the first pairs are loaded, label here, also while the machine trains:\n  {page_command(config)}")
    for number in range(section.rounds + 1):
        ledger = run_steps(plan(config, number), out, description=f"round {number} of {section.rounds}")
        from workbench.loop.page import write_results  # matplotlib and scikit-learn take seconds to import

        print("\n".join(write_results(config, ledger, number)), flush=True)
