"""`python -m reward CONFIG.yaml [a.b=value …] [--dry-run] [--resume]`, or `python -m reward VERB …`."""

from reward.config import RewardConfig
from reward.verbs import VERBS, make_parser
from workbench.run.config import parse_command_line
from workbench.run.errors import run_main


def main(argv: list[str]) -> int:
    """Run the phase from its command line, or one of the verbs about finished runs."""
    if argv[:1] == ["passport"]:
        from reward.passport.command import main as passport

        return passport(argv[1:])
    if argv and argv[0] in VERBS:
        arguments = make_parser().parse_args(argv)
        arguments.run(arguments)
        return 0
    command = parse_command_line(RewardConfig, argv, prog="python -m reward", description=__doc__ or "")
    if command.dry_run:
        return 0
    from reward.train import train  # after the configuration is known to be right: torch takes seconds to import

    train(command.config, resume=command.resume)
    return 0


if __name__ == "__main__":
    run_main(main)
