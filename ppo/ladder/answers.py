"""The answers of each rung: sampled batch by batch, scored, and kept, so that a killed command goes on where it was."""

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from ppo.ladder.config import LadderSection, RungSection
from ppo.ladder.select import Answer
from workbench.data.batching import check_prompts
from workbench.data.hashing import text_digest
from workbench.data.records import Prompt
from workbench.evaluate.role_models import RoleScore, reward_roles
from workbench.model.generate import sample
from workbench.model.open import open_runs
from workbench.model.roles import Roles
from workbench.run.checkpoints import make_folder
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.lineage import data_fingerprint
from workbench.run.progress import progress

T = TypeVar("T")


class RungFile:
    """A rung's answers in `FOLDER/NAME.jsonl`: a line that says what they depend on, then one line per prompt."""

    def __init__(
        self,
        folder: Path,
        rung: RungSection,
        section: LadderSection,
        prompts: Sequence[Prompt],
        current: "Current | None" = None,
    ) -> None:
        self.path, self.wanted, self.batch = folder / f"{rung.name}.jsonl", len(prompts), section.batch_size
        self.key = {"depends_on": key_of(rung, section, prompts, current)}
        make_folder(folder)
        self.answers = self._read()

    @property
    def complete(self) -> bool:
        """Every prompt has its answer."""
        return len(self.answers) == self.wanted

    def append(self, answers: Sequence[Answer]) -> None:
        """Keep a finished batch."""
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(answer), ensure_ascii=False) + "\n" for answer in answers)
        self.answers += answers

    def _read(self) -> list[Answer]:
        """The batches that were written whole, the rest cut off; nothing if they depend on something else.

        Raises:
            WorkbenchError: a line is broken.
        """
        lines = self.path.read_bytes().splitlines(keepends=True) if self.path.is_file() else []
        whole = [line for line in lines if line.endswith(b"\n")]
        same = bool(whole) and self._parsed(1, whole[0], dict) == self.key
        done = len(whole) - 1 if same else 0
        kept = whole[1 : 1 + (done if done == self.wanted else done - done % self.batch)]
        answers = [self._parsed(number, line, lambda row: Answer(**row)) for number, line in enumerate(kept, start=2)]
        self.path.write_bytes(b"".join([json.dumps(self.key).encode() + b"\n", *kept]))
        return answers

    def _parsed(self, number: int, line: bytes, make: Callable[[Any], T]) -> T:
        try:
            return make(json.loads(line))
        except (ValueError, TypeError) as error:
            raise WorkbenchError(
                f"{self.path}:{number}",
                f"is broken: {error}",
                expected="the lines that this command wrote",
                remedy="delete the file: the rung is sampled again",
            ) from None


@dataclass(frozen=True)
class Current:
    """A policy in training, in place of the run `ladder.start`."""

    roles: Roles
    """With the policy as `default`."""
    digest: str
    """Of its weights."""


def key_of(rung: RungSection, section: LadderSection, prompts: Sequence[Prompt], current: Current | None = None) -> str:
    """A hash of everything that a rung's answers depend on, the contents of the runs included."""
    start = [] if current else [section.start]
    runs = [*([rung.run] if rung.run else start), *([section.reward] if section.reward else [])]
    return text_digest(
        *([current.digest] if current else []),
        rung.model_dump_json(),
        section.model_dump_json(include={"max_new_tokens", "batch_size", "seed"}),
        *(data_fingerprint(member.adapter) for run in runs for member in RunFolder.open(run).members),
        *(prompt.model_dump_json() for prompt in prompts),
    ).hex()


def climb(
    section: LadderSection, folder: Path, prompts: Sequence[Prompt], current: Current | None = None
) -> list[list[Answer]]:
    """(K rungs, N prompts) answers, the weakest rung first; models are opened only if something is to be sampled.

    Args:
        section: the ladder.
        folder: of the files of answers.
        prompts: N of them.
        current: the policy in place of `ladder.start`, with the other runs of the ladder on its base
            (`runs_beside`); None: all runs are opened.
    """
    files = [RungFile(folder, rung, section, prompts, current) for rung in section.rungs]
    if not all(file.complete for file in files):
        roles, score = open_ladder(section) if current is None else (current.roles, judge(current.roles, section))
        check_prompts(roles.tokenizer, prompts, max_new_tokens=section.max_new_tokens, key="ladder.max_new_tokens")
        for number, (rung, file) in enumerate(zip(section.rungs, files, strict=True)):
            role = f"rung_{number}"
            add_rung(roles, role, rung, section, start="default" if current else None)
            bar = progress(total=len(prompts), description=rung.name, unit="prompt", initial=len(file.answers))
            for start in range(len(file.answers), len(prompts), section.batch_size):
                batch = prompts[start : start + section.batch_size]
                file.append(list(batch_of_answers(roles, role, score, rung, section, batch, start)))
                bar.update(len(batch))
            bar.close()
    return [file.answers for file in files]


def open_ladder(section: LadderSection) -> tuple[Roles, RoleScore | None]:
    """One base with the adapters of every rung's run, and the reward models; and what scores answers."""
    rewards = reward_roles(Path(section.reward)) if section.reward else {}
    roles = open_runs({**sources(section), **rewards})
    return roles, judge(roles, section)


def judge(roles: Roles, section: LadderSection) -> RoleScore | None:
    """What scores answers, if the ladder has a reward run; its roles are on the base."""
    names = list(reward_roles(Path(section.reward))) if section.reward else []
    return RoleScore(roles, names, section.batch_size) if names else None


def runs_beside(section: LadderSection) -> dict[str, Path]:
    """Role → run folder of what a policy in training needs on its base to climb the ladder."""
    own = {name: Path(run) for name, run in sources(section).items() if any(rung.run == run for rung in section.rungs)}
    return own | (reward_roles(Path(section.reward)) if section.reward else {})


def sources(section: LadderSection) -> dict[str, str]:
    """Role → run folder of the runs that answer, each once."""
    runs = dict.fromkeys(rung.run or section.start for rung in section.rungs)
    return {f"source_{number}": run for number, run in enumerate(runs)}


def add_rung(roles: Roles, role: str, rung: RungSection, section: LadderSection, *, start: str | None = None) -> None:
    """Put a copy of the adapter of the rung's run on the base, its update scaled.

    Args:
        roles: with the roles of `sources`.
        role: the new role.
        rung: what it answers like.
        section: of the ladder.
        start: the role that stands for `ladder.start`; None: that run's.
    """
    source = next(name for name, run in sources(section).items() if run == (rung.run or section.start))
    source = start if start is not None and rung.run is None else source
    roles.copy(source, role)
    state = roles.adapter_state(role)
    with torch.no_grad():  # an adapter's update is B · A: scaling B scales it
        roles.load_adapter_state(role, {n: w * rung.scale if "lora_B" in n else w for n, w in state.items()})


def batch_of_answers(
    roles: Roles,
    role: str,
    score: RoleScore | None,
    rung: RungSection,
    section: LadderSection,
    prompts: Sequence[Prompt],
    start: int,
) -> Iterator[Answer]:
    """One answer to each prompt of a batch: the best of `best_of` by the reward model."""
    seed = int.from_bytes(text_digest(section.seed, rung.name, start)[:4], "big") >> 1
    sampled = list(
        sample(
            roles,
            role,
            prompts,
            temperatures=[rung.temperature],
            responses_per_prompt=rung.best_of,
            max_new_tokens=section.max_new_tokens,
            batch_size=section.batch_size,
            seed=seed,
        )
    )
    flat = [(prompt.prompt, answer) for prompt, answers in sampled for answer in answers]
    if score is None:
        scores: Iterator[float | None] = itertools.repeat(None)
    else:
        texts, ended, ids = zip(*((answer.text, answer.ended, answer.ids) for _, answer in flat), strict=True)
        scores = iter(score([prompt for prompt, _ in flat], texts, ended, ids).tolist())
    for _, answers in sampled:
        found = [Answer(answer.text, len(answer.ids), answer.ended, next(scores)) for answer in answers]
        yield max(found, key=lambda answer: answer.score if answer.score is not None else 0.0)
