"""`python -m reward passport RUN [passport.x=value …] [--dry-run]`: examine a finished reward run anew."""

from collections.abc import Sequence
from pathlib import Path

from reward.config import PassportSection, RewardConfig
from reward.inputs import check_passport
from workbench.data.inputs import usable_run
from workbench.run.config import describe, load_config
from workbench.run.errors import WorkbenchError


def examine_again(run: str, overrides: Sequence[str], *, dry_run: bool) -> int:
    """Write the passport, or with `dry_run` print its limits; returns exit code 0 if it passes, 1 if it fails.

    Raises:
        WorkbenchError: no such run, an override of anything but `passport.…` and `model.base`, or broken data.
    """
    for text in overrides:
        if not text.startswith(("passport.", "model.base=")):
            raise WorkbenchError(f"command line: {text!r}", "is not of the examination", expected="passport.x=value")
    config_path = Path(run) / "config.yaml"
    if dry_run and not config_path.is_file():
        section = PassportSection()
        print(describe(section, dict.fromkeys(section.model_dump(), "default")))
        return 0
    folder = usable_run(run, "reward")
    config, _ = load_config(RewardConfig, config_path, overrides)
    given = {text.partition("=")[0].removeprefix("passport.") for text in overrides}
    if dry_run:
        print(describe(config.passport, origins_of(config.passport, given)))
        return 0
    check_passport(run, config.model.base, config.passport.facts)
    from reward.passport.issue import summary
    from reward.train import examine_run  # torch takes seconds to import

    passport = examine_run(config, folder, given=given)
    print(summary(passport))
    print(folder.path / "passport.html")
    return 0 if passport.outcome == "pass" else 1


def origins_of(section: PassportSection, given: set[str]) -> dict[str, str]:
    """Where each value comes from: the default, the run's file, or the command line."""
    defaults = PassportSection().model_dump()
    return {
        name: "command line" if name in given else "default" if value == defaults[name] else "the run's file"
        for name, value in section.model_dump().items()
    }
