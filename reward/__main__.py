"""`python -m reward CONFIG.yaml [a.b=value …] [--dry-run] [--resume]`."""

from reward.config import RewardConfig
from workbench.run.config import parse_command_line
from workbench.run.errors import run_main


def main(argv: list[str]) -> int:
    """Run the phase from its command line."""
    command = parse_command_line(RewardConfig, argv, prog="python -m reward", description=__doc__ or "")
    if command.dry_run:
        return 0
    from reward.train import train  # after the configuration is known to be right: torch takes seconds to import

    train(command.config, resume=command.resume)
    return 0


if __name__ == "__main__":
    run_main(main)
