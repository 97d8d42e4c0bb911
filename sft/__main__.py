"""`python -m sft CONFIG.yaml [a.b=value …] [--dry-run] [--resume]`."""

from sft.config import SftConfig
from sft.inputs import check_inputs
from workbench.run.command_line import parse_command_line, run_main


def main(argv: list[str]) -> int:
    """Run the phase from its command line."""
    command = parse_command_line(SftConfig, argv, prog="python -m sft", description=__doc__ or "", check=check_inputs)
    if command.dry_run:
        return 0
    from sft.train import train  # after all that it needs is known to be there: torch takes seconds to import

    train(command.config, resume=command.resume)
    return 0


if __name__ == "__main__":
    run_main(main)
