"""`python -m reward passport RUN [passport.x=value …] [--dry-run]`: examine a finished reward run anew."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from reward.config import PassportSection, RewardConfig
from reward.inputs import check_passport
from workbench.data.inputs import usable_run
from workbench.run.config import describe, load_config
from workbench.run.errors import WorkbenchError


def main(argv: Sequence[str]) -> int:
    """Write the passport; exit code 0 where it passes, 1 where it fails.

    Raises:
        WorkbenchError: no such run, an override of anything but `passport.…` and `model.base`, or broken data.
    """
    parser = argparse.ArgumentParser(prog="python -m reward passport", description=__doc__)
    parser.add_argument("run", help="folder of a finished reward run")
    parser.add_argument("overrides", nargs="*", metavar="passport.x=value", help="limits that replace the run's own")
    parser.add_argument("--dry-run", action="store_true", help="print the limits and stop")
    arguments = parser.parse_intermixed_args(list(argv))
    for text in arguments.overrides:
        if not text.startswith(("passport.", "model.base=")):
            raise WorkbenchError(f"command line: {text!r}", "is not of the examination", expected="passport.x=value")
    config_path = Path(arguments.run) / "config.yaml"
    if arguments.dry_run and not config_path.is_file():
        section = PassportSection()
        print(describe(section, dict.fromkeys(section.model_dump(), "default")))
        return 0
    folder = usable_run(arguments.run, "reward")
    config, _ = load_config(RewardConfig, config_path, arguments.overrides)
    given = {text.partition("=")[0].removeprefix("passport.") for text in arguments.overrides}
    if arguments.dry_run:
        print(describe(config.passport, origins_of(config.passport, given)))
        return 0
    check_passport(arguments.run, config.model.base, config.passport.facts)
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
