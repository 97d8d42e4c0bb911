"""`python -m workbench serve`: from run folders to the running server. Opens no model itself."""

import os
import shutil
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from workbench.evaluate.inputs import answer_length
from workbench.run.errors import Problems, WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.sources import Source, check_one_base, locate
from workbench.serve.app import Model, Server, create_app
from workbench.serve.engine import Engine
from workbench.serve.http import LOCAL_HOSTS, listen, run
from workbench.serve.keys import Keys
from workbench.serve.metrics import Metrics
from workbench.serve.records import Inbox, RequestLog, check_outputs
from workbench.serve.vllm import vllm_command, vllm_environment

DRAIN_SECONDS = 30
"""After SIGTERM, answers have so long to end."""


@dataclass(frozen=True)
class ServeOptions:
    """The options of the command line."""

    host: str = "127.0.0.1"
    port: int = 8000
    keys: Path | None = None
    feedback: Path | None = None
    """Folder of the feedback; None: `feedback` next to the first run."""
    log: Path | None = None
    """The request log; None: none."""
    max_new_tokens: int | None = None
    """Tokens of an answer, if the request does not say; None: as in training."""
    at_once: int = 16
    """Answers written at one time."""
    waiting: int = 64
    """Requests that wait, at most; one more gets 429."""
    per_key: int = 32
    """Requests of one key at one time."""
    engine: str = "auto"
    """`own`, `vllm`, or `auto`: vllm if it is installed, there is a GPU, and no reward run is served."""


def serve(runs: Sequence[str], options: ServeOptions) -> None:
    """Serve runs until SIGTERM or Ctrl-C; answers that are being written then are finished first.

    Raises:
        WorkbenchError: runs that cannot be served together, a bad file of keys, a log or a folder of feedback that
            cannot be written, or an address in use.
    """
    sources, keys = check_runs(runs), Keys(options.keys)
    if options.host not in LOCAL_HOSTS and not keys.needed:
        raise WorkbenchError(
            f"--host {options.host}", "is open to other machines, but no key is required", remedy="--keys FILE"
        )
    feedback = options.feedback or sources[0].run.path.parent / "feedback"
    check_outputs(feedback, options.log)
    models = models_of(sources)
    if uses_vllm(options, models):
        words = vllm_command(sources, list(models), options.host, options.port)
        print(f"vLLM serves, without /v1/score, /v1/feedback and our log: {' '.join(words)}", flush=True)
        os.execvpe(words[0], words, vllm_environment(keys))
    with ExitStack() as stack:
        listener = stack.enter_context(listen(options.host, options.port, option="--port "))
        most = options.max_new_tokens or answer_length([source.run for source in sources])
        engine = Engine(
            list(runs),
            max_new_tokens=most,
            temperature=1.0,
            command="serve",
            option="--max-new-tokens",
            most_at_once=options.at_once,
            most_waiting=options.waiting,
        )
        log = None if options.log is None else RequestLog(options.log)
        inbox = Inbox(feedback)
        stack.callback(engine.close)
        engine.start()
        server = Server(models, engine, keys, inbox, Metrics(engine), log, most, options.per_key)
        # uvicorn sends itself the signal again after a graceful stop: ignored, so that this ends as any command does.
        for number in (signal.SIGTERM, signal.SIGINT):
            stack.callback(signal.signal, number, signal.signal(number, signal.SIG_IGN))
        shown = f"[{options.host}]" if ":" in options.host else options.host
        print(f"http://{shown}:{options.port}/v1 serves {', '.join(models)}  (Ctrl-C stops it)", flush=True)
        run(create_app(server), listener, proxies=(), drain_seconds=DRAIN_SECONDS)


def check_runs(runs: Sequence[str]) -> list[Source]:
    """The weights of these runs, after checking that they share one base.

    Raises:
        WorkbenchError: every problem, in one message.
    """
    problems = Problems()
    found = [source for name in runs if (source := problems.attempt(_served, name)) is not None]
    problems.raise_if_any()
    check_one_base(found, remedy="serve it by another process, with another --port")
    return found


def _served(name: str) -> Source:
    source = locate(name)
    RunFolder.open(source.run.path, phase=("sft", "ppo", "reward"))
    return source


def models_of(sources: Sequence[Source]) -> dict[str, Model]:
    """The models by the names that requests give: of the folder, or the whole path if two folders share a name.

    Raises:
        WorkbenchError: one run is named twice.
    """
    short = [Path(source.name).name for source in sources]
    models: dict[str, Model] = {}
    for number, source in enumerate(sources):
        name = short[number] if short.count(short[number]) == 1 else source.name
        if name in models:
            raise WorkbenchError(source.name, "is named twice", expected="different runs")
        kind = source.run.record()["phase"] == "reward"
        models[name] = Model(name, number, "reward" if kind else "policy")
    return models


def uses_vllm(options: ServeOptions, models: dict[str, Model]) -> bool:
    """Whether vLLM serves.

    Raises:
        WorkbenchError: it is asked for and not installed.
    """
    installed = shutil.which("vllm") is not None
    if options.engine == "vllm" and not installed:
        raise WorkbenchError("--engine vllm", "is not installed", remedy="pip install vllm, or --engine own")
    policies = all(model.kind == "policy" for model in models.values())
    wanted = options.engine == "auto" and policies and Path("/dev/nvidia0").exists() and not _needs_own(options)
    return options.engine == "vllm" or (installed and wanted)


def _needs_own(options: ServeOptions) -> bool:
    """Whether something is asked for that only our engine has."""
    if options.log is None and options.feedback is None:
        return False
    print("--log and --feedback need our own engine, so vLLM is not used", file=sys.stderr)
    return True
