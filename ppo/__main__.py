"""`python -m ppo CONFIG.yaml [a.b=value …] [options]`: PPO, or DPO or SLiC-HF, as `method` in the file says."""

import argparse
from pathlib import Path

from ppo.config import ContrastiveConfig, PpoConfig, method_of
from ppo.inputs import check_contrastive_inputs, check_inputs
from workbench.run.command_line import add_config_arguments, parse_words, read_command, run_main


def main(argv: list[str]) -> int:
    """Run the phase from its command line."""
    parser = argparse.ArgumentParser(prog="python -m ppo", description=__doc__)
    add_config_arguments(parser)
    parser.add_argument(
        "--force", action="store_true", help="model.force=true: train although a reward run has no valid passport"
    )
    arguments = parse_words(parser, argv)
    if arguments.force:
        arguments.overrides.append("model.force=true")
    # Training is imported once the inputs are known to be usable: torch takes seconds to import.
    if method_of(Path(arguments.config), arguments.overrides) == "ppo":
        ppo = read_command(PpoConfig, arguments, check_inputs)
        if not ppo.dry_run:
            from ppo.train import train

            train(ppo.config, resume=ppo.resume)
        return 0
    contrastive = read_command(ContrastiveConfig, arguments, check_contrastive_inputs)
    if not contrastive.dry_run:
        from ppo.contrastive.train import train as train_contrastive

        train_contrastive(contrastive.config, resume=contrastive.resume)
    return 0


if __name__ == "__main__":
    run_main(main)
