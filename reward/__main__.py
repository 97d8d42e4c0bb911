"""`python -m reward CONFIG.yaml [a.b=value …] [options]` trains; verbs use finished runs (reward/verbs/command.py)."""

from reward.verbs.command import VERBS, make_parser
from workbench.run.command_line import parse_words, run_main


def main(argv: list[str]) -> int:
    """Run one verb; `train` if none is given."""
    named = bool(argv) and (argv[0] in VERBS or argv[0] in ("-h", "--help"))
    arguments = parse_words(make_parser(), argv if named else ["train", *argv])
    return arguments.run(arguments) or 0


if __name__ == "__main__":
    run_main(main)
