"""`python -m workbench export`: its options, and what it prints."""

import argparse
from pathlib import Path

from workbench.run.errors import WorkbenchError


def add_export(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb and its options."""
    parser = verbs.add_parser("export", help="write a finished run for other programs, and verify what was written")
    parser.add_argument("run_folder", metavar="RUN", help="a finished run")
    parser.add_argument(
        "--to", required=True, choices=("adapter", "merged", "gguf", "classifier"), help="form of the export"
    )
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), help="of merged and classifier weights (default: float32)"
    )
    parser.add_argument("--type", choices=("f16", "q8_0"), help="of gguf weights (default: f16)")
    parser.add_argument(
        "--base-weights",
        choices=("trained", "original"),
        default="trained",
        help="fold into the base as in training (NF4 dequantised), or into its original weights (default: %(default)s)",
    )
    parser.add_argument(
        "--heldout", metavar="FILE", help="prompts, pairs or texts to verify on (default: the run's own)"
    )
    parser.add_argument("--out", metavar="DIR", help="folder to write (default: RUN/export/…)")
    parser.add_argument("--base", help="where the base is now, if it was moved")
    parser.set_defaults(run=export)


def export(arguments: argparse.Namespace) -> None:
    """Write a run for other programs, verified."""
    for option, given, readers in (
        ("--dtype", arguments.dtype, ("merged", "classifier")),
        ("--type", arguments.type, ("gguf",)),
    ):
        if given is not None and arguments.to not in readers:
            raise WorkbenchError(
                option,
                f"{given} has no effect on --to {arguments.to}",
                remedy=f"leave it out, or --to {' or '.join(readers)}",
            )
    from workbench.export import run_export
    from workbench.run.folder import RunFolder

    request = run_export.Request(
        RunFolder.open(arguments.run_folder),
        arguments.to,
        dtype=arguments.dtype or "float32",
        storage=arguments.type or "f16",
        weights=arguments.base_weights,
        heldout=arguments.heldout,
        base=arguments.base,
    )
    out = Path(arguments.out) if arguments.out else request.out
    print(run_export.result_line(out, run_export.export(request, out)))
