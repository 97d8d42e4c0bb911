"""A campaign compares runs blind: every pair of runs on the same held-out prompts, judged on the same page.

`annotate.campaign.report` computes the result. Two runs with the same answer to a prompt tie without a judgement.
"""

import hashlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from annotate.campaign.battles import ARENA, opened_runs
from annotate.config import AnnotateConfig, CampaignSection, QueueSection
from annotate.intake.items import load_items
from annotate.intake.load import audit_path
from annotate.store.database import Store
from annotate.store.statements import Transaction
from workbench.data.embedded import resolve_data
from workbench.data.hashing import unit_hash
from workbench.data.readers import read_demonstrations, read_prompts
from workbench.data.records import Item, Prompt, Response, prompt_id
from workbench.data.rules import RowRules
from workbench.run.errors import WorkbenchError
from workbench.run.out_of_memory import memory_hint
from workbench.run.sources import locate

if TYPE_CHECKING:
    from annotate.sampling.answerer import Answerer

Answers = Callable[[str, Sequence[Prompt]], Sequence[str]]
"""The answers of one run, by its name, to prompts."""
EVENT = "campaign started"


@dataclass(frozen=True)
class Started:
    """The result of `start`."""

    comparisons: int
    identical: int
    prompts: int


@memory_hint("while sampling answers", "a smaller campaign.batch_size or campaign.max_new_tokens")
def start_campaign(config: AnnotateConfig) -> None:
    """Answer held-out prompts with every run, and add the comparisons to the store."""
    section, rules = config.campaign, config.row_rules
    opened: list[Answerer] = []

    def answers(run: str, prompts: Sequence[Prompt]) -> list[str]:
        if Path(run).suffix == ".jsonl":
            written = _written_answers(run, prompts, rules)
            rules.write_masked(audit_path(store))
            return written
        from annotate.sampling.answerer import Answerer  # imports torch

        opened[:] = opened or [Answerer()]
        texts = _sampled_answers(opened[0], run, prompts, section)
        print(f"{run}: {len(texts):,} answers", flush=True)
        return texts

    for run in section.runs:
        if Path(run).suffix != ".jsonl":
            locate(run)  # fails before any run is sampled
    store = Store.open(config.store_url, say=print)
    prompts = read_prompts(resolve_data(section.prompts), rules)[: section.number]
    rules.write_masked(audit_path(store))
    started = start(store, section, prompts, answers)
    print(
        f"{store.place}: campaign {section.name!r} of {len(section.runs)} runs on {started.prompts:,} prompts: "
        f"{started.comparisons:,} comparisons to judge; {started.identical:,} times two runs gave the same answer"
    )
    store.close()


def _sampled_answers(model: "Answerer", run: str, prompts: Sequence[Prompt], section: CampaignSection) -> list[str]:
    model.use(locate(run))
    sampled = model(
        prompts,
        temperatures=[section.temperature],
        responses_per_prompt=1,
        max_new_tokens=section.max_new_tokens,
        batch_size=section.batch_size,
        seed=section.seed,
    )
    return [answer.text for _, (answer,) in sampled]


def _written_answers(path: str, prompts: Sequence[Prompt], rules: RowRules) -> list[str]:
    """Answers from a file of demonstrations, found by the text of the prompt, which is masked in both files."""
    known = {prompt_id(record.prompt): record.response for record in read_demonstrations(path, rules)}
    missing = [prompt.id for prompt in prompts if prompt_id(prompt.prompt) not in known]
    if missing:
        raise WorkbenchError(
            path,
            f"has no answer to {len(missing)} of {len(prompts)} prompts (the first: {missing[0]})",
            expected="one answer to each prompt of campaign.prompts",
        )
    return [known[prompt_id(prompt.prompt)] for prompt in prompts]


def start(store: Store, section: CampaignSection, prompts: Sequence[Prompt], answers: Answers) -> Started:
    """Answer the prompts with every run and add the comparisons to the store.

    Raises:
        WorkbenchError: fewer than two runs, a run named twice, no prompt, or a campaign of this name exists.
    """
    _check(store, section, prompts)
    texts = {run: answers(run, prompts) for run in section.runs}
    items: list[Item] = []
    kept: dict[str, list[int]] = {}
    identical = 0
    for index, prompt in enumerate(prompts):
        own = [texts[run][index] for run in section.runs]
        different = list(dict.fromkeys(own))
        kept[prompt.id] = [different.index(text) for text in own]
        identical += sum(a == b for a, b in itertools.combinations(own, 2))
        items += _items(section.name, prompt, different, section.seed)
    queue = QueueSection(overlap=section.overlap, overlap_share=1, priority=section.priority)
    # Handed out in random order, so that the pairs judged so far are a random sample of all.
    items.sort(key=lambda item: unit_hash(section.seed, "order", item.id))
    load_items(store, items, queue, source=section.name, campaign=section.name)
    with store.write() as transaction:
        transaction.add_event(EVENT, time.time(), name=section.name, runs=list(section.runs), answers=kept)
    return Started(len(items), identical, len(prompts))


def _check(store: Store, section: CampaignSection, prompts: Sequence[Prompt]) -> None:
    if section.name == ARENA:
        raise WorkbenchError("campaign.name", f"cannot be {ARENA!r}", expected="another name: this one is the arena's")
    if len(section.runs) < 2 or len(set(section.runs)) < len(section.runs):
        raise WorkbenchError(
            "campaign.runs",
            f"names {list(section.runs)}",
            expected="two or more different runs: campaign.runs=[ONE,OTHER]",
        )
    if not prompts:
        raise WorkbenchError("campaign.prompts", "holds no prompt", expected="at least one")
    if len({prompt.id for prompt in prompts}) < len(prompts):
        raise WorkbenchError("campaign.prompts", "holds two prompts with one id", expected="one id per prompt")
    if section.name in campaign_names(store):
        raise WorkbenchError(
            f"campaign.name={section.name}",
            "was started before",
            expected="a new name",
            remedy=f"see its result: python -m annotate campaign report CONFIG.yaml {section.name}",
        )


def _items(name: str, prompt: Prompt, texts: Sequence[str], seed: int) -> Iterator[Item]:
    """Every pair of different answers, in an order that does not reveal the runs, and without their names."""
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    for pair in itertools.combinations(range(len(texts)), 2):
        item_id = f"campaign-{digest}-{prompt.id}-{pair[0]}-{pair[1]}"
        first, second = pair if unit_hash(seed, "campaign", item_id) < 0.5 else pair[::-1]
        yield Item(
            id=item_id,
            group=prompt.id,
            prompt=prompt.prompt,
            responses=tuple(Response(id=str(index), text=texts[index], run=name) for index in (first, second)),
        )


def campaign_names(store: Store) -> list[str]:
    """The campaigns of a store, oldest first; then the arena, if it was ever opened."""
    with store.read() as transaction:
        arena = [ARENA] if opened_runs(transaction) else []
        return list(started_campaigns(transaction)) + arena


def started_campaigns(transaction: Transaction) -> dict[str, dict[str, object]]:
    """By name, what the audit trail holds of each campaign: runs, and which answer each run gave to each prompt."""
    return {event["detail"]["name"]: event["detail"] for event in transaction.events() if event["kind"] == EVENT}
