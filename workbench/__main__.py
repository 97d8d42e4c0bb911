"""`python -m workbench VERB`: the demo, a project, the embedded default, checks of data, comparisons, finished runs.

This is the only place that passes the gold reward of the embedded default to evaluation; no phase imports it.
"""

import argparse
import os
import sys
from pathlib import Path

from workbench.doctor.command import add_doctor
from workbench.export.command import add_export
from workbench.privacy.command import add_unmask
from workbench.run.command_line import add_config_arguments, parse_words, read_command, run_main
from workbench.run.options import positive_int, seed
from workbench.serve.command import add_serve
from workbench.suite.command import add_evaluate, evaluate
from workbench.validate.command import add_validate, validate


def main(argv: list[str]) -> int:
    """Run one verb."""
    arguments = parse_words(make_parser(), argv)
    return arguments.run(arguments) or 0


def make_parser() -> argparse.ArgumentParser:
    """The verbs and their options."""
    parser = argparse.ArgumentParser(
        prog="python -m workbench", description="The demo, and tools for data files, finished runs, and series of runs."
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    demo = verbs.add_parser(
        "demo", help="run the whole loop on the embedded default: sft, labels, reward, ppo, dpo, report"
    )
    demo.add_argument("--dir", default="runs/demo", help="folder for all its runs (default: %(default)s)")
    demo.add_argument("--seed", type=seed, default=0, help="seed of every step (default: %(default)s)")
    demo.add_argument(
        "--kernels",
        choices=("auto", "modules", "cpu"),
        default="auto",
        help="model.kernels of every phase (default: %(default)s)",
    )
    demo.set_defaults(run=_demo)

    init = verbs.add_parser("init", help="start your own project: configurations and a README of the next steps")
    init.add_argument("folder", metavar="DIR", help="a new or empty folder")
    init.set_defaults(run=_init)

    tiny = verbs.add_parser("tiny", help="build the embedded default: base and data (cached)")
    tiny.add_argument("--facts", metavar="FILE", help="write its right and wrong statements to this file instead")
    tiny.add_argument("--pretrain", action="store_true", help="train the shipped base again, in place")
    tiny.set_defaults(run=_tiny)

    add_evaluate(verbs).set_defaults(run=_evaluate)
    add_export(verbs)

    chat = verbs.add_parser("chat", help="chat with a finished sft or ppo run in the browser")
    chat.add_argument("run_folder", metavar="RUN", help="a run folder, or an adapter or checkpoint inside one")
    chat.add_argument("overrides", nargs="*", metavar="a.b=value", help="values of annotate, such as server.port=7861")
    chat.set_defaults(run=_chat)

    roles = verbs.add_parser("roles", help="open the roles of a ppo run; print parameters and memory")
    roles.add_argument("run_folder", metavar="RUN", help="a ppo run, finished or not")
    roles.add_argument("--base", help="where the base is now, if it was moved")
    roles.set_defaults(run=_roles)

    report = verbs.add_parser("report", help="write one self-contained HTML page about some runs")
    report.add_argument("runs", nargs="+", metavar="RUN", help="run folders, or a folder of run folders")
    report.add_argument("--out", help="file to write (default: report.html next to the first run)")
    report.set_defaults(run=_report)

    origin = verbs.add_parser("lineage", help="show the parent runs, data files and annotators of a run")
    origin.add_argument("run_folder", metavar="RUN", help="a run folder")
    origin.add_argument("--out", metavar="FILE", help="also draw the graph: FILE.dot (Graphviz) or FILE.svg")
    origin.set_defaults(run=_lineage)

    compare = verbs.add_parser(
        "compare", help="train and measure several methods on the same labels, and recommend one"
    )
    add_config_arguments(compare, resume=False)
    compare.set_defaults(run=_compare)

    loop = verbs.add_parser(
        "loop", help="run rounds: sample, choose pairs, label, refit the reward model, train, measure"
    )
    add_config_arguments(loop, resume=False)
    loop.add_argument("--rounds", type=positive_int, metavar="N", help="total number of rounds (loop.rounds)")
    loop.set_defaults(run=_loop)

    add_doctor(verbs)
    add_unmask(verbs)
    add_serve(verbs)
    add_validate(verbs).set_defaults(run=validate)
    return parser


def _lineage(arguments: argparse.Namespace) -> None:
    from workbench.lineage.graph import as_text, draw, lineage

    node = lineage(Path(arguments.run_folder))
    if arguments.out:
        draw(node, Path(arguments.out))
    print(as_text(node))


def _compare(arguments: argparse.Namespace) -> None:
    from workbench.compare.config import CompareConfig
    from workbench.compare.plan import check_compare_inputs, plan
    from workbench.run.steps import check_commands, run_steps

    command = read_command(CompareConfig, arguments, check_compare_inputs)
    if command.dry_run:
        return
    steps, folder = plan(command.config), Path(command.config.compare.out)
    check_commands(steps, folder)
    ledger = run_steps(steps, folder, description="compare")
    from workbench.compare.page import write_results  # matplotlib and scikit-learn take seconds to import

    print("\n".join(write_results(command.config, ledger)))


def _loop(arguments: argparse.Namespace) -> None:
    from workbench.loop.config import LoopConfig
    from workbench.loop.plan import check_loop_inputs
    from workbench.loop.run import run_loop

    if arguments.rounds is not None:
        arguments.overrides = [*arguments.overrides, f"loop.rounds={arguments.rounds}"]
    command = read_command(LoopConfig, arguments, check_loop_inputs)
    if not command.dry_run:
        run_loop(command.config)


def _demo(arguments: argparse.Namespace) -> None:
    from workbench.demo import run_demo

    run_demo(Path(arguments.dir), seed=arguments.seed, kernels=arguments.kernels)


def _init(arguments: argparse.Namespace) -> None:
    from workbench.project import start_project

    start_project(Path(arguments.folder))
    print(f"{arguments.folder}: configs/, data/ and README.md with the next steps")


def _tiny(arguments: argparse.Namespace) -> None:
    from workbench.data.embedded import tiny_folder
    from workbench.tiny.build import build_tiny, pretrain, write_facts

    if arguments.facts:
        print(f"{arguments.facts}: {write_facts(Path(arguments.facts))} statements")
        return
    if arguments.pretrain:
        print(f"last training loss {pretrain():.4f} nats per token")
    folder = tiny_folder()
    build_tiny(folder)
    print(folder)


def _evaluate(arguments: argparse.Namespace) -> int:
    from workbench.tiny.gold import gold_reward

    return evaluate(arguments, gold_reward)


def _chat(arguments: argparse.Namespace) -> None:
    # A package of its own, and so a process of its own: this one becomes it.
    words = ["-m", "annotate", "arena", arguments.run_folder, *arguments.overrides]
    os.execv(sys.executable, [sys.executable, *words])


def _roles(arguments: argparse.Namespace) -> None:
    from workbench.model.open import open_runs
    from workbench.run.folder import RunFolder
    from workbench.run.parents import find_parents

    folder = RunFolder.open(arguments.run_folder, phase="ppo")
    runs = {role: run.path for role, run in find_parents(folder).items()}
    if "reference" not in runs:
        runs["reference"] = runs.pop("start")
    if folder.finished:
        runs["policy"] = folder.path
    roles = open_runs(runs, base=arguments.base)
    print(roles.summary())


def _report(arguments: argparse.Namespace) -> None:
    from workbench.evaluate.collect import find_runs
    from workbench.evaluate.report import build_report

    runs = [run for name in arguments.runs for run in find_runs(Path(name))]
    out = Path(arguments.out) if arguments.out else runs[0].parent / "report.html"
    print(build_report(runs, out))


if __name__ == "__main__":
    run_main(main)
