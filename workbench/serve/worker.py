"""The process that writes answers: the base once, an adapter per run; all answers of a run share each forward pass.

    python -m workbench.serve.worker        (started by `workbench.serve.engine`)

It reads one JSON object per line: first the runs, then jobs and stops. It writes one JSON object per line: `ready` or
`fatal`, then pieces of text. It ends if its input ends, so it never outlives the server. Imports torch.
"""

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, TextIO

from workbench.data.records import Message
from workbench.data.tokenise import encode_prompt, encode_rows, encode_text
from workbench.model.base import load_base, load_tokenizer
from workbench.model.cpu.blocks import one_thread_per_op
from workbench.model.heads import load_head
from workbench.model.open import base_of, check_probe
from workbench.model.roles import Roles
from workbench.model.score import score_rows
from workbench.model.stream import Batch, Stream
from workbench.run.errors import WorkbenchError
from workbench.run.out_of_memory import is_out_of_memory
from workbench.run.sources import Source, locate
from workbench.serve.protocol import Ask, Said, Score

PIECE_SECONDS = 0.05
"""Shortest time between two pieces of one answer: decoding each token anew would cost more than it shows."""
PROMPT_TOKENS = 2048
"""Prompt tokens that join a batch at one step, at most, if more than one answer waits: the others go on meanwhile."""
SMALL = 1024
"""Hidden size below which, on a CPU, threads that share an operation wait for one another longer than they compute."""
SCORED_ROWS = 32
"""Conversations scored in one pass."""


def role_of(run: int) -> str:
    """The name of a run's role, by its position on the command line."""
    return f"run_{run}"


def open_sources(sources: list[Source]) -> Roles:
    """All adapters on one base, with the heads of reward runs.

    Raises:
        WorkbenchError: the base is missing or has changed, an adapter does not fit it, or a reward model no longer
            gives its stored probe batch the same scores.
    """
    spec = base_of(sources[0].run)
    tokenizer = load_tokenizer(spec.name, spec.revision, spec.pad_token)
    roles = Roles.of(load_base(spec, tokenizer), tokenizer, role_of(0), sources[0].adapter)
    for run, source in enumerate(sources):
        if run > 0:
            base_of(source.run)  # checks that its base has not changed
            roles.add(role_of(run), source.adapter)
        if source.run.record()["phase"] == "reward":
            head, probe = load_head(source.run.head_path)
            roles.heads[role_of(run)] = head.to(roles.device).requires_grad_(False)
            if probe is not None:
                check_probe(roles, role_of(run), probe, source.run.path)
    return roles


@dataclass(eq=False)
class _Answer:
    """A job that is being written."""

    job: int
    stream: Stream
    stop: Sequence[str]
    sent: str = ""
    sent_at: float = 0.0

    def cut(self, text: str) -> tuple[str, bool]:
        """The text before the first stop text, and whether there is one."""
        places = [place for stop in self.stop if (place := text.find(stop)) >= 0]
        return (text[: min(places)], True) if places else (text, False)

    def settled(self, text: str) -> str:
        """The part of a text that no later token can make part of a stop text."""
        begun = (size for stop in self.stop for size in range(1, len(stop)) if text.endswith(stop[:size]))
        return text[: len(text) - max(begun, default=0)]


@dataclass
class _Run:
    """The answers of one run: those in its batch, and those that join it next."""

    batch: Batch
    answers: list[_Answer] = field(default_factory=list)
    joining: list[_Answer] = field(default_factory=list)

    def next_to_join(self) -> list[_Answer]:
        """The oldest that wait, up to `PROMPT_TOKENS`."""
        total, count = 0, 0
        for answer in self.joining:
            total += len(answer.stream.prompt)
            if count and total > PROMPT_TOKENS:
                break
            count += 1
        chosen, self.joining = self.joining[:count], self.joining[count:]
        return chosen


class Worker:
    """Writes the answers that are asked for."""

    def __init__(self, roles: Roles, said: Said) -> None:
        self._roles, self._said = roles, said
        self._runs: dict[int, _Run] = {}

    def serve(self, lines: "queue.Queue[dict[str, Any] | None]") -> None:
        """Work until the input ends (`None`)."""
        while True:
            try:
                line = lines.get(block=not self._runs)
                if line is None:
                    return
                self._take(line)
            except queue.Empty:
                for number, run in list(self._runs.items()):
                    if run.answers or run.joining:
                        self._advance(run)
                    else:
                        del self._runs[number]

    def _take(self, line: dict[str, Any]) -> None:
        if "stop" in line and "job" not in line:
            for run in self._runs.values():
                for answer in [*run.answers, *run.joining]:
                    if answer.job == line["stop"]:
                        self._end(run, answer)
        elif "conversations" in line:
            score = Score(**line)
            with self._explained(score.job):
                self._said({"job": score.job, "scores": self._scores(score)})
        else:
            ask = Ask(**line)
            with self._explained(ask.job):
                answer = _Answer(ask.job, self._stream(ask), ask.stop)
                run = self._runs.setdefault(ask.run, _Run(Batch(self._roles, role_of(ask.run))))
                run.joining.append(answer)

    def _stream(self, ask: Ask) -> Stream:
        if isinstance(ask.prompt, str):
            prompt = encode_text(self._roles.tokenizer, ask.prompt)[:-1]  # without EOS: it goes on
        else:
            prompt = encode_prompt(self._roles.tokenizer, [Message.model_validate(message) for message in ask.prompt])
        self._check_length(len(prompt), ask.max_new_tokens)
        options: Any = {"max_new_tokens": ask.max_new_tokens, "temperature": ask.temperature, "seed": ask.seed}
        return Stream(self._roles, role_of(ask.run), prompt, **options)

    def _check_length(self, tokens: int, answer: int) -> None:
        positions = self._roles.positions
        if tokens < positions <= answer:
            raise _TooLong(
                "answer",
                f"{answer:,} tokens are asked for, and the base reads {positions:,}, the prompt included",
                expected=f"at most {positions - tokens:,} after this prompt of {tokens:,}",
                remedy="ask for fewer: max_tokens",
            )
        answer = answer if answer < positions else 0
        if tokens + answer > positions:
            left = f", which leaves {answer:,} for the answer" if answer else ""
            raise _TooLong(
                "conversation",
                f"it has {tokens:,} tokens, and the base reads {positions:,}",
                expected=f"at most {positions - answer:,}{left}",
                remedy="send a shorter message, or begin a new conversation",
            )

    def _scores(self, score: Score) -> list[float]:
        rows: list[list[int]] = []
        for conversation in score.conversations:
            *prompt, answer = [Message.model_validate(message) for message in conversation]
            rows += encode_rows(self._roles.tokenizer, prompt, answer.content)
            self._check_length(len(rows[-1]), 0)
        scores: list[float] = score_rows(self._roles, role_of(score.run), rows, batch_size=SCORED_ROWS).tolist()
        return scores

    def _advance(self, run: _Run) -> None:
        """One more token for every answer of a run. If that fails for want of memory, they all end."""
        joining = run.next_to_join()
        run.answers += joining
        try:
            run.batch.step([answer.stream for answer in joining])
        except Exception as error:
            ended, run.answers = run.answers, []
            for answer in ended:
                with self._explained(answer.job):
                    raise error
            run.batch = Batch(self._roles, ended[0].stream.role)
            return
        for answer in list(run.answers):
            self._tell(run, answer)

    def _tell(self, run: _Run, answer: _Answer) -> None:
        """Send what is new of an answer, if it is time."""
        now = time.monotonic()
        if answer.stream.finished:
            self._end(run, answer)
        elif answer.stop or now - answer.sent_at >= PIECE_SECONDS:
            text, stopped = answer.cut(answer.stream.text())
            if stopped:
                self._end(run, answer)
            elif now - answer.sent_at >= PIECE_SECONDS:
                text = answer.settled(text)
                keep = _shared(answer.sent, text)
                self._said({"job": answer.job, "keep": keep, "add": text[keep:]})
                answer.sent, answer.sent_at = text, now

    def _end(self, run: _Run, answer: _Answer) -> None:
        (run.joining if answer in run.joining else run.answers).remove(answer)
        stream = answer.stream
        run.batch.leave(stream)
        text, stopped = answer.cut(stream.text())
        usage = {"prompt_tokens": len(stream.prompt), "completion_tokens": len(stream.ids)}
        counted = {"usage": usage} if stream.ids else {}
        self._said({"job": answer.job, "text": text, "ended": stream.ended or stopped, **counted})

    @contextmanager
    def _explained(self, job: int) -> Iterator[None]:
        """An error that the user can act on ends this job alone."""
        try:
            yield
        except Exception as error:
            if isinstance(error, WorkbenchError):
                text = str(error)
            elif is_out_of_memory(error):
                text = "the model ran out of memory: send a shorter message, or begin a new conversation"
            else:
                raise
            too_long = {"too_long": True} if isinstance(error, _TooLong) else {}
            self._said({"job": job, "error": text, **too_long})


class _TooLong(WorkbenchError):
    """A prompt that does not fit into the base's positions."""


def _shared(before: str, now: str) -> int:
    """How many characters two texts have in common, from their start."""
    pairs = enumerate(zip(before, now, strict=False))
    return next((place for place, (old, new) in pairs if old != new), min(len(before), len(now)))


def _read(source: TextIO, lines: "queue.Queue[dict[str, Any] | None]") -> None:
    for line in source:
        lines.put(json.loads(line))
    lines.put(None)


def main() -> None:
    """Open the runs, and serve until the input ends."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not get between the lines

    def said(line: dict[str, Any]) -> None:
        with suppress(BrokenPipeError):  # the server has gone: the input ends next
            out.write(json.dumps(line) + "\n")
            out.flush()

    lines: queue.Queue[dict[str, Any] | None] = queue.Queue()
    threading.Thread(target=_read, args=(sys.stdin, lines), daemon=True).start()
    first = lines.get()
    if first is None:
        return
    try:
        roles = open_sources([locate(run) for run in first["runs"]])
        if roles.positions <= first["max_new_tokens"]:
            option = first.get("option", "max_new_tokens")
            raise WorkbenchError(
                option,
                f"{first['max_new_tokens']:,} tokens of an answer leave no room for a question",
                expected=f"fewer than the {roles.positions:,} positions of the base",
                remedy=f"{option}={roles.positions // 2}",
            )
    except WorkbenchError as error:
        said({"fatal": str(error)})
        return
    said({"ready": True})
    small = roles.device.type == "cpu" and roles.causal_model.config.hidden_size < SMALL
    with one_thread_per_op() if small else nullcontext():
        Worker(roles, said).serve(lines)


if __name__ == "__main__":
    main()
