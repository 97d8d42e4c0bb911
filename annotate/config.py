"""What `python -m annotate` reads from a YAML file: one section a verb, and the store and queue they share."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from annotate.intake.items import Intake
from annotate.labels.export import Rules
from annotate.queue.planting import Planting
from annotate.store.address import ENVIRONMENT, refuse_password
from workbench.run.config import Section
from workbench.run.errors import WorkbenchError
from workbench.run.sections import NonNegativeInt, PositiveFloat, PositiveInt, RowsSection, Share


class PairsSection(Section):
    """How answers are sampled from a run, to be compared."""

    run: str | None = None
    """Run folder whose adapter answers. Only `pairs` needs it."""
    prompts: str = "tiny:prompts"
    """File of prompt records, or `tiny:prompts` (the embedded default)."""
    out: str | None = None
    """Items to label (JSONL): written by `pairs`, loaded by `serve` and `simulate`. None: `load` brings them."""
    number: PositiveInt = 1000
    """Prompts to answer, from the start of the file."""
    responses_per_prompt: Annotated[int, Field(ge=2)] = 2
    """Different answers wanted for each prompt; K answers become K(K-1)/2 items of one group."""
    temperatures: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (0.7, 1.0, 1.3)
    """Sampling temperatures, taken in turn."""
    max_new_tokens: PositiveInt = 128
    """Largest number of tokens per answer."""
    batch_size: PositiveInt = 64
    """Prompts in one pass of the model."""
    tries: PositiveInt = 2
    """Passes over a prompt before it is given up because its answers are all the same."""
    round: NonNegativeInt = 0
    """Which turn of the loop (sample, label, train) these pairs belong to."""
    seed: NonNegativeInt = 0
    """Seed of sampling."""


class StoreSection(Section):
    """Where labels are kept."""

    url: str | None = None
    """A file (SQLite) or a database URL without its password. None: the environment variable ANNOTATE_STORE_URL, or
    `labels.sqlite` beside `pairs.out`."""

    @field_validator("url")
    @classmethod
    def _without_password(cls, url: str | None) -> str | None:
        if url is not None:
            refuse_password("store.url", url)
        return url


class QueueSection(Section):
    """Who is given which item."""

    overlap: PositiveInt = 3
    """Judgements wanted for an item that is judged more than once."""
    overlap_share: Share = 0.1
    """Share of the items (chosen by hash of id) that get `overlap` judgements; the others get one."""
    lease_seconds: PositiveInt = 900
    """How long an item is kept for the person who opened it."""
    priority: int = 0
    """Of items loaded without one of their own: higher ones are handed out first."""
    compare: Literal["pairs", "ranking"] = "pairs"
    """Items with more than two answers: judged in pairs, or ranked all at once."""
    gold_share: Share = 0.0
    """Of the items that a person is given, the share whose answer is known (loaded with `known_strength`)."""
    repeat_share: Share = 0.0
    """Of the items that a person is given, the share that they have judged before."""
    repeat_after: PositiveInt = 20
    """A repeat comes after at least so many other items."""
    seed: NonNegativeInt = 0
    """Of the sides (left, right), of the choice of overlapping items, and of what is planted."""

    @property
    def intake(self) -> Intake:
        """What becomes of items that are loaded."""
        return Intake(self.overlap, self.overlap_share, self.priority, self.compare, self.seed)

    @property
    def planting(self) -> Planting:
        """How often gold items and repeats are planted."""
        return Planting(self.gold_share, self.repeat_share, self.repeat_after, self.seed)


class ServerSection(Section):
    """Where the page is served, and to whom."""

    host: str = "127.0.0.1"
    """Address to listen on. Another than this machine's own needs accounts."""
    port: Annotated[int, Field(ge=1, le=65535)] = 7860
    """TCP port."""
    title: str = "Which answer is better?"
    """Heading of the page."""
    require_login: bool = False
    """Ask for a login on this machine too. Without: once the store holds an account."""
    https: bool = False
    """The page is reached through HTTPS, whatever the proxy says: cookies are then sent over HTTPS only."""
    proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    """Addresses of proxies in front, whose X-Forwarded-For and X-Forwarded-Proto are believed."""
    session_days: PositiveInt = 14
    """A login lasts so long."""


class PageSection(Section):
    """What annotators see besides prompt and answers, and what they are asked."""

    guidelines: str | None = None
    """Markdown file, shown beside the card. Its version is stored with each answer."""
    rubric: tuple[str, ...] = ()
    """Dimensions to judge besides the overall answer, such as helpful, honest, harmless."""
    edit: bool = True
    """Whether annotators may make the better answer better still."""
    ask_before_saving: bool = False
    """Whether Enter must follow the key of an answer. Always so with a rubric."""
    language: str = "en"
    """Of the page's own words: annotate/web/assets/texts.LANGUAGE.json."""


class SimulateSection(Section):
    """The simulated annotators of the embedded default."""

    number: NonNegativeInt = 0
    """Judgements to make; 0: until nothing is left."""
    seed: NonNegativeInt = 0
    """Seed of the simulated annotators."""


class ExportSection(Section):
    """How judgements become preference records."""

    out: str | None = None
    """Preference records (JSONL), read by `reward` and `ppo`. Only `export` needs it."""
    who: Literal["everyone", "people", "simulated"] = "everyone"
    """Whose judgements count."""
    heldout_share: Share = 0.1
    """Share of the prompts (chosen by hash of group) whose pairs are marked `heldout`."""
    resolve: Literal["majority", "dawid-skene", "single"] = "majority"
    """How several judgements of one comparison become a label; see `annotate.labels.resolve`."""
    drop_ties: bool = True
    """Leave out ties; else they are kept with strength 0 and weight 0."""
    drop_flags: tuple[Literal["pii", "unsafe", "broken"], ...] = ("pii", "broken")
    """Leave out items that somebody flagged so, unless a reviewer has decided them."""
    edits: bool = True
    """Answers that an annotator improved become pairs: improved > original, and improved > other."""
    demonstrations: str | None = None
    """Also write the improved answers as demonstrations (JSONL), read by `sft`."""
    campaign: str | None = None
    """Export the judgements of this comparison of runs instead of the ordinary ones."""
    seed: NonNegativeInt = 0
    """Of the split."""

    @property
    def rules(self) -> Rules:
        """What is exported, and how."""
        return Rules(**{name: getattr(self, name) for name in Rules.__dataclass_fields__ if name != "without"})


class CampaignSection(Section):
    """A blind comparison of runs by people."""

    name: str = "campaign"
    """Of this comparison; its judgements are kept apart from the preferences."""
    runs: tuple[str, ...] = ()
    """Two or more: run folders, adapters or checkpoints inside one, or files of answers (demonstration records)."""
    prompts: str = "tiny:prompts_heldout"
    """File of prompt records that nobody was trained on, or `tiny:prompts_heldout`."""
    number: PositiveInt = 200
    """Prompts, from the start of the file; every two runs are compared on each."""
    overlap: PositiveInt = 1
    """Judgements wanted for each comparison."""
    priority: float = 0
    """Of its items: above that of other items, they are handed out first."""
    temperature: PositiveFloat = 1.0
    """Sampling temperature."""
    max_new_tokens: PositiveInt = 128
    """Largest number of tokens per answer."""
    batch_size: PositiveInt = 64
    """Prompts per batch of the model."""
    seed: NonNegativeInt = 0
    """Of sampling, and of the order of the two answers."""


class FollowSection(Section):
    """`pairs --follow RUN`: pairs sampled while people label."""

    low: PositiveInt = 50
    """New pairs are sampled when fewer judgements than this are left to give."""
    batch: PositiveInt = 32
    """Prompts in one pass."""
    poll_seconds: PositiveFloat = 5.0
    """How often queue and run are looked at."""
    newer_first: PositiveFloat = 1.0
    """Pairs of newer weights get a priority that is higher by so much."""


class LeadSection(Section):
    """What reward models say on the page of those who lead."""

    curve: str | None = None
    """Folder of `python -m reward curve … --out FOLDER`: what more pairs would bring."""
    relabel: str | None = None
    """File of `python -m reward explain … --relabel FILE` (or `acquire`): one click has its pairs judged again."""


class AnnotateConfig(Section):
    """Everything `python -m annotate` reads."""

    pairs: PairsSection = PairsSection()
    store: StoreSection = StoreSection()
    queue: QueueSection = QueueSection()
    data: RowsSection = RowsSection()
    server: ServerSection = ServerSection()
    page: PageSection = PageSection()
    simulate: SimulateSection = SimulateSection()
    export: ExportSection = ExportSection()
    campaign: CampaignSection = CampaignSection()
    follow: FollowSection = FollowSection()
    lead: LeadSection = LeadSection()

    @property
    def store_url(self) -> str:
        """The store's address, with its default filled in.

        Raises:
            WorkbenchError: neither `store.url` nor `pairs.out` says where labels are kept.
        """
        url = self.store.url or os.environ.get(ENVIRONMENT)
        if url:
            return url
        if self.pairs.out is None:
            raise WorkbenchError(
                "store.url",
                "has no value, and neither has pairs.out, beside which labels are kept by default",
                expected="a file for the labels, or a database URL",
                remedy="store.url=labels.sqlite",
            )
        return str(Path(self.pairs.out).with_name("labels.sqlite"))
