"""The verbs of `python -m reward` and their options. Each verb imports what it needs when it runs."""

import argparse
from pathlib import Path

from reward.config import PassportSection, RewardConfig
from reward.inputs import (
    check_acquire,
    check_average,
    check_explain,
    check_inputs,
    check_passport,
    check_score,
    check_spans,
)
from workbench.data.inputs import usable_run
from workbench.data.rules import add_row_options, row_options
from workbench.run.command_line import add_config_arguments, comment, read_command
from workbench.run.config import describe, load_config
from workbench.run.errors import Problems, WorkbenchError, check_all
from workbench.run.folder import RunFolder
from workbench.run.options import count, positive_int, seed, share


def make_parser() -> argparse.ArgumentParser:
    """The verbs and their options."""
    parser = argparse.ArgumentParser(
        prog="python -m reward",
        description="Train a reward model, or use finished ones. Without a verb: train.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", prog=parser.prog)
    _add_train(verbs)
    _add_passport(verbs)
    _add_average(verbs)
    _add_score(verbs)
    _add_explain(verbs)
    _add_acquire(verbs)
    _add_curve(verbs)
    return parser


def _add_train(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    train = verbs.add_parser("train", help="train a reward model or an ensemble (the default)")
    add_config_arguments(train)
    train.set_defaults(run=_train)


def _add_passport(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    passport = verbs.add_parser("passport", help="examine a finished run again; exit code 1 if it fails")
    passport.add_argument("reward_run", metavar="RUN", help="a finished reward run")
    passport.add_argument(
        "overrides", nargs="*", metavar="passport.x=value", help="limits that replace the run's own; or model.base=…"
    )
    passport.add_argument("--dry-run", action="store_true", help="print the limits and stop")
    passport.set_defaults(run=_passport)


def _add_average(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    average = verbs.add_parser("average", help="make one model of an ensemble by averaging its members' weights")
    average.add_argument("reward_run", metavar="ENSEMBLE", help="a finished ensemble")
    average.add_argument("--out", required=True, help="folder of the new reward run")
    average.add_argument("--base", help="where the base is now, if it was moved")
    average.set_defaults(run=_average)


def _add_score(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    score = verbs.add_parser("score", help="score a file of any size")
    score.add_argument("reward_run", metavar="RUN", help="a finished reward run")
    score.add_argument("file", metavar="FILE", help="prompts with a response, pairs, or items to label")
    score.add_argument("--out", help="JSONL to write (default: FILE.scores.jsonl)")
    score.add_argument("--batch-size", type=positive_int, default=64, help="answers per pass (default: %(default)s)")
    score.add_argument("--batch-tokens", type=positive_int, help="tokens per pass (default: by device)")
    score.add_argument("--base", help="where the base is now, if it was moved")
    add_row_options(score)
    score.set_defaults(run=_score)


def _add_explain(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    explain = verbs.add_parser("explain", help="write a page that explains the score of an answer")
    explain.add_argument("reward_run", metavar="RUN", help="a finished reward run")
    explain.add_argument("--prompt", help="the user's message")
    explain.add_argument("--response", help="the answer")
    explain.add_argument(
        "--spans", metavar="FILE", help="explain the answers of these pairs in which people marked passages"
    )
    explain.add_argument(
        "--answers", type=positive_int, default=100, help="with --spans: most answers to explain (default: %(default)s)"
    )
    explain.add_argument("--out", default="explain.html", help="page to write (default: %(default)s)")
    explain.add_argument("--preferences", help="labelled pairs (default: those that the run was trained on)")
    explain.add_argument(
        "--nearest", type=positive_int, default=8, help="labelled pairs to show (default: %(default)s)"
    )
    explain.add_argument("--relabel", metavar="FILE", help="write priorities that send these pairs back to be labelled")
    explain.add_argument("--batch-size", type=positive_int, default=64, help="answers per pass (default: %(default)s)")
    explain.add_argument("--base", help="where the base is now, if it was moved")
    add_row_options(explain)
    explain.set_defaults(run=_explain)


def _add_acquire(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    acquire = verbs.add_parser("acquire", help="choose the pairs of a pool that are worth a label")
    acquire.add_argument("reward_runs", nargs="*", metavar="RUN", help="finished reward runs; several form a committee")
    acquire.add_argument("--pool", required=True, help="items to label")
    acquire.add_argument("--n", type=positive_int, required=True, help="pairs to choose")
    acquire.add_argument(
        "--strategy",
        choices=("uncertainty", "disagreement", "bald", "d-optimal", "wide-gaps", "random", "length-balanced"),
        default="uncertainty",
        help="how pairs are ranked (default: %(default)s)",
    )
    acquire.add_argument("--out", required=True, help="priorities to write, for python -m annotate prioritise")
    acquire.add_argument("--items", metavar="FILE", help="also write the chosen pairs as items to label")
    acquire.add_argument(
        "--ranked", metavar="FILE", help="also write all pairs as items: the chosen, then the next best"
    )
    acquire.add_argument(
        "--random-share",
        type=share,
        default=0.0,
        metavar="SHARE",
        help="share of the chosen pairs that is drawn at random, as a control (default: %(default)s)",
    )
    acquire.add_argument("--without", help="preferences whose pairs are left out: they are labelled already")
    acquire.add_argument(
        "--seed", type=seed, default=0, help="seed of the random order and of tie-breaking (default: %(default)s)"
    )
    acquire.add_argument("--batch-size", type=positive_int, default=64, help="answers per pass (default: %(default)s)")
    acquire.add_argument("--base", help="where the base is now, if it was moved")
    add_row_options(acquire)
    acquire.set_defaults(run=_acquire)


def _add_curve(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    curve = verbs.add_parser("curve", help="fit a learning curve: how much more labels would help")
    curve.add_argument("config", metavar="CONFIG.yaml", help="configuration of the fit")
    curve.add_argument("overrides", nargs="*", metavar="a.b=value", help="values that replace the file's")
    curve.add_argument("--out", required=True, help="folder for the fits, curve.json and curve.html")
    curve.add_argument("--sizes", help="numbers of pairs, such as 250,500,1000 (default: all, and four halvings)")
    curve.add_argument(
        "--seeds", default="0,1,2", help="seeds of subsets and fits, at least three (default: %(default)s)"
    )
    curve.add_argument("--more", type=count, default=0, help="additional pairs to forecast (default: as many again)")
    curve.set_defaults(run=_curve)


VERBS = ("train", "passport", "average", "score", "explain", "acquire", "curve")


def _train(arguments: argparse.Namespace) -> None:
    command = read_command(RewardConfig, arguments, check_inputs)
    if command.dry_run:
        return
    # Once the inputs are known to be usable: torch takes seconds to import.
    import workbench.model  # noqa: F401  before trl imports peft
    from reward.train import train

    train(command.config, resume=command.resume)


def _passport(arguments: argparse.Namespace) -> int:
    for text in arguments.overrides:
        if not text.startswith(("passport.", "model.base=")):
            raise WorkbenchError(f"command line: {text!r}", "is not of the examination", expected="passport.x=value")
    config_path = Path(arguments.reward_run) / "config.yaml"
    if arguments.dry_run and not config_path.is_file():
        section = PassportSection()
        print(describe(section, dict.fromkeys(section.model_dump(), "default")))
        return 0
    folder = usable_run(arguments.reward_run, "reward")
    config, _ = load_config(RewardConfig, config_path, arguments.overrides)
    given = {text.partition("=")[0].removeprefix("passport.") for text in arguments.overrides}
    problems = Problems()
    problems.attempt(check_passport, arguments.reward_run, config.model.base, config.passport)
    if arguments.dry_run:
        wrong = [comment(f"problem: {error}") for error in problems.errors]
        print("\n".join([describe(config.passport, config.passport.origins(given)), *wrong]))
        return 0
    problems.raise_if_any()
    from reward.passport.issue import issue_passport, summary  # torch takes seconds to import

    passport = issue_passport(config, folder, given=given)
    print(summary(passport))
    print(folder.path / "passport.html")
    return 0 if passport.outcome == "pass" else 1


def _average(arguments: argparse.Namespace) -> None:
    check_average(arguments.reward_run, arguments.out, arguments.base)
    from reward.average import average_members  # torch takes seconds to import

    ensemble, out = RunFolder.open(arguments.reward_run), Path(arguments.out)
    print(average_members(ensemble, out, base=arguments.base).path)


def _score(arguments: argparse.Namespace) -> None:
    file = Path(arguments.file)
    out = Path(arguments.out) if arguments.out else file.with_name(f"{file.stem}.scores.jsonl")
    rules = row_options(arguments)
    rows = check_score(arguments.reward_run, arguments.file, out, arguments.base, rules)
    from reward.verbs.score import score_file

    done = score_file(
        Path(arguments.reward_run),
        file,
        out,
        batch_size=arguments.batch_size,
        batch_tokens=arguments.batch_tokens,
        base=arguments.base,
        rules=rules,
        rows=rows,
    )
    print(f"{out}: {done.rows:,} rows, {done.resumed:,} of them scored before; {done.left_out:,} rows left out now")


def _explain(arguments: argparse.Namespace) -> None:
    rules = row_options(arguments)
    if (arguments.prompt is None) == (arguments.spans is None) or (arguments.prompt is None) != (
        arguments.response is None
    ):
        raise WorkbenchError("command line", "needs --prompt and --response, or --spans FILE, and not both")
    outputs = {"--out": arguments.out, "--relabel": arguments.relabel}
    if arguments.spans:
        check_spans(arguments.reward_run, arguments.spans, arguments.base, rules, outputs)
        from reward.verbs.explain_spans import explain_spans

        run, file, out = (Path(name) for name in (arguments.reward_run, arguments.spans, arguments.out))
        print(explain_spans(run, file, out, answers=arguments.answers, base=arguments.base, rules=rules))
        return
    texts = {"prompt": arguments.prompt, "response": arguments.response}
    check_explain(arguments.reward_run, texts, arguments.preferences, arguments.base, rules, outputs)
    from reward.verbs.explain import explain

    page = explain(
        Path(arguments.reward_run),
        arguments.prompt,
        arguments.response,
        Path(arguments.out),
        preferences=Path(arguments.preferences) if arguments.preferences else None,
        nearest=arguments.nearest,
        relabel=Path(arguments.relabel) if arguments.relabel else None,
        batch_size=arguments.batch_size,
        base=arguments.base,
        rules=rules if arguments.preferences else None,
    )
    print(page)


def _acquire(arguments: argparse.Namespace) -> None:
    rules = row_options(arguments)
    outputs = {"--out": arguments.out, "--items": arguments.items, "--ranked": arguments.ranked}
    check_acquire(arguments.reward_runs, arguments.pool, arguments.without, arguments.base, rules, outputs)
    from reward.verbs.acquire import acquire

    chosen = acquire(
        [Path(run) for run in arguments.reward_runs],
        Path(arguments.pool),
        Path(arguments.out),
        number=arguments.n,
        strategy=arguments.strategy,
        without=Path(arguments.without) if arguments.without else None,
        seed=arguments.seed,
        batch_size=arguments.batch_size,
        base=arguments.base,
        rules=rules,
        items=Path(arguments.items) if arguments.items else None,
        ranked=Path(arguments.ranked) if arguments.ranked else None,
        random_share=arguments.random_share,
    )
    print(f"{arguments.out}: {chosen:,} pairs; python -m annotate prioritise CONFIG.yaml {arguments.out}")


def _curve(arguments: argparse.Namespace) -> None:
    config, _ = load_config(RewardConfig, Path(arguments.config), arguments.overrides)
    run = config.run.model_copy(update={"dir": str(Path(arguments.out) / "check"), "overwrite": True})
    check_all(check_inputs, config.model_copy(update={"run": run}))
    from reward.verbs.curve import learning_curve

    print(
        learning_curve(
            Path(arguments.config),
            arguments.overrides,
            Path(arguments.out),
            sizes=arguments.sizes,
            seeds=arguments.seeds,
            more=arguments.more,
        )
    )
