"""KTO: rated answers instead of pairs. Its rows, its trainer, and its figures on held-out answers.

    read answers → draws, each with another draw's answer → log-probabilities of the reference, once → train → measure

The reference point z₀ is an estimate of KL(π‖ρ) from answers to other prompts. It is computed before each optimizer
step, from the whole batch and without gradient; TRL 1.16 computes it per micro-batch.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, PrinterCallback

from ppo.config import ContrastiveConfig
from ppo.contrastive.data import PairData, Row, column, distinct_prompts, heldout_figures, side_logprobs
from ppo.contrastive.losses import kto_losses
from ppo.contrastive.trainer import LossTrainer, padded, trainer_options
from workbench.data.batching import encode_demonstrations
from workbench.data.readers import read_rated_answers
from workbench.data.records import RatedAnswer
from workbench.data.rules import RowRules
from workbench.data.splits import from_mix, load_answers
from workbench.model.roles import PeftModel, Roles
from workbench.model.session import Session
from workbench.model.training import keep_adapters_float32

SIDES = ("answer", "mismatched")
"""The responses of a row."""
NUMBERS = ("desirable", "weight", *(f"reference_{side}" for side in SIDES))
BALANCE = (1.0, 4 / 3)
"""The paper's range of λ_D · desirable answers ÷ (λ_U · undesirable ones)."""


def load_data(
    config: ContrastiveConfig, tokenizer: PreTrainedTokenizerBase, files: dict[str, Path], rules: RowRules
) -> PairData:
    """Read, split by prompt and encode; the training rows are all draws of the run, in their order.

    Raises:
        WorkbenchError: from the readers and the split; or all answers are too long.
    """
    section = config.data
    split = load_answers(
        files["train"],
        files.get("heldout"),
        heldout_share=section.heldout_share,
        seed=config.run.seed,
        limit=section.limit,
        rules=rules,
    )
    more = from_mix(read_rated_answers(files["mix"], rules), split.heldout) if "mix" in files else []
    answers = [*split.train, *more]
    options: Any = {"max_length": section.max_length, "rules": rules}
    encoded = encode_demonstrations(tokenizer, answers, source=files["train"], **options)
    kept_out = encode_demonstrations(tokenizer, split.heldout, source=files.get("heldout", files["train"]), **options)
    heldout = [split.heldout[index] for index in kept_out.kept]
    kept = [answers[index] for index in encoded.kept]
    factors = [section.mix_weight if index >= len(split.train) else 1.0 for index in encoded.kept]
    rows = answer_rows(encoded.rows, kept, factors)
    good = sum(answer.desirable for answer in kept)
    counts = {"desirable": good, "undesirable": len(kept) - good, "heldout": len(heldout)}
    counts["too_long"] = encoded.dropped + kept_out.dropped
    counts |= {"leaked": split.leaked} if split.leaked else {}
    if "mix" in files:
        counts["mixed"] = sum(index >= len(split.train) for index in encoded.kept)
    return PairData(
        train=draws_of(rows, config),
        heldout=answer_rows(kept_out.rows, heldout, [1.0] * len(heldout)),
        heldout_groups=[answer.group for answer in heldout],
        heldout_prompts=distinct_prompts(heldout),
        counts=counts,
    )


def answer_rows(
    encoded: Sequence[dict[str, list[int]]], answers: Sequence[RatedAnswer], factors: Sequence[float]
) -> list[Row]:
    """`prompt_ids`, `answer_ids`, `desirable` and `weight` of each answer; weights have mean 1."""
    weights = [answer.weight * factor for answer, factor in zip(answers, factors, strict=True)]
    mean = sum(weights) / max(len(weights), 1) or 1.0
    rows = []
    for row, answer, weight in zip(encoded, answers, weights, strict=True):
        start = row["completion_mask"].index(1)
        ids = row["input_ids"]
        numbers = {"desirable": float(answer.desirable), "weight": weight / mean}
        rows.append({"prompt_ids": ids[:start], "answer_ids": ids[start:], **numbers})
    return rows


def draws_of(rows: Sequence[Row], config: ContrastiveConfig) -> list[Row]:
    """The rows in the order of training, a new order in each pass, each with its `mismatched_ids`.

    In a batch, each prompt gets the answer of the draw before it, and the first one that of the last.
    """
    section, rng = config.train, np.random.default_rng(config.run.seed)
    count = section.max_steps * section.batch_size or round(len(rows) * section.epochs)
    passes = -(-count // len(rows))
    order = [index for _ in range(passes) for index in rng.permutation(len(rows)).tolist()][:count]
    draws = []
    for start in range(0, count, section.batch_size):
        batch = [rows[index] for index in order[start : start + section.batch_size]]
        before = [batch[-1], *batch[:-1]] if len(batch) > 1 else [rows[order[start - 1]]]
        draws += [{**row, "mismatched_ids": other["answer_ids"]} for row, other in zip(batch, before, strict=True)]
    return draws


@dataclass(frozen=True)
class AnswerCollator:
    """Pads answers, and the same prompts with other answers."""

    pad_token_id: int

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        """`input_ids`, `attention_mask`, `labels` (B, T); `mismatched`: the same; `NUMBERS` (B,) each."""
        prompts = [row["prompt_ids"] for row in rows]
        own, other = (padded(prompts, [row[f"{side}_ids"] for row in rows], self.pad_token_id) for side in SIDES)
        return {**own, "mismatched": other, **{name: column(rows, name) for name in NUMBERS}}


class KtoTrainer(LossTrainer):
    """Trains on rated answers with KTO's loss."""

    reference_point: Tensor
    """() mean log-ratio of the step's mismatched answers, without gradient; of all processes."""

    def get_batch_samples(self, *arguments: Any) -> Any:
        """The micro-batches of the next step, whose reference point is computed here."""
        samples, number = super().get_batch_samples(*arguments)
        if samples:
            self.reference_point = self.mismatched_logratio([self._prepare_inputs(sample) for sample in samples])
        return samples, number

    @torch.no_grad()
    def mismatched_logratio(self, samples: Sequence[dict[str, Any]]) -> Tensor:
        """() mean of log π − log ρ over the mismatched answers of micro-batches, nats."""
        model: Any = self.model
        ratios = [
            (self.response_logprobs(model, sample["mismatched"]) - sample["reference_mismatched"]).double()
            for sample in samples
        ]
        sums = torch.stack([torch.cat(ratios).sum(), torch.tensor(float(sum(map(len, ratios)))).to(ratios[0])])
        total, count = self.accelerator.gather(sums).view(-1, 2).sum(dim=0)
        return (total / count).float()

    def losses(self, model: nn.Module, inputs: Any) -> Tensor:
        """(B,) loss of each answer."""
        logprobs, section = self.response_logprobs(model, inputs), self.section
        ratios, good = logprobs - inputs["reference_answer"], inputs["desirable"] > 0
        if self.state.global_step == 0:
            self.check_start(ratios, (inputs["labels"] != -100).sum(dim=1))
        point = self.reference_point.clamp(min=0)
        self.note(
            {
                "rows": torch.tensor(float(len(good)), device=good.device),
                "good": good.sum(),
                "accuracy": ((ratios > point) == good).sum(),
                "good_reward": (section.beta * ratios * good).sum(),
                "bad_reward": (section.beta * ratios * ~good).sum(),
                "chosen_logprob": (logprobs * good).sum(),
                "chosen_logratio": (ratios * good).sum(),
                "rejected_logprob": (logprobs * ~good).sum(),
                "reference_point": point * len(good),
            }
        )
        return kto_losses(
            ratios,
            good,
            self.reference_point,
            beta=section.beta,
            desirable_weight=section.desirable_weight,
            undesirable_weight=section.undesirable_weight,
        )

    def means(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Figures of good answers are means over these, and so for bad ones; none if there were none."""
        good, bad = sums["good"], sums["rows"] - sums["good"]
        found = {name: sums[name] / sums["rows"] for name in ("accuracy", "reference_point")}
        found |= {name: sums[name] / good for name in ("chosen_logprob", "chosen_logratio") if good}
        found |= {"rejected_logprob": sums["rejected_logprob"] / bad} if bad else {}
        return found | ({"gap": sums["good_reward"] / good - sums["bad_reward"] / bad} if good and bad else {})


def make_trainer(
    config: ContrastiveConfig,
    session: Session,
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
) -> KtoTrainer:
    """The trainer on draws with their reference, its adapter in float32."""
    options = trainer_options(config, session, model, tokenizer, rows, draws=True)
    with keep_adapters_float32(model):
        collator = AnswerCollator(tokenizer.pad_token_id)
        trainer = KtoTrainer(config, model, ordered=True, data_collator=collator, **options)
    trainer.remove_callback(PrinterCallback)
    return trainer


def evaluate_answers(
    roles: Roles, rows: Sequence[Row], groups: Sequence[str], config: ContrastiveConfig
) -> dict[str, float]:
    """`heldout/…`: loss, accuracy with its interval, and margin over N held-out answers.

    The accuracy is over couples of a good and a bad answer to one prompt, or to any prompts if no prompt has both: how
    often the good one has the larger implicit reward. The loss takes z₀ = 0.

    Args:
        roles: with the policy as `default`.
        rows: N answers with their reference.
        groups: (N,) prompts.
        config: of the phase.
    """
    section = config.loss
    logprobs, _ = side_logprobs(roles, rows, "answer", batch_size=2 * config.train.micro_batch_size)
    ratios, good = logprobs - column(rows, "reference_answer").double(), column(rows, "desirable") > 0
    losses = kto_losses(
        ratios,
        good,
        torch.zeros((), dtype=torch.float64),
        beta=section.beta,
        desirable_weight=section.desirable_weight,
        undesirable_weight=section.undesirable_weight,
    )
    better, worse = couples_of(good.tolist(), groups)
    gaps = section.beta * (ratios[better] - ratios[worse])
    return heldout_figures(losses, gaps, [groups[index] for index in better])


def couples_of(good: Sequence[bool], groups: Sequence[str]) -> tuple[list[int], list[int]]:
    """(C,) good and (C,) bad answers of all couples of one prompt; of all prompts if no prompt has both kinds."""
    sides: dict[str, tuple[list[int], list[int]]] = {}
    for index, (desirable, group) in enumerate(zip(good, groups, strict=True)):
        sides.setdefault(group, ([], []))[0 if desirable else 1].append(index)
    couples = [couple for better, worse in sides.values() for couple in itertools.product(better, worse)]
    if not couples:
        better, worse = ([index for index, one in enumerate(good) if one == kind] for kind in (True, False))
        couples = list(itertools.product(better, worse))
    return [better for better, _ in couples], [worse for _, worse in couples]


def balance_advice(config: ContrastiveConfig, counts: Mapping[str, int]) -> str | None:
    """What to change if the weights do not balance the kinds of answers; None: they do."""
    section, good, bad = config.loss, counts["desirable"], counts["undesirable"]
    ratio = section.desirable_weight * good / (section.undesirable_weight * bad)
    low, high = BALANCE
    if low - 1e-6 <= ratio <= high + 1e-6:
        return None
    key, value = ("undesirable_weight", ratio) if ratio > high else ("desirable_weight", 1 / ratio)
    found = f"{good:,} desirable answers weigh {ratio:.2g} times as much as {bad:,} undesirable ones; the paper"
    return f"{found} recommends {low:g} to {high:.2f} times: loss.{key}={value * getattr(section, key):.3g}"
