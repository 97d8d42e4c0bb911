"""The process that writes answers, as its server sees it: starts it, shares it fairly, starts it again when it dies.

At most `most_at_once` answers are written at a time; they share the forward passes. What waits is taken from the
account that has the fewest answers at work, then in the order of asking. Imports no torch.
"""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import count
from typing import Any

from workbench.run.errors import WorkbenchError
from workbench.serve.protocol import Ask, Score

MOST_AT_ONCE = 8
"""Answers that are written at one time; each holds a key-value cache."""
MOST_WAITING = 64
"""Requests that wait; one more is refused."""
MOST_STARTS = 3
"""Failed starts in a row, after which the process is left alone."""
_GONE = f"the process that writes answers failed to start {MOST_STARTS} times; its own messages are in the server's log"
COMMAND = (sys.executable, "-m", "workbench.serve.worker")


class QueueFull(WorkbenchError):
    """Too many requests wait."""


@dataclass(frozen=True)
class Want:
    """An answer that a request wants: who writes it, to what, and how. None: as the engine was told."""

    run: int
    prompt: list[dict[str, str]] | str
    seed: int
    max_new_tokens: int | None = None
    temperature: float | None = None
    stop: Sequence[str] = ()


@dataclass(frozen=True)
class WantScores:
    """The scores that a request wants."""

    run: int
    conversations: list[list[dict[str, str]]]


@dataclass(eq=False)
class Request:
    """Answers that are written side by side, or scores."""

    account: int
    wants: Sequence[Want | WantScores]
    said: Callable[[int, dict[str, Any]], None]
    """Receives the index of the answer and what the worker says of it; called from the reader's thread."""
    jobs: dict[int, int] = field(default_factory=dict)
    """Job → index of the answer, for those at work."""


class Engine:
    """The worker process and the requests that it serves."""

    def __init__(
        self,
        runs: Sequence[str],
        *,
        max_new_tokens: int,
        temperature: float,
        command: str,
        option: str,
        most_at_once: int = MOST_AT_ONCE,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        """Start nothing yet.

        Args:
            runs: folders, the worker's arguments.
            max_new_tokens, temperature: of answers that do not say.
            command: the user's, as errors name it.
            option: how the user sets `max_new_tokens`.
            most_at_once: answers written at one time.
            most_waiting: requests that wait.
        """
        self._runs, self._max_new_tokens, self._temperature = list(runs), max_new_tokens, temperature
        self._most_at_once, self._most_waiting, self._option = most_at_once, most_waiting, option
        self._command = command
        self._lock = threading.RLock()
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._ready = self._closed = False
        self._numbers = count(1)
        self._at_work: dict[int, Request] = {}
        """Job → its request."""
        self._waiting: list[Request] = []

    def start(self) -> None:
        """Start the process, and return when it can answer.

        Raises:
            WorkbenchError: the runs cannot be opened.
        """
        problem = self._open()
        if problem is not None:
            raise problem
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._closed = True
        if self._reader is not None:
            assert self._process is not None
            self._process.terminate()
            self._reader.join()

    @property
    def load(self) -> tuple[int, int]:
        """Answers that are written now, and requests that wait."""
        with self._lock:
            return len(self._at_work), len(self._waiting)

    @property
    def ready(self) -> bool:
        """Whether the process takes requests now."""
        return self._ready and not self._closed

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process is not None
        return self._process.pid

    def ask(self, request: Request) -> None:
        """Have the answers of a request written, now or when it is its turn.

        Raises:
            WorkbenchError: too many requests wait, or the process does not start any more.
        """
        with self._lock:
            if self._closed:
                raise WorkbenchError(self._command, _GONE)
            if len(self._waiting) >= self._most_waiting:
                raise QueueFull(
                    "queue", f"{self._most_waiting} requests are already waiting", remedy="try again in a minute"
                )
            self._waiting.append(request)
            self._begin()

    def place(self, request: Request) -> int:
        """How many requests are served before this one; 0 if it is being served."""
        with self._lock:
            return self._in_turn().index(request) + 1 if request in self._waiting else 0

    def stop(self, request: Request, index: int | None = None) -> None:
        """End an answer, or all of a request, as it is; the worker still says what it has written."""
        with self._lock:
            if request in self._waiting:
                self._waiting.remove(request)
                for number in range(len(request.wants)):
                    request.said(number, {"text": "", "ended": False})
                return
            for job, number in request.jobs.items():
                if index in (None, number):
                    self._send({"stop": job})

    def _in_turn(self) -> list[Request]:
        """The waiting requests in the order in which they would be served now."""
        busy: dict[int, int] = {}
        for request in self._at_work.values():
            busy[request.account] = busy.get(request.account, 0) + 1
        return sorted(self._waiting, key=lambda request: busy.get(request.account, 0))  # stable: oldest first

    def _begin(self) -> None:
        """Hand as many waiting requests to the process as it takes."""
        while self._ready and self._waiting:
            request = self._in_turn()[0]
            if self._at_work and len(self._at_work) + len(request.wants) > self._most_at_once:
                return
            self._waiting.remove(request)
            for index, want in enumerate(request.wants):
                job = next(self._numbers)
                request.jobs[job], self._at_work[job] = index, request
                self._send(asdict(self._job(job, want)))

    def _job(self, job: int, want: Want | WantScores) -> Ask | Score:
        if isinstance(want, WantScores):
            return Score(job, want.run, want.conversations)
        tokens = self._max_new_tokens if want.max_new_tokens is None else want.max_new_tokens
        temperature = self._temperature if want.temperature is None else want.temperature
        return Ask(job, want.run, want.prompt, tokens, temperature, want.seed, want.stop)

    def _send(self, line: dict[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(OSError, ValueError):  # it has died: the reader sees that, and tells those who wait
            self._process.stdin.write(json.dumps(line) + "\n")
            self._process.stdin.flush()

    def _open(self) -> WorkbenchError | None:
        """Start the process and wait until it is ready; the problem if it is not."""
        # In a session of its own, so that Ctrl-C reaches the server alone, which then ends it.
        self._process = subprocess.Popen(
            COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", start_new_session=True
        )
        self._send({"runs": self._runs, "max_new_tokens": self._max_new_tokens, "option": self._option})
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        said = json.loads(line) if line.endswith("\n") else {}
        if said.get("ready"):
            with self._lock:
                self._ready = True
                self._begin()
            return None
        ending = _ending(self._reap())
        return WorkbenchError(
            self._command, said.get("fatal") or f"the process that writes answers {ending} at its start"
        )

    def _reap(self) -> int:
        """Wait for the process, which has closed its output, and return its exit code."""
        process = self._process
        assert process is not None
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with suppress(OSError):  # a line that it did not read any more
                pipe.close()
        return process.wait()

    def _read(self) -> None:
        """Pass on what the process says; start it again when it dies."""
        while True:
            assert self._process is not None
            assert self._process.stdout is not None
            for line in self._process.stdout:
                if line.endswith("\n"):
                    self._pass_on(json.loads(line))
            self._lose_jobs(_ending(self._reap()))
            for start in range(MOST_STARTS):
                if self._closed:
                    return
                if self._open() is None:
                    break
                time.sleep(start + 1)
            else:
                return self._give_up()

    def _pass_on(self, line: dict[str, Any]) -> None:
        job = line.pop("job")
        with self._lock:
            request = self._at_work.get(job)
            if request is None:
                return
            index = request.jobs[job]
            if "add" not in line:
                del self._at_work[job], request.jobs[job]
                self._begin()
        request.said(index, line)

    def _lose_jobs(self, ending: str) -> None:
        with self._lock:
            self._ready = False
            lost = [(request, index) for request in set(self._at_work.values()) for index in request.jobs.values()]
            for request, _ in lost:
                request.jobs = {}
            self._at_work.clear()
        if not self._closed:
            print(f"the process that writes answers {ending}; starting it again", file=sys.stderr, flush=True)
        for request, index in lost:
            request.said(index, {"error": f"The process that writes answers {ending}. It starts again: retry."})

    def _give_up(self) -> None:
        print(_GONE, file=sys.stderr, flush=True)
        with self._lock:
            self._closed = True
            waiting, self._waiting = self._waiting, []
        for request in waiting:
            for index in range(len(request.wants)):
                request.said(index, {"error": _GONE})


def _ending(code: int) -> str:
    """How a process ended."""
    return f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with exit code {code}"
