"""The tiny base: a small Llama, pretrained in plain torch on the help-desk corpus, saved as a Hugging Face folder.

Deterministic: threads and seeds are fixed, so two builds with the same versions on the same processor give the same
bits. `python -m workbench tiny --pretrain` made the shipped base in `workbench/tiny/pretrained/` with this module.
Knows no prompts file, no reward and no adapters.
"""

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.data.template import ensure_template
from workbench.run.progress import progress
from workbench.tiny.corpus import FIRST, THEN, write_corpus
from workbench.tiny.grammar import demonstrate, render_prompt, sample_prompt
from workbench.tiny.tokenizer import train_tokenizer

THREADS = 1
"""One, so that the bits do not depend on the number of cores."""


@dataclass(frozen=True)
class Pretraining:
    """Settings of the pretraining."""

    seed: int = 20
    first_steps: int = 3500
    """Steps on the first part of the corpus (`FIRST`)."""
    steps: int = 10_000
    """All steps."""
    documents_per_step: int = 38
    """Documents written per step: more than needed. Surplus batches are dropped at random, long and short alike."""
    batch_tokens: int = 1024
    """Tokens per step, padding included."""
    learning_rate: float = 4e-3
    """Peak learning rate of the embedding and the norms (AdamW)."""
    inner_learning_rate: float = 0.02
    """Peak learning rate of the layers' matrices (Muon)."""
    hidden_size: int = 128
    layers: int = 4
    heads: int = 8
    verdict_weight: float = 4.0
    """Loss weight of tokens that judge an answer: remarks in brackets, and the review after EOS."""
    first_verdict_weight: float = 8.0
    """Loss weight of the first token after EOS, which the hidden state at EOS has to predict."""


@contextmanager
def _deterministic(seed: int) -> Iterator[None]:
    """Fix threads, seed and algorithms; restore the previous settings afterwards."""
    threads, before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        try:
            torch.set_num_threads(THREADS)
            torch.use_deterministic_algorithms(True)
            torch.manual_seed(seed)
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(before)


def make_tokenizer(corpus: Sequence[str], seed: int) -> PreTrainedTokenizerFast:
    """Train the tokenizer on part of the corpus and on conversations, so that both need few tokens."""
    rng = random.Random(seed)
    specs = [sample_prompt(rng, heldout=False) for _ in range(1000)]
    talks = [f"User: {render_prompt(spec)}\nAssistant: {demonstrate(spec, 0.5, rng)}" for spec in specs]
    return train_tokenizer([*corpus[:5000], *talks])


def make_model(tokenizer: PreTrainedTokenizerFast, recipe: Pretraining) -> LlamaForCausalLM:
    """A Llama with random weights. All sizes of linear layers are multiples of 64, the block size of NF4."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        intermediate_size=2 * recipe.hidden_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LlamaForCausalLM(config)


def _batches(
    tokenizer: PreTrainedTokenizerFast, corpus: Sequence[str], steps: int, batch_tokens: int, rng: random.Random
) -> list[torch.Tensor]:
    """Batches in random order, each (documents, T) int64: one document per row, similar lengths together, 0 as padding.

    Documents are not packed: a row would then contain the questions of other documents.
    """
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    encoded = tokenizer(list(corpus), add_special_tokens=False)["input_ids"]
    rows = [torch.tensor([start, *ids, end]) for ids in encoded]
    rows.sort(key=len)
    batches: list[torch.Tensor] = []
    pending: list[torch.Tensor] = []
    for row in rows:
        if (len(pending) + 1) * len(row) > batch_tokens and pending:
            batches.append(torch.nn.utils.rnn.pad_sequence(pending, batch_first=True))
            pending = []
        pending.append(row)
    rng.shuffle(batches)
    return batches[:steps]


def _optimizers(model: LlamaForCausalLM, recipe: Pretraining) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for the embedding and the norms.

    Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks". With AdamW alone the model
    needs several times as many steps before it attends to the question.
    """
    inner = [weight for name, weight in model.named_parameters() if weight.dim() == 2 and "embed" not in name]
    inner_ids = {id(weight) for weight in inner}
    rest = [weight for weight in model.parameters() if id(weight) not in inner_ids]
    return [
        torch.optim.AdamW(rest, lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.01),
        torch.optim.Muon(inner, lr=recipe.inner_learning_rate, weight_decay=0.0),
    ]


def _lr_factor(step: int, steps: int) -> float:
    """Warm-up over 5 % of the steps, then a cosine from 1 to 0.1."""
    return min((step + 1) / max(1, steps // 20), 0.1 + 0.45 * (1 + math.cos(math.pi * step / steps)))


class LossWeights:
    """The weight of each token in the loss."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, recipe: Pretraining) -> None:
        words = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        self._depth = torch.tensor([word.count("(") - word.count(")") for word in words])
        self._end, self._recipe = tokenizer.eos_token_id, recipe

    def of(self, batch: torch.Tensor) -> torch.Tensor:
        """(documents, T − 1) float32 weights of the targets `batch[:, 1:]`; 0 on padding."""
        given, targets = batch[:, :-1], batch[:, 1:]
        ended = given == self._end
        judging = (self._depth[given].cumsum(1) > 0) | (ended.cumsum(1) > 0)
        weights = torch.where(judging, self._recipe.verdict_weight, 1.0)
        weights[ended] = self._recipe.first_verdict_weight
        return weights * (targets != 0)


def _pretrain(
    model: LlamaForCausalLM, batches: Sequence[torch.Tensor], weights: LossWeights, recipe: Pretraining
) -> float:
    """Train once on each batch; returns the mean weighted loss of the last 10 % of steps, in nats per token."""
    optimizers = _optimizers(model, recipe)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _lr_factor(step, recipe.steps))
        for optimizer in optimizers
    ]
    model.train()
    losses: list[float] = []
    bar = progress(batches, description="pretraining the tiny base", unit="step")
    for batch in bar:
        logits = model(input_ids=batch, use_cache=False).logits
        token_losses = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten(), reduction="none"
        )
        loss = (token_losses * weights.of(batch).flatten()).sum() / (batch[:, 1:] != 0).sum()
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        losses.append(loss.item())
        if len(losses) % 20 == 0:
            bar.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
    tail = losses[-max(1, recipe.steps // 10) :]
    return sum(tail) / len(tail)


def _tokenizer_and_batches(recipe: Pretraining) -> tuple[PreTrainedTokenizerFast, list[torch.Tensor]]:
    """The tokenizer, and one batch per step: `FIRST` documents, then `THEN` documents."""
    then_steps = recipe.steps - recipe.first_steps
    first = write_corpus(recipe.seed + 1, recipe.first_steps * recipe.documents_per_step, FIRST)
    then = write_corpus(recipe.seed, then_steps * recipe.documents_per_step, THEN)
    tokenizer = make_tokenizer(then, recipe.seed)
    rng = random.Random(recipe.seed)
    parts = ((first, recipe.first_steps), (then, then_steps))
    batches = [row for part, steps in parts for row in _batches(tokenizer, part, steps, recipe.batch_tokens, rng)]
    assert len(batches) == recipe.steps, "too few documents for the steps"
    return tokenizer, batches


def build_base(folder: Path, recipe: Pretraining | None = None) -> float:
    """Make tokenizer and model and save them in `folder`; returns the final training loss in nats per token."""
    recipe = recipe or Pretraining()
    tokenizer, batches = _tokenizer_and_batches(recipe)
    ensure_template(tokenizer)
    with _deterministic(recipe.seed):
        model = make_model(tokenizer, recipe)
        loss = _pretrain(model, batches, LossWeights(tokenizer, recipe), recipe)
    model.eval().to(torch.bfloat16)  # half the size; NF4 is coarser anyway
    model.generation_config = GenerationConfig(
        do_sample=True,
        max_new_tokens=64,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return loss
