"""What `python -m annotate` reads from a YAML file: a section per verb, and the store and queue that they share."""

import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from annotate.store.address import ENVIRONMENT, refuse_password
from workbench.data.rules import RowRules
from workbench.run.config import Section
from workbench.run.errors import WorkbenchError
from workbench.run.sections import (
    NonNegativeInt,
    PersonalKinds,
    PositiveFloat,
    PositiveInt,
    RowsSection,
    Seed,
    Share,
    Temperature,
)

Compare = Literal["pairs", "ranking"]
Who = Literal["everyone", "people", "simulated"]
Names = Literal["plain", "hash"]
Mode = Literal["majority", "dawid-skene", "single"]
Flag = Literal["pii", "unsafe", "broken"]

_ORIGIN = re.compile(r"https?://([A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?")

MOST_LEASES = 20
"""Items that one annotator holds at a time."""
MOST_REASONS = 9
"""Reasons that a page offers: each has a digit as its key."""


class PairsSection(Section):
    """How answers are sampled from a run, to be compared."""

    run: str | None = None
    """Run folder whose adapter answers. Only `pairs` needs it."""
    prompts: str = "tiny:prompts"
    """File of prompt records, or `tiny:prompts` (the embedded default)."""
    out: str | None = None
    """Items to label (JSONL): written by `pairs`, loaded by `serve` and `simulate`. None: use `load` instead."""
    number: PositiveInt = 1000
    """Prompts to answer, from the start of the file."""
    responses_per_prompt: Annotated[int, Field(ge=2)] = 2
    """Different answers wanted per prompt; K answers become K(K-1)/2 items of one group."""
    temperatures: Annotated[tuple[Temperature, ...], Field(min_length=1)] = (0.7, 1.0, 1.3)
    """Sampling temperatures, taken in turn."""
    max_new_tokens: PositiveInt = 128
    """Largest number of tokens per answer."""
    batch_size: PositiveInt = 64
    """Prompts per batch of the model."""
    tries: PositiveInt = 2
    """How often a prompt is sampled before it is dropped because all its answers are the same."""
    round: NonNegativeInt = 0
    """The round of the loop (sample, label, train) that these pairs belong to."""
    seed: Seed = 0
    """Seed of sampling."""


class StoreSection(Section):
    """Where labels are kept."""

    url: str | None = None
    """A file (SQLite) or a database URL without its password. None: the environment variable ANNOTATE_STORE_URL, or
    `labels.sqlite` next to `pairs.out`."""

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
    """Share of the items (chosen by a hash of the id) that get `overlap` judgements; the others get one."""
    lease_seconds: PositiveInt = 900
    """How long an item is reserved for the person who opened it."""
    priority: float = 0
    """Priority of loaded items that have none of their own; higher ones are handed out first."""
    mask_personal: PersonalKinds = ()
    """Kinds of personal data to mask in items before they enter the store: email, phone, iban, card, ip, name (see
    docs/privacy.md)."""
    compare: Compare = "pairs"
    """Items with more than two answers: judged in pairs, or ranked all at once."""
    gold_share: Share = 0.0
    """Share of a person's items whose right answer is known (loaded with `known_strength`)."""
    repeat_share: Share = 0.0
    """Share of a person's items that they have judged before."""
    repeat_after: PositiveInt = 20
    """Other items between an item and its repeat, at least."""
    seed: Seed = 0
    """Seed of the sides (left, right), of the choice of overlapping items, and of gold items and repeats."""


class ServerSection(Section):
    """Where the page is served, and to whom."""

    host: str = "127.0.0.1"
    """Address to listen on. Any address that other machines can reach needs accounts."""
    port: Annotated[int, Field(ge=1, le=65535)] = 7860
    """TCP port."""
    title: str = "Which answer is better?"
    """Heading of the page."""
    require_login: bool = False
    """Ask for a login on this machine too. If false, a login is needed only once the store holds an account."""
    https: bool = False
    """Whether people reach the page through HTTPS: cookies are then sent over HTTPS only."""
    proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    """Addresses of reverse proxies whose X-Forwarded-For and X-Forwarded-Proto headers are trusted."""
    session_days: PositiveInt = 14
    """Days that a login lasts."""
    embed_in: tuple[str, ...] = ()
    """Origins (https://wiki.example.org) whose pages may show the page in a frame; see docs/annotate-embed.md."""

    @field_validator("embed_in")
    @classmethod
    def _origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"{origin!r} is not an origin, such as https://wiki.example.org or http://localhost:8888"
                )
        return origins


class PageSection(Section):
    """What annotators see in addition to prompt and answers, and what they are asked."""

    guidelines: str | None = None
    """Markdown file, shown next to the card. Its version is stored with each judgement."""
    rubric: tuple[str, ...] = ()
    """Dimensions to judge in addition to the overall answer, such as helpful, honest, harmless."""
    rubric_optional: bool = False
    """Whether an answer may be saved with dimensions left out."""
    ahead: Annotated[int, Field(ge=0, lt=MOST_LEASES)] = 5
    """Cards that the browser fetches in advance: as many can be judged without a connection."""
    must_see: bool = False
    """Whether an answer can be given only after the ends of all answers have been on the screen."""
    reasons: Annotated[tuple[str, ...], Field(max_length=MOST_REASONS)] = ()
    """Labels for a judgement and for marked passages, such as wrong fact, incomplete, unsafe."""
    edit: bool = True
    """Whether annotators may improve the better answer."""
    ask_before_saving: bool = False
    """Whether a choice must be confirmed with Enter. With a rubric it always must."""
    language: str = "en"
    """Language of the page: annotate/web/assets/texts.LANGUAGE.json."""


class SimulateSection(Section):
    """The simulated annotators of the embedded default."""

    number: NonNegativeInt = 0
    """Judgements to make; 0: until no item is left."""
    seed: Seed = 0
    """Seed of the simulated annotators."""


class ExportSection(Section):
    """How judgements become preference records."""

    out: str | None = None
    """Preference records (JSONL), read by `reward` and `ppo`. Only `export` needs it."""
    who: Who = "everyone"
    """Whose judgements count."""
    heldout_share: Share = 0.1
    """Share of the prompts (chosen by a hash of the group) whose pairs are marked `heldout`."""
    resolve: Mode = "majority"
    """How several judgements of one comparison become a label; see `annotate.labels.resolve`."""
    drop_ties: bool = True
    """Leave out ties; otherwise they are kept with strength 0 and weight 0."""
    drop_flags: tuple[Flag, ...] = ("pii", "broken")
    """Leave out items with one of these flags, unless a reviewer has ruled on them."""
    edits: bool = True
    """Make pairs of improved answers: improved > original, and improved > other."""
    demonstrations: str | None = None
    """Also write the improved answers as demonstrations (JSONL), read by `sft`."""
    answers: str | None = None
    """Also write both answers of decided and of both-bad comparisons, each marked as good or bad (JSONL), for `kto`."""
    campaign: str | None = None
    """Export the judgements of this comparison of runs instead of the ordinary ones."""
    judge_items: PositiveInt = 100
    """A model as a judge counts once people have decided at least this many of the items that it judged."""
    judge_agreement: Share = 0.6
    """… and the lower end of its agreement with people on them (95 % interval) is above this."""
    names: Names = "plain"
    """Annotators in exports: their account names, or pseudonyms that stay the same in all exports of a store."""
    seed: Seed = 0
    """Seed of the split, and of the order of tied answers."""


class JudgeSection(Section):
    """A language model as an annotator: `judge`."""

    url: str | None = None
    """An OpenAI-compatible endpoint, such as http://127.0.0.1:8000/v1; its key is read from JUDGE_API_KEY."""
    model: str | None = None
    """The name of the model there."""
    name: Annotated[str, Field(min_length=1, max_length=40)] = "judge"
    """Beginning of the account's name; a hash of model and wording follows it."""
    prompt: str = (
        "Which answer to this conversation is better? Judge what it says, not how long it is.\n\n{prompt}\n\n"
        "Answer A:\n{first}\n\nAnswer B:\n{second}\n\nReply with one word: A, B or TIE."
    )
    """The wording: `{prompt}` is the conversation, `{first}` and `{second}` the answers. The reply: A, B or TIE."""
    number: NonNegativeInt = 0
    """Items to judge per command; 0: all."""
    parallel: PositiveInt = 8
    """Pairs that are asked about at one time."""

    @field_validator("prompt")
    @classmethod
    def _has_places(cls, prompt: str) -> str:
        if not all(place in prompt for place in ("{prompt}", "{first}", "{second}")):
            raise ValueError("a prompt that contains {prompt}, {first} and {second}")
        return prompt


class CampaignSection(Section):
    """A blind comparison of runs by people."""

    name: str = "campaign"
    """Name of the campaign; its judgements are kept apart from the preferences."""
    runs: tuple[str, ...] = ()
    """Two or more: run folders, adapters or checkpoints inside one, or files of answers (demonstration records)."""
    prompts: str = "tiny:prompts_heldout"
    """File of prompt records that no run was trained on, or `tiny:prompts_heldout`."""
    number: PositiveInt = 200
    """Prompts, from the start of the file; every pair of runs is compared on each."""
    overlap: PositiveInt = 1
    """Judgements wanted per comparison."""
    priority: float = 0
    """Priority of the comparisons; above that of other items, they are handed out first."""
    temperature: Temperature = 1.0
    """Sampling temperature."""
    max_new_tokens: PositiveInt = 128
    """Largest number of tokens per answer."""
    batch_size: PositiveInt = 64
    """Prompts per batch of the model."""
    seed: Seed = 0
    """Seed of sampling, and of the order of the two answers."""


class ArenaSection(Section):
    """`arena RUN RUN …`: two runs answer side by side, and people vote; with one run, a chat."""

    max_new_tokens: PositiveInt = 128
    """Largest number of tokens per answer; a conversation may have the base's positions less these."""
    temperature: Temperature = 1.0
    """Sampling temperature."""
    seed: Seed = 0
    """Seed of the runs and sides of battles and of sampling, together with the store's secret key."""


class FollowSection(Section):
    """`pairs --follow RUN`: pairs sampled while people label."""

    low: PositiveInt = 50
    """Sample new pairs when fewer judgements than this are left to give."""
    batch: PositiveInt = 32
    """Prompts per pass."""
    poll_seconds: PositiveFloat = 5.0
    """Seconds between two checks of the queue and the run."""
    newer_first: PositiveFloat = 1.0
    """How much the priority of pairs rises with each new set of weights."""


class LeadSection(Section):
    """What the lead's pages show."""

    blind_review: bool = True
    """Whether a reviewer sees what people said of an item only after the decision."""

    curve: str | None = None
    """Folder of `python -m reward curve … --out FOLDER`: the accuracy that more pairs would bring."""
    relabel: str | None = None
    """File of `python -m reward explain … --relabel FILE` (or `acquire`): pairs that one click sends back."""


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
    judge: JudgeSection = JudgeSection()
    campaign: CampaignSection = CampaignSection()
    arena: ArenaSection = ArenaSection()
    follow: FollowSection = FollowSection()
    lead: LeadSection = LeadSection()

    @property
    def row_rules(self) -> RowRules:
        """How rows of files are read."""
        return RowRules(self.data.ignore, self.data.bad_rows, mask=self.queue.mask_personal)

    @property
    def store_url(self) -> str:
        """The store's address, with its default filled in.

        Raises:
            WorkbenchError: neither `store.url` nor `pairs.out` is set.
        """
        url = self.store.url or os.environ.get(ENVIRONMENT)
        if url:
            return url
        if self.pairs.out is None:
            raise WorkbenchError(
                "store.url",
                "has no value, and pairs.out, next to which labels are kept by default, has none either",
                expected="a file for the labels, or a database URL",
                remedy="store.url=labels.sqlite",
            )
        return str(Path(self.pairs.out).with_name("labels.sqlite"))


def needed(key: str, value: str | None) -> str:
    """The value of a key that a verb needs.

    Raises:
        WorkbenchError: it has none.
    """
    if value is None:
        raise WorkbenchError(key, "has no value", remedy=f"give {key}=… on the command line or in the file")
    return value
