"""`python -m sft CONFIG.yaml [a.b=value …]` trains; `python -m sft predict RUN FILE` classifies a file.

`method` in the file decides between a classifier (`head`, `verbalizer`) and supervised tuning (no method).
"""

import argparse
from pathlib import Path

from sft.classify.config import ClassifyConfig, is_classification
from sft.classify.inputs import check_inputs as check_classification
from sft.classify.inputs import check_predict
from sft.config import SftConfig
from sft.inputs import check_inputs
from workbench.run.command_line import add_config_arguments, parse_words, read_command, run_main
from workbench.run.options import positive_int

VERBS = ("train", "predict")


def main(argv: list[str]) -> int:
    """Run one verb; `train` if none is given."""
    named = bool(argv) and (argv[0] in VERBS or argv[0] in ("-h", "--help"))
    arguments = parse_words(make_parser(), argv if named else ["train", *argv])
    arguments.run(arguments)
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The verbs and their options."""
    parser = argparse.ArgumentParser(
        prog="python -m sft", description="Supervised tuning and classification. Without a verb: train."
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", prog=parser.prog)
    train = verbs.add_parser("train", help="tune on demonstrations, or train a classifier (the default)")
    add_config_arguments(train)
    train.set_defaults(run=_train)
    predict = verbs.add_parser("predict", help="classify the texts of a file of any size")
    predict.add_argument("run_folder", metavar="RUN", help="a finished classification run")
    predict.add_argument("file", metavar="FILE", help="texts: JSONL, CSV, TSV, Parquet, or a folder of shards")
    predict.add_argument(
        "--out", help="file to write, its suffix decides the format (default: FILE.predicted.jsonl next to FILE)"
    )
    predict.add_argument("--text", metavar="COLUMN", help="column with the text (default: as in training)")
    predict.add_argument(
        "--batch-size", type=positive_int, default=64, help="rows per forward pass (default: %(default)s)"
    )
    predict.add_argument("--base", help="where the base is now, if it was moved")
    predict.set_defaults(run=_predict)
    return parser


def _train(arguments: argparse.Namespace) -> None:
    # Training is imported once the inputs are known to be usable: torch takes seconds to import.
    if is_classification(Path(arguments.config), arguments.overrides):
        classification = read_command(ClassifyConfig, arguments, check_classification)
        if not classification.dry_run:
            import workbench.model  # before trl imports peft
            from sft.classify.train import train as train_classifier

            train_classifier(classification.config, resume=classification.resume)
        return
    command = read_command(SftConfig, arguments, check_inputs)
    if not command.dry_run:
        import workbench.model  # noqa: F401  before trl imports peft
        from sft.train import train

        train(command.config, resume=command.resume)


def _predict(arguments: argparse.Namespace) -> None:
    file = Path(arguments.file)
    out = Path(arguments.out) if arguments.out else file.with_name(f"{file.name.split('.')[0]}.predicted.jsonl")
    folder, rows = check_predict(arguments.run_folder, arguments.file, out, arguments.base, arguments.text)
    from sft.classify.predict import predict_file

    done = predict_file(
        folder, file, out, column=arguments.text, batch_size=arguments.batch_size, base=arguments.base, rows=rows
    )
    print(done.line(out))


if __name__ == "__main__":
    run_main(main)
