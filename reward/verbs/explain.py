"""Why an answer gets its score: `python -m reward explain RUN --prompt … --response …` writes one page.

The page shows what each token adds to the score, checks that these parts add up to it, and lists the labelled pairs
most similar to the answer. `--relabel` writes those pairs as priorities, and `python -m annotate prioritise` sends them
back to be labelled again.

Shapes: N = rows, D = hidden.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from reward.verbs.explain_tokens import TOLERANCE, TokenShares, mean_shares, token_shares
from workbench.data.readers import read_preferences, write_records
from workbench.data.records import Message, Preference
from workbench.data.rules import RowRules
from workbench.data.tokenise import encode_prompt, encode_response, encode_rows
from workbench.evaluate.pages import render_page
from workbench.evaluate.role_models import reward_roles
from workbench.model.masks import last_tokens, pad_rows
from workbench.model.open import open_runs
from workbench.model.roles import Roles
from workbench.model.score import batches_by_length, distinct_rows, pass_tokens
from workbench.run.checkpoints import write_text_atomically
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.out_of_memory import memory_hint
from workbench.run.parents import find_data
from workbench.run.progress import progress

RELABEL_PRIORITY = 3.0
"""Above every priority that `acquire` gives."""
TEMPLATE = Path(__file__).parent / "templates/explain.html.jinja"


@dataclass(frozen=True)
class Neighbour:
    """A labelled pair, and the similarity of an answer to the closer of its two answers."""

    record: Preference
    similarity: float
    """Cosine, −1 … 1."""
    side: str
    """Which of the two answers is the closer one: `chosen` or `rejected`."""
    scores: tuple[float, float]
    """Scores of the chosen and the rejected answer."""


@dataclass(frozen=True)
class Tint:
    """A token on the page."""

    text: str
    share: float
    strength: float
    """0 … 1, the size of the share relative to the largest one."""


@memory_hint("while explaining", "a smaller --batch-size")
def explain(  # one parameter per option of the command
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
    """Write the page and, with `relabel`, the priorities; returns the page's path.

    Args:
        run: a finished reward run; for an ensemble the mean score of its members is explained.
        prompt: what the user says.
        response: the answer.
        out: page to write.
        preferences: labelled pairs; None: those that the run was trained on.
        nearest: labelled pairs to show.
        relabel: priorities to write.
        batch_size: answers per forward pass.
        base: where the base is now, if not where the run says.
        rules: how rows of the pairs are read; None: as the run read them.

    Raises:
        WorkbenchError: the run or the pairs are missing or bad, or prompt or response is empty.
    """
    for name, text in (("--prompt", prompt), ("--response", response)):
        if not text.strip():
            raise WorkbenchError(name, "it is empty", expected="some text")
    folder = RunFolder.open(run, phase="reward").require_finished()
    pairs = preferences or training_pairs(folder)
    records = read_preferences(pairs, rules or RowRules.of_run(folder.config_path))
    members = reward_roles(folder.path)
    roles = open_runs(members, base=base)
    messages = (Message(role="user", content=prompt),)
    prompt_ids = encode_prompt(roles.tokenizer, messages)
    response_ids = encode_response(roles.tokenizer, messages, response)
    shares = mean_shares([token_shares(roles, name, prompt_ids, response_ids) for name in members])
    row = [*prompt_ids, *response_ids]
    neighbours = nearest_pairs(roles, tuple(members), row, records, number=nearest, batch_size=batch_size)
    if relabel is not None:
        write_records(relabel, relabel_rows(neighbours))
    page = render_page(
        TEMPLATE,
        run=str(folder.path),
        prompt=prompt,
        shares=shares,
        tokens=tints(shares),
        neighbours=neighbours,
        pairs=str(pairs),
        total=len(records),
        relabel=None if relabel is None else str(relabel),
        tolerance=TOLERANCE,
    )
    write_text_atomically(out, page)
    return out


def training_pairs(folder: RunFolder) -> Path:
    """The pairs that a reward run was trained on.

    Raises:
        WorkbenchError: the file is gone.
    """
    path = find_data(folder, "train")
    if not path.exists():
        raise WorkbenchError(path, "the pairs of this run are not there any more", remedy="--preferences FILE")
    return path


def nearest_pairs(
    roles: Roles,
    members: Sequence[str],
    row: Sequence[int],
    records: Sequence[Preference],
    *,
    number: int,
    batch_size: int,
) -> list[Neighbour]:
    """The labelled pairs with an answer most similar to a row of prompt and response, most similar first.

    For an ensemble, the members' hidden states are concatenated and their scores averaged.
    """
    rows: list[list[int]] = []
    for side in ("chosen_text", "rejected_text"):
        for record in records:
            rows += encode_rows(roles.tokenizer, record.prompt, getattr(record, side))
    states = [last_states(roles, member, [row, *rows], batch_size=batch_size) for member in members]
    side_by_side = torch.cat(states, dim=1)  # (1 + 2N, members · D)
    similarities = cosines(side_by_side[0], side_by_side[1:]).view(2, len(records))
    heads = [roles.heads[member] for member in members]
    member_scores = [
        head(own[1:].to(head.weight.device)).detach().cpu() for head, own in zip(heads, states, strict=True)
    ]
    scores = torch.stack(member_scores).mean(dim=0).view(2, len(records))
    closest = similarities.max(dim=0).values
    order = closest.argsort(descending=True, stable=True)[:number].tolist()
    return [
        Neighbour(
            records[index],
            float(closest[index]),
            "chosen" if similarities[0, index] >= similarities[1, index] else "rejected",
            (float(scores[0, index]), float(scores[1, index])),
        )
        for index in order
    ]


def last_states(roles: Roles, role: str, rows: Sequence[Sequence[int]], *, batch_size: int) -> Tensor:
    """(N, D) float32 on the CPU: the role's last hidden state at each row's last token, which its head reads.

    Repeated rows share one forward pass.
    """
    distinct, places = distinct_rows(rows)
    states = torch.zeros(len(distinct), roles.lm_head.shape[1])
    lengths, tokens = [len(row) for row in distinct], pass_tokens(roles.device)
    batches = batches_by_length(lengths, batch_size=batch_size, batch_tokens=tokens)
    for batch in progress(batches, description="reading labelled answers", unit="batch"):
        ids, mask = pad_rows([distinct[i] for i in batch], roles.tokenizer.pad_token_id)
        with roles.use(role) as forward:
            hidden = forward(*(each.to(roles.device) for each in (ids, mask, last_tokens(mask))))
        states[batch] = hidden.float().cpu()
    return states[places]


def cosines(one: Tensor, others: Tensor) -> Tensor:
    """Cosine similarity of one vector to each of several, centred on their mean.

        x · y / (|x| |y|), after the mean of the others is subtracted from both

    Hidden states share a large common part; without centring, every pair would look similar.

    Args:
        one: (D,) float.
        others: (N, D) float.
    Returns:
        (N,) float in [−1, 1]; 0 if a vector is the mean.
    """
    centre = others.mean(dim=0)
    return torch.cosine_similarity((one - centre).unsqueeze(0), others - centre, dim=1)


def relabel_rows(neighbours: Sequence[Neighbour]) -> list[dict[str, object]]:
    """Priorities that open the pairs for another judgement; a pair with an edited answer is no item of the queue."""
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
