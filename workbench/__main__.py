"""`python -m workbench VERB`: the demo, a new project, the embedded default, and tools for finished runs.

This is the only place that passes the gold reward of the embedded default to evaluation; no phase imports it.
"""

import argparse
from pathlib import Path

from workbench.data.rules import add_row_options, row_options
from workbench.run.command_line import parse_words, run_main
from workbench.run.shipped import here_or_shipped


def main(argv: list[str]) -> int:
    """Run one verb."""
    arguments = parse_words(make_parser(), argv)
    arguments.run(arguments)
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The verbs and their options."""
    parser = argparse.ArgumentParser(prog="python -m workbench", description="The demo, and tools for finished runs.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    demo = verbs.add_parser(
        "demo", help="the whole loop on the embedded default: sft, labels, reward, ppo, dpo, report"
    )
    demo.add_argument("--dir", default="runs/demo", help="folder for all its runs (default: %(default)s)")
    demo.add_argument("--seed", type=int, default=0, help="seed of every step (default: %(default)s)")
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

    evaluate = verbs.add_parser("evaluate", help="measure finished runs on held-out prompts or pairs")
    evaluate.add_argument("runs", nargs="+", metavar="RUN", help="run folders; policies and reward models")
    evaluate.add_argument("--prompts", help="held-out prompts (default: the embedded default's)")
    evaluate.add_argument("--demonstrations", help="held-out demonstrations, for the perplexity")
    evaluate.add_argument("--preferences", help="pairs for a reward run (default: those that it held out)")
    evaluate.add_argument("--reward", metavar="RUN", help="reward run that scores the answers")
    evaluate.add_argument("--against", metavar="RUN", help="run to win against (default: the run it started from)")
    evaluate.add_argument("--samples", type=int, default=1, help="answers per prompt (default: %(default)s)")
    evaluate.add_argument("--temperature", type=float, default=1.0, help="sampling temperature (default: %(default)s)")
    evaluate.add_argument("--max-new-tokens", type=int, help="tokens per answer (default: as in training)")
    evaluate.add_argument("--batch-size", type=int, default=128, help="answers at one time (default: %(default)s)")
    evaluate.add_argument("--seed", type=int, default=0, help="seed of sampling and bootstraps (default: %(default)s)")
    evaluate.add_argument("--base", help="where the base is now, if it was moved")
    add_row_options(evaluate)
    evaluate.set_defaults(run=_evaluate)

    roles = verbs.add_parser("roles", help="open the roles of a ppo run; print parameters and memory")
    roles.add_argument("run_folder", metavar="RUN", help="a ppo run, finished or not")
    roles.add_argument("--base", help="where the base is now, if it was moved")
    roles.set_defaults(run=_roles)

    report = verbs.add_parser("report", help="write one self-contained HTML page about some runs")
    report.add_argument("runs", nargs="+", metavar="RUN", help="run folders, or a folder of run folders")
    report.add_argument("--out", help="file to write (default: report.html next to the first run)")
    report.set_defaults(run=_report)

    doctor = verbs.add_parser(
        "doctor", help="estimate memory and hours of a configuration before anything is downloaded or trained"
    )
    doctor.add_argument("config", metavar="CONFIG.yaml", help="YAML file of sft, reward or ppo")
    doctor.add_argument("overrides", nargs="*", metavar="a.b=value", help="values that replace the file's")
    doctor.add_argument("--gpu-memory", type=float, default=24.0, metavar="GIB", help="of the card (default: 24)")
    doctor.add_argument("--shape", metavar="NAME", help="llama-7b, llama-13b or llama-3-8b, for a base not yet here")
    doctor.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="where `dtype: auto` applies")
    doctor.add_argument("--records", type=int, default=10_000, help="demonstrations or pairs (default: 10000)")
    doctor.add_argument("--row-tokens", type=int, default=500, help="mean tokens of prompt and response (default: 500)")
    doctor.add_argument("--step-ms", type=float, help="measured time of a decode step (default: an assumption)")
    doctor.add_argument(
        "--tflops", type=float, default=200.0, help="speed of matrix products, 10^12/s (default: 200, an assumption)"
    )
    doctor.add_argument("--measure", action="store_true", help="on a GPU: run one step on random weights, and compare")
    doctor.set_defaults(run=_doctor)

    return parser


def _doctor(arguments: argparse.Namespace) -> None:
    from workbench.doctor.hours import Amounts
    from workbench.doctor.run_plan import examine, report

    run_plan = examine(
        here_or_shipped(Path(arguments.config)), arguments.overrides, shape=arguments.shape, device=arguments.device
    )
    amounts = Amounts(
        records=arguments.records,
        row_tokens=arguments.row_tokens,
        step_seconds=arguments.step_ms / 1e3 if arguments.step_ms else None,
        flop_per_second=arguments.tflops * 1e12,
    )
    print(report(run_plan, arguments.gpu_memory, amounts))
    if arguments.measure:
        from workbench.doctor.measure import measured_report

        print(measured_report(run_plan))


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


def _evaluate(arguments: argparse.Namespace) -> None:
    from workbench.evaluate.inputs import EvaluationInputs, answer_length, check_evaluation

    inputs = EvaluationInputs(
        prompts=arguments.prompts,
        demonstrations=arguments.demonstrations,
        preferences=arguments.preferences,
        reward=arguments.reward,
        against=arguments.against,
        base=arguments.base,
        rules=row_options(arguments),
    )
    folders = check_evaluation(arguments.runs, inputs)
    from workbench.evaluate.policy import Sampling
    from workbench.evaluate.run_models import evaluate_run
    from workbench.evaluate.summary import result_lines
    from workbench.tiny.gold import gold_reward

    sampling = Sampling(
        samples_per_prompt=arguments.samples,
        temperature=arguments.temperature,
        max_new_tokens=arguments.max_new_tokens or answer_length(folders),
        batch_size=arguments.batch_size,
        seed=arguments.seed,
    )
    for folder in folders:
        print("\n".join(result_lines(evaluate_run(folder.path, inputs, gold=gold_reward, sampling=sampling))))


def _roles(arguments: argparse.Namespace) -> None:
    from workbench.model.open import open_runs
    from workbench.run.folder import RunFolder
    from workbench.run.parents import find_parents

    folder = RunFolder.open(arguments.run_folder, phase="ppo")
    runs = {"reference" if role == "start" else role: run.path for role, run in find_parents(folder).items()}
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
