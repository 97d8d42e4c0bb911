"""`python -m annotate pairs|serve|simulate|export|status|users CONFIG.yaml [a.b=value …] [--dry-run]`.

Each verb imports what it needs when it runs: only `pairs` ever imports torch.
"""

import getpass
import json
import sys
from collections.abc import Callable
from pathlib import Path

from annotate.config import AnnotateConfig
from annotate.store import Store
from workbench.run.config import parse_command_line
from workbench.run.errors import WorkbenchError, did_you_mean, run_main

USAGE = """usage: python -m annotate VERB CONFIG.yaml [a.b=value ...] [--dry-run]

  pairs      sample answers from a run and write them as pairs to label
  serve      open the page in which people label the pairs
  simulate   let the simulated annotators of the embedded default label them
  export     write the judgements as preference records
  status     print progress and agreement (--json for programs)
  users      CONFIG.yaml list | add NAME [--role annotator|reviewer|admin]: accounts of the page"""


def _config(verb: str, argv: list[str]) -> AnnotateConfig | None:
    command = parse_command_line(AnnotateConfig, argv, prog=f"python -m annotate {verb}", description=_summary(verb))
    return None if command.dry_run else command.config


def _summary(verb: str) -> str:
    return next(line.split(maxsplit=1)[1] for line in USAGE.splitlines() if line.startswith(f"  {verb} "))


def pairs(argv: list[str]) -> None:
    """Sample pairs from a run."""
    config = _config("pairs", argv)
    if config is None:
        return
    from annotate.pairs import Recipe, make_pairs, sampler_of_run
    from workbench.data.embedded import resolve_data
    from workbench.data.readers import read_prompts

    section = config.pairs
    prompts = read_prompts(resolve_data(section.prompts))
    recipe = Recipe(**{name: getattr(section, name) for name in Recipe.__dataclass_fields__})
    out = Path(section.out)
    counts = make_pairs(prompts[: section.number], out, recipe, sampler_of_run(section.run))
    if counts.prompts < section.number:
        print(f"{section.prompts} holds {counts.prompts:,} prompts, not {section.number:,}: all were used")
    print(
        f"{out}: {counts.items:,} pairs from {counts.prompts:,} prompts and {counts.sampled:,} answers; "
        f"{counts.identical:,} answers repeated another, {counts.resampled:,} prompts were sampled again, "
        f"{counts.dropped:,} dropped because their answers stayed the same"
    )


def _open_with_items(config: AnnotateConfig, *, durable: bool = True) -> Store:
    """The store, holding the items of the pairs file."""
    from annotate.items import load_items
    from workbench.data.readers import read_items

    path, queue = Path(config.pairs.out), config.queue
    if not path.is_file():
        raise WorkbenchError(
            path,
            "there are no pairs to label yet",
            expected="the items that `pairs` writes (pairs.out)",
            remedy="python -m annotate pairs CONFIG.yaml",
        )
    items = read_items(path)
    store = Store.open(config.store_url, durable=durable)
    loaded = load_items(
        store,
        items,
        overlap=queue.overlap,
        overlap_share=queue.overlap_share,
        priority=queue.priority,
        seed=queue.seed,
        place=str(path),
    )
    same = f"; {loaded.identical:,} left out: both answers are the same" if loaded.identical else ""
    print(f"{store.place}: {loaded.new:,} new pairs, {loaded.known:,} known{same}")
    return store


def serve(argv: list[str]) -> None:
    """Open the page."""
    config = _config("serve", argv)
    if config is None:
        return
    from annotate.app import create_app, listen, login_needed, run
    from annotate.queue import Queue

    server = config.server
    store = _open_with_items(config)
    login = login_needed(store, host=server.host, require_login=server.require_login)
    listener = listen(server.host, server.port)
    queue = Queue(store, lease_seconds=config.queue.lease_seconds, seed=config.queue.seed)
    app = create_app(
        store,
        queue,
        title=server.title,
        login=login,
        https=server.https,
        session_days=server.session_days,
        host=server.host,
        port=server.port,
    )
    shown = f"[{server.host}]" if ":" in server.host else server.host
    print(f"http://{shown}:{server.port}  (Ctrl-C stops it; every label is saved)", flush=True)
    run(app, listener)
    store.close()


def simulate(argv: list[str]) -> None:
    """Let simulated annotators label."""
    config = _config("simulate", argv)
    if config is None:
        return
    from annotate.queue import Queue
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


def _existing_store(config: AnnotateConfig) -> Store:
    url = config.store_url
    if "://" not in url and not Path(url).is_file():
        raise WorkbenchError(
            url,
            "no such label store",
            expected="the store.url that `serve` or `simulate` wrote",
            remedy="label first: python -m annotate serve CONFIG.yaml",
        )
    return Store.open(url)


def export(argv: list[str]) -> None:
    """Write preference records."""
    config = _config("export", argv)
    if config is None:
        return
    from annotate.export import Rules
    from annotate.export import export as write

    section = config.export
    rules = Rules(**{name: getattr(section, name) for name in Rules.__dataclass_fields__ if name != "without"})
    demonstrations = Path(section.demonstrations) if section.demonstrations else None
    counts = write(_existing_store(config), Path(section.out), rules, demonstrations=demonstrations)
    print(
        f"{section.out}: {counts['exported'] + counts['edited']:,} preferences ({counts['heldout']:,} held out, "
        f"{counts['edited']:,} of improved answers); left out: {counts['ties']:,} ties, {counts['both_bad']:,} both "
        f"bad, {counts['flagged']:,} flagged, {counts['left_out']:,} by a reviewer, {counts['skipped']:,} skipped, "
        f"{counts['not_judged']:,} not judged"
    )


def status(argv: list[str]) -> None:
    """Print progress and agreement."""
    config = _config("status", [argument for argument in argv if argument != "--json"])
    if config is None:
        return
    from annotate.status import render
    from annotate.status import status as report

    store = _existing_store(config)
    print(json.dumps(report(store), indent=2) if "--json" in argv else render(store))


def users(argv: list[str]) -> None:
    """List or add accounts."""
    from annotate.people import add_account

    role, rest = _option(argv, "--role", "annotator")
    action = next((i for i, argument in enumerate(rest) if argument in ("add", "list")), len(rest))
    words, rest = rest[action : action + 2], rest[:action] + rest[action + 2 :]
    config = _config("users", rest)
    if config is None:
        return
    if words == ["list"]:
        with Store.open(config.store_url).read() as transaction:
            for account in transaction.annotators():
                kind = "simulated" if account.simulated else account.role
                print(f"{account.name}  {kind}{'' if account.active else f'  ({account.state})'}")
    elif len(words) == 2 and words[0] == "add":
        add_account(Store.open(config.store_url), words[1], role, _password())
        print(f"{words[1]} can log in ({role})")
    else:
        raise WorkbenchError(
            "users",
            f"cannot read {' '.join(argv)!r}",
            expected="users CONFIG.yaml list, or users CONFIG.yaml add NAME [--role ROLE]",
        )


def _option(argv: list[str], name: str, default: str) -> tuple[str, list[str]]:
    """An option's value, and the arguments without it."""
    if name not in argv:
        return default, argv
    at = argv.index(name)
    if at + 1 >= len(argv):
        raise WorkbenchError(name, "has no value")
    return argv[at + 1], argv[:at] + argv[at + 2 :]


def _password() -> str:
    """Asked for twice on a terminal; otherwise the first line of standard input."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password = getpass.getpass("password: ")
    if getpass.getpass("again: ") != password:
        raise WorkbenchError("password", "the two are not the same")
    return password


VERBS: dict[str, Callable[[list[str]], None]] = {
    "pairs": pairs,
    "serve": serve,
    "simulate": simulate,
    "export": export,
    "status": status,
    "users": users,
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
    VERBS[verb](rest)
    return 0


if __name__ == "__main__":
    run_main(main)
