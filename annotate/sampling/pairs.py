"""Sample answers from a run and make items of them: different texts, several temperatures, one pair per item.

Each finished batch is stored next to the output, so that a run that was killed resumes and ends with the same file. The
model is opened only if there is something to sample.
"""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from annotate.config import AnnotateConfig, PairsSection, needed
from annotate.intake.items import fingerprint
from workbench.data.embedded import resolve_data
from workbench.data.readers import read_prompts, write_records
from workbench.data.records import Item, Prompt, Response
from workbench.run.checkpoints import make_folder, refusal_explained
from workbench.run.errors import WorkbenchError
from workbench.run.lock import hold_unfinished, release
from workbench.run.out_of_memory import memory_hint
from workbench.run.progress import progress

if TYPE_CHECKING:
    from workbench.model.generate import Sampled


Sampler = Callable[..., Iterator[tuple[Prompt, list["Sampled"]]]]
"""`sampler(prompts, temperatures=…, responses_per_prompt=…, max_new_tokens=…, batch_size=…, seed=…)`."""


@dataclass
class Counts:
    """Numbers of prompts and answers."""

    prompts: int = 0
    items: int = 0
    sampled: int = 0
    """Answers sampled."""
    identical: int = 0
    """Answers that repeated another answer to the same prompt."""
    resampled: int = 0
    """Prompts that were sampled again."""
    dropped: int = 0
    """Prompts whose answers were all the same in every pass."""


@memory_hint("while sampling pairs", "a smaller pairs.batch_size or pairs.max_new_tokens")
def sample_pairs(config: AnnotateConfig) -> None:
    """Write pairs to label to `pairs.out`."""
    section, out = config.pairs, Path(needed("pairs.out", config.pairs.out))
    prompts = read_prompts(resolve_data(section.prompts), config.row_rules)[: section.number]
    sampler = sampler_of_run(needed("pairs.run", section.run), prompts, section.max_new_tokens)
    counts = make_pairs(prompts, out, section, sampler)
    if counts.prompts < section.number:
        print(f"{section.prompts} holds {counts.prompts:,} prompts, not {section.number:,}: all were used")
    print(
        f"{out}: {counts.items:,} pairs from {counts.prompts:,} prompts and {counts.sampled:,} answers; "
        f"{counts.identical:,} answers repeated another, {counts.resampled:,} prompts were sampled again, "
        f"{counts.dropped:,} dropped because all their answers were the same"
    )


def sampler_of_run(run: str, every: Sequence[Prompt] = (), max_new_tokens: int = 0) -> Sampler:
    """A sampler of a finished run, which is opened at the first call and kept.

    Args:
        run: its folder.
        every: all prompts that will be answered; before the first, each is checked to leave room for its answer.
        max_new_tokens: tokens of an answer, at most.
    """
    opened: list[Any] = []

    def sampler(prompts: Sequence[Prompt], **settings: Any) -> Iterator[tuple[Prompt, list["Sampled"]]]:
        from workbench.data.batching import check_prompts
        from workbench.model.generate import sample
        from workbench.model.open import open_runs

        if not opened:
            roles = open_runs({"policy": run})
            check_prompts(roles.tokenizer, every, max_new_tokens=max_new_tokens, key="pairs.max_new_tokens")
            opened.append(roles)
        return sample(opened[0], "policy", prompts, **settings)

    return sampler


def make_pairs(prompts: Sequence[Prompt], out: Path, section: PairsSection, sampler: Sampler) -> Counts:
    """Write items for these prompts to `out` (atomic); returns the counts.

    Raises:
        WorkbenchError: no prompt, or no prompt with two different answers.
    """
    if not prompts:
        raise WorkbenchError("pairs.prompts", "holds no prompt", expected="at least one")
    partial = Partial(out, section, prompts)
    counts, items = Counts(**partial.counts), list(partial.items)
    with progress(total=len(prompts), description="pairs", unit="prompt", initial=counts.prompts) as bar:
        for start in range(counts.prompts, len(prompts), section.batch_size):
            batch = prompts[start : start + section.batch_size]
            made = list(batch_of_pairs(batch, start, section, sampler, counts))
            items += made
            partial.append(made, counts)
            bar.update(len(batch))
    if not items:
        raise WorkbenchError(
            needed("pairs.run", section.run),
            f"gave the same answers to each of {counts.prompts} prompts",
            expected="different answers to compare",
            remedy="raise pairs.temperatures or pairs.tries",
        )
    write_records(out, items)
    partial.remove()
    return counts


def batch_of_pairs(
    prompts: Sequence[Prompt], start: int, section: PairsSection, sampler: Sampler, counts: Counts
) -> Iterator[Item]:
    """Items of one batch of prompts; the index of its first prompt, `start`, determines the seed."""
    run = needed("pairs.run", section.run)
    answers: dict[str, dict[str, Sampled]] = {prompt.id: {} for prompt in prompts}
    waiting = list(prompts)
    for attempt in range(section.tries):
        counts.resampled += len(waiting) if attempt else 0
        seed = _seed(section.seed, start, attempt)
        sampled = sampler(
            waiting,
            temperatures=section.temperatures,
            responses_per_prompt=section.responses_per_prompt,
            max_new_tokens=section.max_new_tokens,
            batch_size=section.batch_size,
            seed=seed,
        )
        for prompt, texts in sampled:
            for answer in texts:
                counts.sampled += 1
                counts.identical += answer.text in answers[prompt.id]
                answers[prompt.id].setdefault(answer.text, answer)
        waiting = [prompt for prompt in waiting if len(answers[prompt.id]) < section.responses_per_prompt]
        if not waiting:
            break
    counts.prompts += len(prompts)
    for prompt in prompts:
        different = list(answers[prompt.id].values())[: section.responses_per_prompt]
        counts.dropped += len(different) < 2
        for first, second in itertools.combinations(different, 2):
            counts.items += 1
            yield _item(prompt, (first, second), run, section)


def _item(prompt: Prompt, answers: Sequence["Sampled"], run: str, section: PairsSection) -> Item:
    item_id = f"{prompt.id}-{fingerprint(prompt.prompt, [answer.text for answer in answers])[:10]}"
    return Item(
        id=item_id,
        group=prompt.id,
        prompt=prompt.prompt,
        round=section.round,
        responses=tuple(
            Response(
                id=f"{item_id}-{position}",
                text=answer.text,
                run=run,
                temperature=answer.temperature,
                ended=answer.ended,
            )
            for position, answer in enumerate(answers)
        ),
    )


def _seed(seed: int, start: int, attempt: int) -> int:
    """A different seed per attempt and batch (31 bits)."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{start}/{attempt}".encode()).digest()[:4], "big") >> 1


class Partial:
    """The finished batches of an unfinished output, one per line; valid for one section and one list of prompts.

    One process at a time writes them.
    """

    def __init__(self, out: Path, section: PairsSection, prompts: Sequence[Prompt]) -> None:
        self.path = out.with_name(out.name + ".partial")
        self.items: list[Item] = []
        self.counts: dict[str, int] = {}
        recipe = section.model_dump(mode="json", exclude={"prompts", "out", "number"})
        digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode())
        for prompt in prompts:
            digest.update(prompt.model_dump_json().encode())
        self._key = digest.hexdigest()
        make_folder(out.parent)
        hold_unfinished(self.path, out)
        good = self._read()
        with refusal_explained(out), self.path.open("r+b") as file:
            file.truncate(good)
        if not good:
            self._write({"recipe": self._key})

    def _read(self) -> int:
        """Read the batches that were written completely; returns the number of valid bytes of the file."""
        good = 0
        lines = self.path.read_bytes().splitlines(keepends=True) if self.path.is_file() else []
        for number, line in enumerate(lines):
            if not line.endswith(b"\n"):
                break
            row = json.loads(line)
            if number == 0:
                if row.get("recipe") != self._key:
                    return 0
            else:
                self.items += [Item.model_validate_json(json.dumps(item)) for item in row["items"]]
                self.counts = row["counts"]
            good += len(line)
        return good

    def append(self, items: Sequence[Item], counts: Counts) -> None:
        """Store a finished batch."""
        self._write({"counts": asdict(counts), "items": [item.model_dump(mode="json") for item in items]})

    def _write(self, row: dict[str, Any]) -> None:
        with refusal_explained(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def remove(self) -> None:
        """Delete the file: the output is complete."""
        self.path.unlink(missing_ok=True)
        release(self.path)
