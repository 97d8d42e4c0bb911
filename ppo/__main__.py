"""`python -m ppo CONFIG.yaml [a.b=value …]` trains; `python -m ppo pairs CONFIG.yaml` builds preference pairs.

`method` in the file decides between PPO and the contrastive methods.
"""

import argparse
from pathlib import Path

from ppo.config import ContrastiveConfig, PpoConfig, method_of
from ppo.inputs import check_contrastive_inputs, check_inputs, check_ladder_inputs
from ppo.ladder.config import PairsConfig
from workbench.run.command_line import add_config_arguments, parse_words, read_command, run_main

VERBS = ("train", "pairs")


def main(argv: list[str]) -> int:
    """Run one verb; `train` if none is given."""
    named = bool(argv) and (argv[0] in VERBS or argv[0] in ("-h", "--help"))
    arguments = parse_words(make_parser(), argv if named else ["train", *argv])
    arguments.run(arguments)
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The verbs and their options."""
    parser = argparse.ArgumentParser(
        prog="python -m ppo", description="Train a policy, or build preference pairs for it. Without a verb: train."
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", prog=parser.prog)
    train = verbs.add_parser("train", help="PPO, or a contrastive method (the default)")
    add_config_arguments(train)
    train.add_argument(
        "--force", action="store_true", help="model.force=true: train although a reward run has no valid passport"
    )
    train.set_defaults(run=_train)
    pairs = verbs.add_parser("pairs", help="sample a ladder of answers, measure it, and write preference pairs")
    add_config_arguments(pairs, resume=False)
    pairs.set_defaults(run=_pairs)
    return parser


def _train(arguments: argparse.Namespace) -> None:
    if arguments.force:
        arguments.overrides.append("model.force=true")
    # Training is imported once the inputs are known to be usable: torch takes seconds to import.
    if method_of(Path(arguments.config), arguments.overrides) == "ppo":
        ppo = read_command(PpoConfig, arguments, check_inputs)
        if not ppo.dry_run:
            from ppo.train import train

            train(ppo.config, resume=ppo.resume)
        return
    contrastive = read_command(ContrastiveConfig, arguments, check_contrastive_inputs)
    if not contrastive.dry_run:
        import workbench.model  # noqa: F401  before trl imports peft
        from ppo.contrastive.train import train as train_contrastive

        train_contrastive(contrastive.config, resume=contrastive.resume)


def _pairs(arguments: argparse.Namespace) -> None:
    command = read_command(PairsConfig, arguments, check_ladder_inputs)
    if not command.dry_run:
        from ppo.ladder.build import build

        build(command.config)


if __name__ == "__main__":
    run_main(main)
