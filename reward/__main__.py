"""`python -m reward CONFIG.yaml [a.b=value …] [--dry-run] [--resume]`, or a verb about finished runs.

The verbs: `passport` (reward/passport/command.py), `score`, `explain`, `acquire`, `curve` (reward/verbs.py).
"""

from reward.config import RewardConfig
from reward.inputs import check_inputs
from reward.verbs import VERBS, make_parser
from workbench.run.command_line import parse_command_line, run_main


def main(argv: list[str]) -> int:
    """Run the phase, or what is asked about a finished run, from its command line."""
    if argv[:1] == ["passport"]:
        from reward.passport.command import main as passport

        return passport(argv[1:])
    if argv and argv[0] in VERBS:
        arguments = make_parser().parse_args(argv)
        arguments.run(arguments)
        return 0
    command = parse_command_line(
        RewardConfig, argv, prog="python -m reward", description=__doc__ or "", check=check_inputs
    )
    if command.dry_run:
        return 0
    from reward.train import train  # after all that it needs is known to be there: torch takes seconds to import

    train(command.config, resume=command.resume)
    return 0


if __name__ == "__main__":
    run_main(main)
