"""`python -m annotate arena`: from run folders to the running page."""

import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from annotate.arena.app import create_arena
from annotate.arena.battles import Battles
from annotate.arena.routes import Arena
from annotate.campaign.battles import ARENA, OPENED
from annotate.campaign.start import started_campaigns
from annotate.config import AnnotateConfig
from annotate.people.access import Access
from annotate.store.address import ENVIRONMENT
from annotate.store.database import Store
from annotate.web.app import login_needed, warning
from annotate.web.contents import PageContents
from annotate.web.texts import Texts
from workbench.run.errors import Problems, WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.sources import Source, check_one_base, locate
from workbench.serve.engine import Engine
from workbench.serve.http import listen, run


def serve_arena(config: AnnotateConfig, runs: Sequence[str]) -> None:
    """Serve the page until interrupted; with one run a chat, whose conversations are not stored.

    Raises:
        WorkbenchError: the runs cannot be opened together, or the address cannot be used.
    """
    sources, server = check_runs(runs), config.server
    names, texts = [source.name for source in sources], Texts(config.page.language)
    with ExitStack() as stack:
        # SIGTERM is Ctrl-C here: by default it would leave out the ends below.
        stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, signal.default_int_handler))
        store = _open_store(config, sources, stack)
        login = login_needed(store, host=server.host, require_login=server.require_login)
        if (open_to_others := warning(host=server.host, https=server.https)) is not None:
            print(f"warning: {open_to_others}", file=sys.stderr)
        listener = stack.enter_context(listen(server.host, server.port))
        with store.write() as transaction:
            cookie_key = transaction.setting("cookie_key")
            if len(names) > 1:
                transaction.add_event(OPENED, time.time(), runs=names)
        assert cookie_key is not None  # written when the store is made
        section = config.arena
        engine = Engine(
            list(runs),
            max_new_tokens=section.max_new_tokens,
            temperature=section.temperature,
            command="arena",
            option="arena.max_new_tokens",
        )
        stack.callback(engine.close)
        engine.start()
        battles = Battles(names, key=cookie_key, seed=section.seed)
        key = None if login else secrets.token_urlsafe(24)
        access = Access(store, login=login, days=server.session_days, key=key, port=server.port)
        title = texts("arena.title") if len(names) > 1 else texts("arena.chat")
        app = create_arena(
            Arena(store, battles, engine, texts, section.temperature), PageContents(title, config.page), access, server
        )
        shown = f"[{server.host}]" if ":" in server.host else server.host
        link = f"/?token={key}" if key else ""
        kept = f"every vote is saved in {store.place}" if len(names) > 1 else "conversations are not saved"
        print(f"http://{shown}:{server.port}{link}  (Ctrl-C stops it; {kept})", flush=True)
        run(app, listener, proxies=server.proxies)


def check_runs(runs: Sequence[str]) -> list[Source]:
    """The policies of these runs, after checking that they are different and share one base.

    Raises:
        WorkbenchError: every problem, in one message.
    """
    problems = Problems()
    found = [source for name in runs if (source := problems.attempt(_policy, name)) is not None]
    problems.raise_if_any()
    if len({source.mark for source in found}) < len(found):
        raise WorkbenchError("arena", f"one policy is named twice: {' '.join(runs)}", expected="different runs")
    check_one_base(found)
    return found


def _policy(name: str) -> Source:
    source = locate(name)
    RunFolder.open(source.run.path, phase=("sft", "ppo"))
    return source


def _open_store(config: AnnotateConfig, sources: Sequence[Source], stack: ExitStack) -> Store:
    """The store of the votes, by default next to the first run; that of a chat is deleted at its end."""
    named = config.store.url or os.environ.get(ENVIRONMENT)
    if len(sources) == 1 and not named:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chat-")))
        store = Store.open(folder / "chat.sqlite")
    elif named or config.pairs.out:
        store = Store.open(config.store_url, say=print)
    else:
        store = Store.open(sources[0].run.path.parent / "labels.sqlite", say=print)
    stack.callback(store.close)
    with store.read() as transaction:
        if ARENA in started_campaigns(transaction):
            raise WorkbenchError(
                store.place, f"has a campaign {ARENA!r}, a name that is now the arena's", remedy="another store.url"
            )
    return store
