"""Checks of the section `spot_checks` before a model library is loaded."""

from pathlib import Path

from ppo.config import PpoConfig
from ppo.people.store import check_command
from workbench.run.errors import Problems
from workbench.run.shipped import here_or_shipped


def planned(iterations: int, every: int) -> int:
    """How often something happens in a run that does so every so many iterations, the first one not counted: its policy
    is the start policy."""
    return (iterations - 1) // every


def check_spot_checks(problems: Problems, config: PpoConfig) -> None:
    """Collect the problems of spot checks: the label store's configuration, and numbers that fit the run."""
    section, rollout = config.spot_checks, config.rollout
    if section.annotate is None:
        return
    if not planned(config.train.iterations, section.every):
        problems.add(
            "spot_checks.every",
            f"is {section.every}, so that a run of {config.train.iterations} iterations has no check",
            expected=f"less than train.iterations ({config.train.iterations})",
        )
    prompts = rollout.batch_size // rollout.responses_per_prompt
    if section.pairs > prompts:
        problems.add(
            "spot_checks.pairs",
            f"is {section.pairs}, but a rollout has {prompts} prompts",
            expected=f"at most {prompts}",
            remedy=f"spot_checks.pairs={prompts}",
        )
    if not section.annotate.endswith((".yaml", ".yml")) or not here_or_shipped(Path(section.annotate)).is_file():
        problems.add(
            "spot_checks.annotate",
            f"{section.annotate!r} is not a YAML file",
            expected="a configuration of python -m annotate, which names the label store",
            remedy="a file with the line: store: {url: labels.sqlite}",
        )
    else:
        problems.attempt(check_command, section.annotate)
