"""`python -m annotate VERB CONFIG.yaml [a.b=value …] [--dry-run]`.

Each verb imports what it needs when it runs: only `pairs` and `campaign start` ever import torch.
"""

import json
import re
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

from annotate.config import AnnotateConfig
from annotate.inputs import check_campaign, check_pairs, needed
from annotate.store.address import refuse_password, sqlite_path
from annotate.store.database import Store
from workbench.data.rules import RowRules
from workbench.run.command_line import parse_command_line, run_main
from workbench.run.errors import WorkbenchError, did_you_mean

USAGE = """usage: python -m annotate VERB CONFIG.yaml [a.b=value ...] [--dry-run]

  pairs      sample answers from a run and write them as pairs to label; with --follow RUN [--passes N] put
             pairs of its newest weights into the queue, while people label
  serve      open the page in which people label the pairs
  simulate   let the simulated annotators of the embedded default label them
  load       CONFIG.yaml FILE [--gold | --relabel]: more items to label; of a file of preferences, as tests of
             annotators whose answer is known, or to be judged anew
  prioritise CONFIG.yaml FILE: the order in which items are handed out, and which are asked about again
  export     write the judgements as preference records; with --raw OUT.jsonl every judgement as it was made
  campaign   start | report [NAME]: compare two or more runs blind on held-out prompts (--json for programs)
  status     print progress and agreement (--json for programs)
  upgrade    bring a label store of an older version to this one; serve, load and annotator do it too
  backup     CONFIG.yaml OUT.sqlite: a copy of the labels, also while people label
  restore    CONFIG.yaml BACKUP: a backup takes the place of the store, which is kept beside under another name
  copy       CONFIG.yaml TARGET: the whole store into an empty database or a new file, SQLite or PostgreSQL
  annotator  CONFIG.yaml list | add NAME [--role annotator|reviewer|admin] | password NAME | pause NAME |
             resume NAME | remove NAME | role NAME ROLE: who may use the page and the API;
             tokens [NAME] | token NAME [PURPOSE] [--scope label|read|admin] [--days N] | token revoke NUMBER"""


def _config(verb: str, argv: list[str]) -> AnnotateConfig | None:
    command = parse_command_line(AnnotateConfig, argv, prog=f"python -m annotate {verb}", description=_summary(verb))
    return None if command.dry_run else command.config


def _summary(verb: str) -> str:
    return next(line.split(maxsplit=1)[1] for line in USAGE.splitlines() if line.startswith(f"  {verb} "))


def pairs(argv: list[str]) -> None:
    """Sample pairs from a run, once, or again and again while people label."""
    run, argv = _option(argv, "--follow", "")
    passes, argv = _option(argv, "--passes", "0")
    config = _config("pairs", argv)
    if config is None:
        return
    if not passes.isdigit():
        raise WorkbenchError("--passes", f"{passes!r} is no number", expected="how often to sample; 0: until stopped")
    check_pairs(config, run)
    from annotate.answering import follow_run, sample_pairs

    if run:
        follow_run(config, run, passes=int(passes))
    else:
        sample_pairs(config)


def campaign(argv: list[str]) -> None:
    """Compare runs blind."""
    words, rest = _words([argument for argument in argv if argument != "--json"])
    config = _config("campaign", rest)
    if config is None:
        return
    if words == ["start"]:
        check_campaign(config)
    from annotate.answering import campaign as compare

    compare(config, words, as_json="--json" in argv)


def _open_with_items(config: AnnotateConfig, *, durable: bool = True) -> Store:
    """The store, holding the items of the pairs file; without such a file, what was loaded before."""
    from annotate.intake.load import load_file, loaded_text

    path = Path(config.pairs.out) if config.pairs.out is not None else None
    if path is not None and path.is_file():
        store = Store.open(config.store_url, durable=durable, say=print)
        loaded = load_file(store, path, config.queue.intake, rules=RowRules(config.data.ignore, config.data.bad_rows))
        print(f"{store.place}: {loaded_text(loaded)}")
        return store
    if "://" in config.store_url or Path(config.store_url).is_file():
        store = Store.open(config.store_url, durable=durable, say=print)
        with store.read() as transaction:
            if transaction.totals(simulated=False)[0]:
                return store
        store.close()
    raise WorkbenchError(
        path or config.store_url.split("@")[-1],
        "there are no pairs to label yet",
        expected="the items that `pairs` writes (pairs.out), or items loaded from a file",
        remedy="python -m annotate pairs CONFIG.yaml, or python -m annotate load CONFIG.yaml FILE",
    )


def load(argv: list[str]) -> None:
    """Load a file of items."""
    gold, relabel = "--gold" in argv, "--relabel" in argv
    words, rest = _words([a for a in argv if a not in ("--gold", "--relabel")])
    config = _config("load", rest)
    if config is None:
        return
    if len(words) != 1 or (gold and relabel):
        raise WorkbenchError(
            "load", f"cannot read {' '.join(argv)!r}", expected="load CONFIG.yaml FILE [--gold | --relabel]"
        )
    from annotate.intake.load import load_file, loaded_text

    rules = RowRules(config.data.ignore, config.data.bad_rows)
    store = Store.open(config.store_url, say=print)
    loaded = load_file(store, words[0], config.queue.intake, gold=gold, relabel=relabel, rules=rules)
    print(f"{store.place}: {loaded_text(loaded)}")
    store.close()


def prioritise(argv: list[str]) -> None:
    """Read priorities."""
    words, rest = _words(argv)
    config = _config("prioritise", rest)
    if config is None:
        return
    if len(words) != 1:
        raise WorkbenchError("prioritise", f"cannot read {' '.join(argv)!r}", expected="prioritise CONFIG.yaml FILE")
    from annotate.intake.priorities import apply_priorities

    store = Store.open(config.store_url, as_it_is=True)
    print(f"{store.place}: {apply_priorities(store, words[0])}")
    store.close()


def backup(argv: list[str]) -> None:
    """Copy the store."""
    words, rest = _words(argv)
    config = _config("backup", rest)
    if config is None:
        return
    if len(words) != 1:
        raise WorkbenchError("backup", f"cannot read {' '.join(argv)!r}", expected="backup CONFIG.yaml OUT.sqlite")
    store = Store.open(config.store_url, as_it_is=True)
    store.backup(Path(words[0]))
    store.close()
    print(f"{words[0]}: {Path(words[0]).stat().st_size:,} bytes")


def restore(argv: list[str]) -> None:
    """Put a backup in the place of the store."""
    words, rest = _words(argv)
    config = _config("restore", rest)
    if config is None:
        return
    if len(words) != 1:
        raise WorkbenchError("restore", f"cannot read {' '.join(argv)!r}", expected="restore CONFIG.yaml BACKUP")
    from annotate.store.files import restore as put_back

    path, backup = sqlite_path(config.store_url), Path(words[0])
    if path is None:
        raise WorkbenchError(
            "store.url",
            "is not an SQLite file",
            expected="a copy that the database's own program made",
            remedy=f"pg_restore --clean --dbname=DATABASE {backup}",
        )
    kept = put_back(path, backup)
    print(f"{path}: is {backup} now; everybody logs in again" + (f"; as it was before: {kept}" if kept else ""))


def copy(argv: list[str]) -> None:
    """Copy the whole store into another database."""
    words, rest = _words(argv)
    config = _config("copy", rest)
    if config is None:
        return
    if len(words) != 1:
        shown = "copy CONFIG.yaml TARGET, where TARGET is a file or postgresql://USER@HOST/DATABASE"
        raise WorkbenchError("copy", f"cannot read {len(words)} targets", expected=shown)
    refuse_password("TARGET", words[0])
    from annotate.store.copying import copy_store

    store = Store.open(config.store_url, as_it_is=True)
    counts = copy_store(store, words[0])
    store.close()
    print(f"{words[0]}: {', '.join(f'{count:,} {table}' for table, count in counts.items())}")
    print(f"from now on use store.url={words[0]}; {store.place} is left as it was")


def upgrade(argv: list[str]) -> None:
    """Bring an older store to this version."""
    config = _config("upgrade", argv)
    if config is None:
        return
    if "://" not in config.store_url and not Path(config.store_url).is_file():
        raise WorkbenchError(config.store_url, "no such label store", expected="the store.url of an older version")
    said: list[str] = []
    Store.open(config.store_url, say=said.append).close()
    print("\n".join(said) if said else f"{config.store_url.split('@')[-1]}: is of this version already")


def _words(argv: list[str]) -> tuple[list[str], list[str]]:
    """A verb's own words, and the arguments without them: configuration, overrides, options."""
    rest = [a for a in argv if a.startswith("-") or a.endswith((".yaml", ".yml")) or _OVERRIDE.match(a)]
    return [a for a in argv if a not in rest], rest


def serve(argv: list[str]) -> None:
    """Open the page."""
    config = _config("serve", argv)
    if config is None:
        return
    print("loading …", flush=True)
    from annotate.queue.rules import Queue
    from annotate.web.app import create_app, listen, login_needed, run, warning
    from annotate.web.contents import read_contents, remember_guidelines
    from annotate.web.reward_files import RewardFiles

    server, page = config.server, config.page
    contents = read_contents(
        server.title,
        guidelines=page.guidelines,
        rubric=page.rubric,
        edit=page.edit,
        ask_before_saving=page.ask_before_saving,
        language=page.language,
    )
    store = _open_with_items(config)
    login = login_needed(store, host=server.host, require_login=server.require_login)
    open_to_others = warning(host=server.host, https=server.https)
    if open_to_others is not None:
        print(f"warning: {open_to_others}", file=sys.stderr)
    if not login and config.queue.overlap > 1 and config.queue.overlap_share > 0:
        print(
            f"one person labels here (no accounts), and {config.queue.overlap_share:.0%} of the pairs wait for "
            f"{config.queue.overlap} people: with queue.overlap=1, set before the pairs are loaded, none do"
        )
    listener = listen(server.host, server.port)
    key = None if login else secrets.token_urlsafe(24)
    remember_guidelines(store, contents)
    section = config.queue
    queue = Queue(store, lease_seconds=section.lease_seconds, seed=section.seed, planting=section.planting)
    app = create_app(
        store,
        queue,
        contents,
        login=login,
        https=server.https,
        key=key,
        session_days=server.session_days,
        host=server.host,
        port=server.port,
        intake=section.intake,
        rules=config.export.rules,
        reward=RewardFiles(*(Path(name) if name else None for name in (config.lead.curve, config.lead.relabel))),
    )
    shown = f"[{server.host}]" if ":" in server.host else server.host
    link = f"/?token={key}" if key else ""
    print(f"http://{shown}:{server.port}{link}  (Ctrl-C stops it; every label is saved)", flush=True)
    run(app, listener, proxies=server.proxies)
    store.close()


def simulate(argv: list[str]) -> None:
    """Let simulated annotators label."""
    config = _config("simulate", argv)
    if config is None:
        return
    from annotate.queue.rules import Queue
    from annotate.simulate import simulate as label
    from workbench.run.progress import progress

    store = _open_with_items(config, durable=False)
    with store.read() as transaction:
        _, wanted, given = transaction.totals(simulated=True)
    queue = Queue(store, lease_seconds=config.queue.lease_seconds, seed=config.queue.seed)
    number, left = config.simulate.number, wanted - given
    with progress(total=min(number or left, left), description="simulate", unit="judgement") as bar:
        made = label(store, queue, number=number, seed=config.simulate.seed, step=bar.update)
    print(f"{store.place}: {made:,} judgements by simulated annotators ({given + made:,} of {wanted:,})")
    store.close()


def export(argv: list[str]) -> None:
    """Write preference records, or the raw judgements."""
    raw, argv = _option(argv, "--raw", "")
    config = _config("export", argv)
    if config is None:
        return
    if raw:
        from annotate.labels.raw_export import export_raw

        print(f"{raw}: {export_raw(Store.open(config.store_url, as_it_is=True), Path(raw)):,} judgements")
        return
    from annotate.labels.export import counts_text
    from annotate.labels.export import export as write

    section = config.export
    out = Path(needed("export.out", section.out))
    demonstrations = Path(section.demonstrations) if section.demonstrations else None
    counts = write(Store.open(config.store_url, as_it_is=True), out, section.rules, demonstrations=demonstrations)
    print(f"{out}: {counts_text(counts)}")


def status(argv: list[str]) -> None:
    """Print progress and agreement."""
    config = _config("status", [argument for argument in argv if argument != "--json"])
    if config is None:
        return
    from annotate.labels.status import render
    from annotate.labels.status import status as report

    store = Store.open(config.store_url, as_it_is=True)
    print(json.dumps(report(store), indent=2) if "--json" in argv else render(store))


def annotator(argv: list[str]) -> None:
    """List, add and change accounts."""
    role, argv = _option(argv, "--role", "annotator")
    scope, argv = _option(argv, "--scope", "admin")
    days, argv = _option(argv, "--days", "")
    words, rest = _words(argv)
    config = _config("annotator", rest)
    if config is None:
        return
    if days and not days.isdigit():
        raise WorkbenchError("--days", f"{days!r} is not a number", expected="for how many days the token is valid")
    from annotate.people.commands import change_accounts

    store = Store.open(config.store_url, say=print)
    change_accounts(store, words, role, scope=scope, days=int(days) if days else None)
    store.close()


_OVERRIDE = re.compile(r"[a-z_]+(\.[a-z_]+)+=")


def _option(argv: list[str], name: str, default: str) -> tuple[str, list[str]]:
    """An option's value, and the arguments without it."""
    if name not in argv:
        return default, argv
    at = argv.index(name)
    if at + 1 >= len(argv):
        raise WorkbenchError(name, "has no value")
    return argv[at + 1], argv[:at] + argv[at + 2 :]


VERBS: dict[str, Callable[[list[str]], None]] = {
    "pairs": pairs,
    "campaign": campaign,
    "serve": serve,
    "simulate": simulate,
    "load": load,
    "prioritise": prioritise,
    "export": export,
    "status": status,
    "upgrade": upgrade,
    "backup": backup,
    "restore": restore,
    "copy": copy,
    "annotator": annotator,
}


def main(argv: list[str]) -> int:
    """Run one verb."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if argv else 2
    verb, rest = argv[0], argv[1:]
    if verb not in VERBS:
        raise WorkbenchError(
            f"command line: {verb!r}", "unknown verb", expected=", ".join(VERBS), remedy=did_you_mean(verb, VERBS)
        )
    try:
        VERBS[verb](rest)
    except KeyboardInterrupt:
        print("stopped; what was saved before is in the store", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    run_main(main)
