"""`python -m workbench evaluate`: its options, and what it prints."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.data.rules import add_row_options, row_options
from workbench.run.config import load_config
from workbench.run.options import count, positive_int, positive_number, seed
from workbench.run.outputs import check_outputs

if TYPE_CHECKING:
    from workbench.evaluate.inference import Inference
    from workbench.evaluate.policy import Gold


def add_evaluate(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Add the verb and its options."""
    parser = verbs.add_parser("evaluate", help="measure finished runs on held-out prompts or pairs")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders; policies and reward models")
    parser.add_argument("--prompts", help="held-out prompts (default: the embedded default's)")
    parser.add_argument("--demonstrations", help="held-out demonstrations, for the perplexity")
    parser.add_argument("--preferences", help="pairs for a reward run (default: those that it held out)")
    parser.add_argument("--reward", metavar="RUN", help="reward run that scores the answers")
    parser.add_argument("--against", metavar="RUN", help="opponent of the win rate (default: the run it started from)")
    parser.add_argument("--samples", type=positive_int, default=1, help="answers per prompt (default: %(default)s)")
    parser.add_argument(
        "--temperature", type=positive_number, default=1.0, help="sampling temperature (default: %(default)s)"
    )
    parser.add_argument("--max-new-tokens", type=positive_int, help="tokens per answer (default: as in training)")
    parser.add_argument(
        "--batch-size", type=positive_int, default=128, help="answers sampled at a time (default: %(default)s)"
    )
    parser.add_argument("--seed", type=seed, default=0, help="seed of sampling and bootstraps (default: %(default)s)")
    parser.add_argument(
        "--best-of", type=positive_int, default=1, metavar="N", help="use the best of N answers (default: 1)"
    )
    parser.add_argument("--picked-by", metavar="RUN", help="with --best-of: the reward run that picks")
    parser.add_argument("--shots", type=count, default=0, metavar="K", help="show K examples before each prompt")
    parser.add_argument("--examples", metavar="FILE", help="with --shots: demonstrations; the first K are shown")
    parser.add_argument("--out", metavar="FILE", help="write the evaluation of one run here, not into its folder")
    parser.add_argument("--base", help="where the base is now, if it was moved")
    parser.add_argument(
        "--suite", metavar="FILE", help="also measure bias, robustness and text metrics; exit 1 if a gate fails"
    )
    add_row_options(parser)
    return parser


def evaluate(arguments: argparse.Namespace, gold: "Gold") -> int:
    """Measure runs; returns 1 if a gate of the suite fails.

    Args:
        arguments: the options.
        gold: the gold reward of the embedded default.
    """
    from workbench.evaluate.inputs import EvaluationInputs, answer_length, check_evaluation
    from workbench.suite.config import SuiteConfig

    inputs = EvaluationInputs(
        prompts=arguments.prompts,
        demonstrations=arguments.demonstrations,
        preferences=arguments.preferences,
        reward=arguments.reward,
        against=arguments.against,
        base=arguments.base,
        rules=row_options(arguments),
    )
    suite = load_config(SuiteConfig, Path(arguments.suite))[0] if arguments.suite else None
    if suite is None:
        folders = check_evaluation(arguments.runs, inputs)
    else:
        from workbench.suite.run import check_suite, with_defaults

        inputs = with_defaults(inputs, suite)
        folders = check_suite(suite, arguments.runs, inputs)
    inference = _inference(arguments)
    if inference.out:
        given = (inputs.prompts, inputs.demonstrations, inputs.preferences, arguments.examples, arguments.suite)
        check_outputs({"--out": inference.out}, [Path(name) for name in given if name], remedy="another --out")
    from workbench.evaluate.policy import Sampling
    from workbench.evaluate.run_models import evaluate_run
    from workbench.evaluate.summary import result_lines

    sampling = Sampling(
        samples_per_prompt=arguments.samples,
        temperature=arguments.temperature,
        max_new_tokens=arguments.max_new_tokens or answer_length(folders),
        batch_size=arguments.batch_size,
        seed=arguments.seed,
    )
    for folder in folders:
        if folder.record()["phase"] != "classify":  # its own training evaluated it
            evaluation = evaluate_run(folder.path, inputs, gold=gold, sampling=sampling, inference=inference)
            print("\n".join(result_lines(evaluation)))
    if suite is None:
        return 0
    from workbench.suite.report import write_suite
    from workbench.suite.run import measure

    result = measure(suite, folders, inputs, gold=gold, sampling=sampling)
    print("\n".join(write_suite(result, suite, source=arguments.suite)))
    return 0 if result.passed else 1


def _inference(arguments: argparse.Namespace) -> "Inference":
    """What improves the answers at sampling time.

    Raises:
        WorkbenchError: options that do not fit together.
    """
    from workbench.evaluate.inference import Inference
    from workbench.run.errors import WorkbenchError

    improved = arguments.best_of > 1 or arguments.shots > 0
    for wrong, place, problem, remedy in (
        (arguments.best_of > 1 and not arguments.picked_by, "--best-of", "needs a reward run", "--picked-by RUN"),
        (arguments.shots > 0 and not arguments.examples, "--shots", "has no examples", "--examples FILE"),
        (arguments.picked_by and arguments.best_of == 1, "--picked-by", "picks from one answer", "--best-of N"),
        (arguments.examples and not arguments.shots, "--examples", "are not shown", "--shots K"),
        (improved and not arguments.out, "--out", "is missing: a run's own file is for plain answers", "--out FILE"),
        (arguments.out and len(arguments.runs) > 1, "--out", "takes one run", "evaluate the runs one by one"),
    ):
        if wrong:
            raise WorkbenchError(place, problem, remedy=remedy)
    return Inference(
        best_of=arguments.best_of,
        picked_by=arguments.picked_by,
        shots=arguments.shots,
        examples=arguments.examples,
        out=Path(arguments.out) if arguments.out else None,
    )
