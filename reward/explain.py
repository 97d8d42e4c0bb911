"""Why an answer gets its score: `python -m reward explain RUN --prompt … --response …` writes one page.

The page shows what each token adds to the score, with the check that the parts add up to it, and the labelled pairs
nearest to the answer; `--relabel` writes these as priorities, which `python -m annotate prioritise` sends back to be
labelled again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from reward.explain_tokens import TOLERANCE, TokenShares, mean_shares, token_shares
from reward.nearest import Neighbour, nearest_pairs
from workbench.data.embedded import resolve_data
from workbench.data.readers import read_preferences, write_records
from workbench.data.records import Message
from workbench.data.rules import RowRules
from workbench.data.tokenise import encode_prompt, encode_response
from workbench.evaluate.pages import render_page
from workbench.evaluate.role_models import reward_roles
from workbench.model.open import open_runs
from workbench.run.checkpoints import write_text_atomically
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder

RELABEL_PRIORITY = 3.0
"""Above what `acquire` gives."""
TEMPLATE = Path(__file__).parent / "templates/explain.html.jinja"


@dataclass(frozen=True)
class Tint:
    """A token on the page."""

    text: str
    share: float
    strength: float
    """0 … 1, the share's size beside the largest one."""


def explain(
    run: Path,
    prompt: str,
    response: str,
    out: Path,
    *,
    preferences: Path | None = None,
    nearest: int = 8,
    relabel: Path | None = None,
    batch_size: int = 64,
    base: str | None = None,
    rules: RowRules | None = None,
) -> Path:
    """Write the page, and with `relabel` the priorities; returns the page's path.

    Args:
        run: a finished reward run; of an ensemble the mean of its members is taken apart.
        prompt: what the user says.
        response: the answer.
        out: page to write.
        preferences: labelled pairs; None: those that the run was trained on.
        nearest: labelled pairs to show.
        relabel: priorities to write.
        batch_size: answers in one forward pass.
        base: where the base is now, when not where the run says.
        rules: how rows of the pairs are taken; None: as the run took them.

    Raises:
        WorkbenchError: the run or the pairs are missing or bad, or prompt or response is empty.
    """
    for name, text in (("--prompt", prompt), ("--response", response)):
        if not text.strip():
            raise WorkbenchError(name, "it is empty", expected="some text")
    folder = RunFolder.open(run, phase="reward").require_finished()
    pairs = preferences or training_pairs(folder)
    rules = rules or RowRules.of_run(folder.config_path)
    records = read_preferences(pairs, rules)
    members = reward_roles(folder.path)
    roles = open_runs(members, base=base)
    messages = (Message(role="user", content=prompt),)
    ids = encode_prompt(roles.tokenizer, messages), encode_response(roles.tokenizer, messages, response)
    shares = mean_shares([token_shares(roles, name, *ids) for name in members])
    row = [*ids[0], *ids[1]]
    neighbours = nearest_pairs(roles, tuple(members), row, records, number=nearest, batch_size=batch_size)
    if relabel is not None:
        write_records(relabel, relabel_rows(neighbours))
    text = render(folder.path, prompt, shares, neighbours, pairs=pairs, total=len(records), relabel=relabel)
    write_text_atomically(out, text)
    return out


def training_pairs(folder: RunFolder) -> Path:
    """The pairs that a reward run was trained on.

    Raises:
        WorkbenchError: the file is gone.
    """
    path = resolve_data(str(yaml.safe_load(folder.config_path.read_text(encoding="utf-8"))["data"]["train"]))
    if not path.exists():
        raise WorkbenchError(path, "the pairs of this run are not there any more", remedy="--preferences FILE")
    return path


def relabel_rows(neighbours: Sequence[Neighbour]) -> list[dict[str, object]]:
    """Priorities that open the pairs for another judgement; a pair made of an improved answer is no item."""
    prompts: dict[str, str] = {}
    for neighbour in neighbours:
        if neighbour.record.resolution != "edited":
            prompts.setdefault(neighbour.record.id.split("#")[0], neighbour.record.prompt[-1].content)
    return [
        {"id": name, "priority": RELABEL_PRIORITY, "again": True, "prompt": prompt} for name, prompt in prompts.items()
    ]


def tints(shares: TokenShares) -> list[Tint]:
    """The tokens with the strength of their colour."""
    largest = max(map(abs, shares.shares), default=0.0) or 1.0
    return [
        Tint(text, share, round(abs(share) / largest, 3))
        for text, share in zip(shares.tokens, shares.shares, strict=True)
    ]


def render(
    run: Path,
    prompt: str,
    shares: TokenShares,
    neighbours: Sequence[Neighbour],
    *,
    pairs: Path,
    total: int,
    relabel: Path | None,
) -> str:
    """The page: everything in one file, nothing fetched."""
    return render_page(
        TEMPLATE,
        run=str(run),
        prompt=prompt,
        shares=shares,
        tokens=tints(shares),
        neighbours=neighbours,
        pairs=str(pairs),
        total=total,
        relabel=None if relabel is None else str(relabel),
        tolerance=TOLERANCE,
    )
