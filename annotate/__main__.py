"""The command line of `python -m annotate VERB CONFIG.yaml [words] [a.b=value …] [options]`.

Each verb imports what it needs when it runs: only `pairs`, `campaign start` and `campaign score` ever import torch;
`arena` starts a process that does.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from annotate.config import AnnotateConfig
from annotate.store.address import refuse_password, sqlite_path, without_password
from annotate.store.database import Store
from annotate.store.failures import failures_explained
from workbench.run.command_line import Check, add_config_arguments, parse_words, read_command, run_main
from workbench.run.errors import WorkbenchError, did_you_mean
from workbench.run.options import count, positive_int

Verb = Callable[[AnnotateConfig, argparse.Namespace], None]
_OVERRIDE = re.compile(r"[a-z_]+(\.[a-z_]+)+=")


def _pairs(config: AnnotateConfig, arguments: argparse.Namespace) -> None:
    if arguments.follow:
        from annotate.sampling.follow import follow_run

        follow_run(config, arguments.follow, passes=arguments.passes)
    else:
        from annotate.sampling.pairs import sample_pairs

        sample_pairs(config)


def _serve(config: AnnotateConfig, _arguments: argparse.Namespace) -> None:
    print("loading …", flush=True)
    from annotate.serve import serve

    serve(config)


def _arena(config: AnnotateConfig, arguments: argparse.Namespace) -> None:
    if not arguments.words:
        raise WorkbenchError("arena", "names no run", expected="arena [CONFIG.yaml] RUN RUN [RUN …]; one run: a chat")
    print("loading …", flush=True)
    from annotate.arena.serve import serve_arena

    serve_arena(config, arguments.words)


def _simulate(config: AnnotateConfig, _arguments: argparse.Namespace) -> None:
    from annotate.simulate import label_with_simulated_annotators

    label_with_simulated_annotators(config)


def _wait(config: AnnotateConfig, arguments: argparse.Namespace) -> None:
    from annotate.wait import wait_for_labels

    wait_for_labels(config, labels=arguments.labels, rounds=arguments.rounds)


def _judge(config: AnnotateConfig, _arguments: argparse.Namespace) -> None:
    from annotate.judge.label import judge_items

    store = Store.open(config.store_url, as_it_is=True)
    print("\n".join(judge_items(store, config)))
    store.close()


def _load(config: AnnotateConfig, arguments: argparse.Namespace) -> None:
    from annotate.intake.labels import Origin
    from annotate.intake.load import load_file

    store = Store.open(config.store_url, say=print)
    (file,) = arguments.words
    rules = replace(config.row_rules, rename=tuple(map(_renaming, arguments.map)))
    origin = Origin(arguments.labels_by, arguments.as_people) if arguments.labels_by else None
    if arguments.as_people and origin is None:
        raise WorkbenchError("--as-people", "applies to imported judgements only", remedy="add --labels-by NAME")
    loaded = load_file(
        store, file, config.queue, rules, gold=arguments.gold, relabel=arguments.relabel, labels_from=origin
    )
    print(f"{store.place}: {loaded}")
    store.close()


def _renaming(given: str) -> tuple[str, str]:
    """The two names of `--map IN_THE_FILE=HERE`."""
    before, _, after = given.partition("=")
    if not before or not after:
        raise WorkbenchError(
            f"--map {given}", "cannot be read", expected="COLUMN_OF_THE_FILE=COLUMN, such as question=prompt"
        )
    return before, after


def _prioritise(config: AnnotateConfig, arguments: argparse.Namespace) -> None:
    from annotate.intake.priorities import apply_priorities

    store = Store.open(config.store_url, as_it_is=True)
    print(f"{store.place}: {apply_priorities(store, arguments.words[0])}")
    store.close()


def _export(config: AnnotateConfig, arguments: argparse.Namespace) -> None:
    store = Store.open(config.store_url, as_it_is=True)
    if arguments.raw:
        from annotate.labels.raw_export import export_raw

        count = export_raw(store, Path(arguments.raw), names=config.export.names)
        print(f"{arguments.raw}: {count:,} judgements")
    else:
        from annotate.labels.export import counts_text, export

        print(f"{config.export.out}: {counts_text(export(store, config.export))}")
    store.close()


def _campaign(config: AnnotateConfig, arguments: argparse.Namespace) -> None:
    words = arguments.words
    if words == ["start"]:
        from annotate.campaign.start import start_campaign

        start_campaign(config)
    elif words and words[0] == "report" and len(words) <= 2:
        from annotate.campaign.report import report_campaigns

        store = Store.open(config.store_url, as_it_is=True)
        report_campaigns(store, words[1] if words[1:] else None, as_json=arguments.json)
        store.close()
    elif words and words[0] == "score" and len(words) == 3:
        from annotate.campaign.scores import score_campaign

        store = Store.open(config.store_url, as_it_is=True)
        count = score_campaign(store, words[1], words[2])
        print(f"{store.place}: campaign {words[1]!r}: {count:,} pairs scored by {words[2]}")
        store.close()
    else:
        raise WorkbenchError(
            "campaign",
            f"cannot read {' '.join(words)!r}",
            expected="campaign start CONFIG.yaml, campaign score CONFIG.yaml NAME RUN, or campaign report CONFIG.yaml "
            "[NAME]",
        )


def _spot_check(config: AnnotateConfig, arguments: argparse.Namespace) -> None:
    from annotate.labels.spot_check import spot_check

    store = Store.open(config.store_url, say=print)
    (file,) = arguments.words
    out = Path(arguments.out)
    print(f"{store.place}: {spot_check(store, config, file, run=arguments.run, out=out, notice=arguments.notice)}")
    store.close()


def _status(config: AnnotateConfig, arguments: argparse.Namespace) -> None:
    from annotate.labels.status import render, status

    store = Store.open(config.store_url, as_it_is=True)
    print(json.dumps(status(store), indent=2) if arguments.json else render(store))
    store.close()


def _upgrade(config: AnnotateConfig, _arguments: argparse.Namespace) -> None:
    path = sqlite_path(config.store_url)
    if path is not None and not path.is_file():
        raise WorkbenchError(path, "no such label store", expected="the store.url of an older version")
    said: list[str] = []
    Store.open(config.store_url, say=said.append).close()
    print("\n".join(said) if said else f"{config.store_url.split('@')[-1]}: already has this version")


def _backup(config: AnnotateConfig, arguments: argparse.Namespace) -> None:
    target = Path(arguments.words[0])
    store = Store.open(config.store_url, as_it_is=True)
    store.backup(target)
    store.close()
    print(f"{target}: {target.stat().st_size:,} bytes")


def _restore(config: AnnotateConfig, arguments: argparse.Namespace) -> None:
    from annotate.store.files import restore

    path, backup = sqlite_path(config.store_url), Path(arguments.words[0])
    if path is None:
        raise WorkbenchError(
            "store.url",
            "is not an SQLite file",
            expected="a copy that the database's own program made",
            remedy=f"pg_restore --clean --dbname=DATABASE {backup}",
        )
    kept = restore(path, backup)
    previous = f"; previous store: {kept}" if kept else ""
    print(f"{path}: restored from {backup}; everybody has to log in again{previous}")


def _copy(config: AnnotateConfig, arguments: argparse.Namespace) -> None:
    from annotate.store.copying import copy_store

    (target,) = arguments.words
    refuse_password("TARGET", target)
    store = Store.open(config.store_url, as_it_is=True)
    counts = copy_store(store, target)
    store.close()
    print(f"{target}: {', '.join(f'{count:,} {table}' for table, count in counts.items())}")
    print(f"from now on use store.url={target}; {store.place} is unchanged")


def _forget(config: AnnotateConfig, arguments: argparse.Namespace) -> None:
    from annotate.labels.forget import forget

    runs = Path(arguments.runs)
    forget(config, annotator=arguments.annotator, record=arguments.record, runs=runs, refit=arguments.run_plan)


def _annotator(config: AnnotateConfig, arguments: argparse.Namespace) -> None:
    from annotate.people.commands import change_accounts

    store = Store.open(config.store_url, say=print)
    change_accounts(store, arguments.words, arguments.role, scope=arguments.scope, days=arguments.days)
    store.close()


_RUNS = "RUN RUN [RUN …]"
VERBS: dict[str, tuple[Verb, str, str]] = {
    "pairs": (_pairs, "", "sample answers from a run and write them as pairs to label"),
    "serve": (_serve, "", "open the page on which people label the pairs"),
    "arena": (_arena, _RUNS, "chat with two runs side by side, blind, and vote; with one run, chat with it"),
    "simulate": (_simulate, "", "let the simulated annotators of the embedded default label the pairs"),
    "wait": (_wait, "", "wait until people have labelled the pairs of a round (pairs.round)"),
    "judge": (_judge, "", "let a language model judge the items, and measure its agreement with people"),
    "load": (_load, "FILE", "add items to label from a file"),
    "prioritise": (_prioritise, "FILE", "set the order in which items are handed out, and request more judgements"),
    "export": (_export, "", "write the judgements as preference records"),
    "campaign": (
        _campaign,
        "start | score NAME RUN | report [NAME]",
        "compare two or more runs blind on held-out prompts",
    ),
    "spot-check": (
        _spot_check,
        "FILE",
        "give pairs of answers of a running training run to people, and write their judgements",
    ),
    "status": (_status, "", "print progress and agreement; with --json, for programs"),
    "upgrade": (_upgrade, "", "upgrade an older label store; commands that can create one, such as serve, do so too"),
    "backup": (_backup, "OUT.sqlite", "copy the label store, also while people label"),
    "restore": (_restore, "BACKUP", "replace the label store with a backup; the previous store is kept next to it"),
    "copy": (_copy, "TARGET", "copy the store into an empty database or a new file, SQLite or PostgreSQL"),
    "forget": (_forget, "", "delete an annotator or an item permanently, and list the runs that have learned from it"),
    "annotator": (_annotator, "ACTION [NAME …]", "manage the accounts and tokens of the page and the API"),
}
"""By verb: its function, the form of its own words (one without a space: exactly one word), and a summary."""


def make_parser() -> argparse.ArgumentParser:
    """The verbs and their options."""
    parser = argparse.ArgumentParser(prog="python -m annotate", description="Label pairs of answers.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    own = {}
    for name, (_, words, summary) in VERBS.items():
        config = "[CONFIG.yaml]" if words == _RUNS else "CONFIG.yaml"
        usage = " ".join(filter(None, [f"python -m annotate {name} {config}", words, "[a.b=value ...] [options]"]))
        own[name] = verbs.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", usage=usage)
        add_config_arguments(own[name], resume=False)
    own["pairs"].add_argument(
        "--follow",
        metavar="RUN",
        default="",
        help="add pairs of this run's newest weights while people label",
    )
    own["pairs"].add_argument(
        "--passes",
        type=count,
        default=0,
        metavar="N",
        help="with --follow: sampling passes; 0: until stopped (default)",
    )
    own["wait"].add_argument("--labels", type=count, required=True, metavar="N", help="pairs to label in the round")
    own["wait"].add_argument(
        "--rounds", type=positive_int, required=True, metavar="N", help="total rounds, shown on the page"
    )
    known = own["load"].add_mutually_exclusive_group()
    known.add_argument("--gold", action="store_true", help="FILE holds preferences: use them as tests of annotators")
    known.add_argument("--relabel", action="store_true", help="FILE holds preferences: have them judged again")
    known.add_argument(
        "--labels-by", metavar="NAME", help="also import the judgements in FILE, as those of the account NAME"
    )
    own["load"].add_argument(
        "--as-people",
        action="store_true",
        help="count imported judgements like those of your own annotators (default: keep them separate)",
    )
    own["load"].add_argument(
        "--map",
        action="append",
        default=[],
        metavar="COLUMN=NAME",
        help="read this column of FILE under another name, such as question=prompt (repeatable)",
    )
    spots = own["spot-check"]
    spots.add_argument("--run", required=True, metavar="NAME", help="the training run that the pairs in FILE are from")
    spots.add_argument("--out", required=True, metavar="OUT.jsonl", help="file for the judgements made so far")
    spots.add_argument("--notice", metavar="TEXT", help="message on the lead's page; an empty one removes it")
    own["export"].add_argument("--raw", metavar="OUT.jsonl", help="instead, write every judgement as it was made")
    own["forget"].add_argument("--annotator", metavar="NAME", help="forget this person and all their judgements")
    own["forget"].add_argument("--record", metavar="ID", help="forget this item, or the item of this preference")
    own["forget"].add_argument(
        "--runs", metavar="DIR", default="runs", help="search for runs here (default: %(default)s)"
    )
    own["forget"].add_argument("--run", dest="run_plan", action="store_true", help="also train these runs again")
    accounts = own["annotator"]
    accounts.epilog = (
        "actions: list | add NAME | password NAME | pause NAME | resume NAME | remove NAME | role NAME ROLE | "
        "tokens [NAME] | token NAME [PURPOSE] | token revoke NUMBER"
    )
    accounts.add_argument(
        "--role", default="annotator", help="role of a new account: annotator, reviewer or admin (default: %(default)s)"
    )
    accounts.add_argument(
        "--scope", default="admin", help="scope of a new token: label, read or admin (default: %(default)s)"
    )
    accounts.add_argument("--days", type=positive_int, help="days until a new token expires (default: never)")
    return parser


def _parse(argv: list[str]) -> argparse.Namespace:
    """Parse a command; configuration, overrides and the verb's own words may come in any order."""
    arguments = parse_words(make_parser(), argv)
    form = VERBS[arguments.verb][1]
    arguments.words = []
    if not form:
        return arguments
    given = [arguments.config, *arguments.overrides]
    configs = [word for word in given if word.endswith((".yaml", ".yml")) and not _OVERRIDE.match(word)]
    arguments.overrides = [word for word in given if _OVERRIDE.match(word)]
    arguments.words = [word for word in given if word not in arguments.overrides and word not in configs[:1]]
    if not configs and form != _RUNS:
        raise WorkbenchError(
            arguments.verb, "no configuration file is named", expected=f"{arguments.verb} CONFIG.yaml {form}"
        )
    arguments.config = configs[0] if configs else None
    return arguments


def _check_words(verb: str, words: list[str]) -> None:
    """Check that a verb that takes exactly one word has one. Words are not shown: an address may hold a password."""
    form = VERBS[verb][1]
    if form and " " not in form and len(words) != 1:
        raise WorkbenchError(
            verb, f"cannot read the command: {len(words)} words for {form}", expected=f"{verb} CONFIG.yaml {form}"
        )


def _checks(arguments: argparse.Namespace) -> Check[AnnotateConfig] | None:
    """The check of a verb's inputs, made before a model library is loaded; None: the verb makes its own."""
    if arguments.verb == "pairs":
        from annotate.inputs import check_pairs

        return lambda config, problems, _: check_pairs(config, problems, arguments.follow)
    if arguments.verb == "campaign" and arguments.words == ["start"]:
        from annotate.inputs import check_campaign

        return lambda config, problems, _: check_campaign(config, problems)
    return None


def _store_named(config: AnnotateConfig) -> str:
    """The store's address for messages; `arena` can do without one."""
    try:
        return without_password(config.store_url)
    except WorkbenchError:
        return "store.url"


def main(argv: list[str]) -> int:
    """Run one verb."""
    if argv and not argv[0].startswith("-") and argv[0] not in VERBS:
        raise WorkbenchError(
            f"command line: {argv[0]!r}", "unknown verb", expected=", ".join(VERBS), remedy=did_you_mean(argv[0], VERBS)
        )
    arguments = _parse(argv)
    command = read_command(AnnotateConfig, arguments, _checks(arguments))
    if command.dry_run:
        return 0
    _check_words(arguments.verb, arguments.words)
    try:
        with failures_explained(_store_named(command.config)):
            VERBS[arguments.verb][0](command.config, arguments)
    except KeyboardInterrupt:
        print("stopped; everything saved so far is in the store", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    run_main(main)
