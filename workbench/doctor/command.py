"""`python -m workbench doctor`: its options, and what it prints."""

import argparse
from pathlib import Path

from workbench.run.options import positive_int, positive_number
from workbench.run.shipped import here_or_shipped


def add_doctor(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb and its options."""
    parser = verbs.add_parser(
        "doctor", help="estimate memory and hours of a configuration before anything is downloaded or trained"
    )
    parser.add_argument("config", metavar="CONFIG.yaml", help="YAML file of sft, reward or ppo")
    parser.add_argument("overrides", nargs="*", metavar="a.b=value", help="values that replace the file's")
    parser.add_argument(
        "--gpu-memory", type=positive_number, default=24.0, metavar="GIB", help="memory of the GPU (default: 24)"
    )
    parser.add_argument(
        "--shape", metavar="NAME", help="llama-7b, llama-13b or llama-3-8b, for a base that is not downloaded"
    )
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), default="cuda", help="what `dtype: auto` depends on (default: %(default)s)"
    )
    parser.add_argument("--records", type=positive_int, default=10_000, help="demonstrations or pairs (default: 10000)")
    parser.add_argument(
        "--row-tokens", type=positive_int, default=500, help="mean tokens of prompt and response (default: 500)"
    )
    parser.add_argument(
        "--step-ms", type=positive_number, help="measured milliseconds per decode step (default: an assumption)"
    )
    parser.add_argument(
        "--tflops",
        type=positive_number,
        default=200.0,
        help="speed of matrix products, 10^12/s (default: 200, an assumption)",
    )
    parser.add_argument(
        "--measure", action="store_true", help="on a GPU: run one step on random weights and compare the memory"
    )
    parser.set_defaults(run=doctor)


def doctor(arguments: argparse.Namespace) -> None:
    """Print the memory and hours of a configuration; with `--measure`, of a step on the GPU."""
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
