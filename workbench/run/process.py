"""Starts commands that follow one another, each in a process of its own, without importing the libraries each time.

A phase takes five seconds to import its libraries. On a CPU, multiprocessing's fork server imports them once and forks
every command from there; the command itself is the one that a user would type. With a GPU each command starts afresh:
a library that opened CUDA when it was imported cannot be forked.
"""

import atexit
import multiprocessing
import os
import signal
import sys
import threading
import weakref
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

from workbench.run.errors import terminate
from workbench.run.peak import measure

LIBRARIES = ["workbench.run.own_session", "workbench.model", "trl.trainer.sft_trainer"]
"""Imported once: all but a few tenths of a second of a phase's imports, after what keeps signals of a group away."""
GPUS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""Device files of NVIDIA, AMD and WSL."""


def start(words: Sequence[str], measured: Path, log: Path | None = None) -> BaseProcess:
    """Start `python -m WORDS …`. It ends with this process, even if this one is killed.

    From now on SIGTERM stops this process as Ctrl-C does, so that the caller can end the command and wait for it.

    Args:
        words: Module and arguments.
        measured: JSON file for seconds and peak memory, written when the command ends.
        log: File for its output; None: where the output of this process goes.
    """
    _stop_at_sigterm()
    arguments = (list(words), measured, log, dict(os.environ))
    process: BaseProcess
    if has_gpu() or sys.platform != "linux":
        process = multiprocessing.get_context("spawn").Process(target=_run, args=arguments)
    else:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(LIBRARIES)
        process = context.Process(target=_run, args=arguments)
    process.start()
    return process


def has_gpu() -> bool:
    """Whether this machine has a GPU, told without importing torch."""
    return any(Path(device).exists() for device in GPUS)


def _run(words: list[str], measured: Path, log: Path | None, environment: dict[str, str]) -> None:
    """The command, in its own process."""
    # The fork server cleans up what it made, such as wandb's folder for tables; this process only what it makes itself.
    atexit._clear()
    weakref.finalize._registry.clear()  # type: ignore[attr-defined]
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]
    os.environ.clear()  # the fork server has the environment of the first command
    os.environ.update(environment)
    if log is not None:
        with log.open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _stop_at_sigterm()
    os.setsid()  # Ctrl-C and signals to the group reach the process that started it, which ends it
    try:
        measure(measured, *words)
    finally:
        atexit._run_exitfuncs()  # a child of multiprocessing ends without them


def _stop_at_sigterm() -> None:
    """Raise `Terminated` at SIGTERM, unless it is handled already. Without, nothing would be saved or cleaned up."""
    main = threading.current_thread() is threading.main_thread()  # which signals reach
    if main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, terminate)


def _end_with_parent() -> None:
    """End this process as soon as the one that started it has ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
