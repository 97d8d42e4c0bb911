"""Trainers over preference pairs and over rated answers, with the losses of `losses.py`.

TRL 1.16's DPOTrainer has neither weights nor margins, ignores label smoothing in its default loss, runs the reference
at each step, and averages metrics over micro-batches of unequal size. Its LM head in tiles, which makes no (B, T, V)
tensor, is used here. Shapes: B = rows of a micro-batch, T = tokens of a row.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import SequentialSampler
from transformers import PreTrainedTokenizerBase, PrinterCallback, TrainingArguments
from trl.trainer.utils import add_fused_lm_head

from ppo.config import ContrastiveConfig
from ppo.contrastive.data import Row, column, in_order
from ppo.contrastive.losses import METHODS, WITHOUT_REFERENCE, PairLogprobs, chosen_nll, pair_losses
from ppo.contrastive.shared import CHOSEN, REJECTED, shared_rows, shares_prompts
from workbench.model.masks import pad_rows
from workbench.model.precision import LOGPROB_LIMITS
from workbench.model.roles import PeftModel
from workbench.model.session import Session
from workbench.model.training import RunCallback, WarmUpTrainer, keep_adapters_float32, one_device, trainer_arguments
from workbench.run.errors import WorkbenchError

LABELS = ("target", "margin", "weight", "difficulty", "reference_chosen", "reference_rejected")
"""Numbers of a pair."""

METRICS = {
    "loss": "contrastive/loss",
    "learning_rate": "contrastive/learning_rate",
    "grad_norm": "contrastive/grad_norm",
    "accuracy": "contrastive/accuracy",
    "gap": "contrastive/margin",
    "chosen_logprob": "contrastive/chosen_logprob",
    "chosen_logratio": "contrastive/chosen_logratio",
    "rejected_logprob": "contrastive/rejected_logprob",
    "difficulty": "contrastive/difficulty",
    "reference_point": "contrastive/reference_point",
}
"""What the trainer logs → what we call it."""


def padded(prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], pad_id: int) -> dict[str, Tensor]:
    """`input_ids`, `attention_mask` and `labels` (B, T), the labels −100 outside the response."""
    ids, mask = pad_rows([[*prompt, *response] for prompt, response in zip(prompts, responses, strict=True)], pad_id)
    prompt_tokens = torch.tensor([len(prompt) for prompt in prompts]).unsqueeze(1)
    labels = ids.masked_fill(~mask | (torch.arange(ids.shape[1]) < prompt_tokens), -100)
    return {"input_ids": ids, "attention_mask": mask.long(), "labels": labels}


@dataclass(frozen=True)
class PairCollator:
    """Makes a batch of pairs: one row each, or the B chosen rows first, then the B rejected ones."""

    pad_token_id: int
    shared: bool = False
    """Whether the model takes rows that share a prompt."""

    def __call__(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """What `shared_rows` gives, or `input_ids`, `attention_mask`, `labels` (2B, T); and `LABELS` (B,) each."""
        if self.shared:
            prompts, chosen, rejected = (
                [row[f"{name}_ids"] for row in rows] for name in ("prompt", "chosen", "rejected")
            )
            texts = shared_rows(prompts, chosen, rejected, self.pad_token_id)
            return {**texts, **{name: column(rows, name) for name in LABELS}}
        responses = [row[f"{side}_ids"] for side in ("chosen", "rejected") for row in rows]
        texts = padded([row["prompt_ids"] for row in rows] * 2, responses, self.pad_token_id)
        return {**texts, **{name: column(rows, name) for name in LABELS}}


class LossTrainer(WarmUpTrainer):
    """Trains the adapter `default` on the mean of `losses` over the rows of an optimizer step.

    Args:
        config: of the phase; its `method` and `loss` are read.
        model: base and adapter.
        ordered: whether rows are read in their order, instead of shuffled in each epoch.
        options: Trainer's.
    """

    loss_is_scaled_for_ga = True  # `compute_loss` divides by the rows of the whole batch

    def __init__(self, config: ContrastiveConfig, model: PeftModel, *, ordered: bool, **options: Any) -> None:
        self.method, self.section, self.ordered = config.method, config.loss, ordered
        self._sums: Counter[str] = Counter()
        super().__init__(model=model, **options)
        self.model_accepts_loss_kwargs = True  # what earlier releases of transformers read instead
        causal: Any = model.get_base_model()
        add_fused_lm_head(causal)
        self._dtype: torch.dtype = causal.get_input_embeddings().weight.dtype

    def losses(self, model: nn.Module, inputs: Any) -> Tensor:
        """(B,) loss of each row of a micro-batch, before its weight; notes what the log shows."""
        raise NotImplementedError

    def means(self, sums: Mapping[str, float]) -> dict[str, float]:
        """What the log shows, from the sums over `rows` since its last row."""
        return {name: total / sums["rows"] for name, total in sums.items() if name != "rows"}

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Tensor | None:
        rows = torch.tensor(sum(len(batch["weight"]) for batch in batch_samples), device=device)
        return self.accelerator.gather(rows).sum() if batch_samples else None

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        rows: Any = self.train_dataset if train_dataset is None else train_dataset
        return SequentialSampler(rows) if self.ordered else super()._get_train_sampler(rows)

    def response_logprobs(self, model: nn.Module, inputs: Any) -> Tensor:
        """(B,) float32 log-probability of each response, nats."""
        read = {name: inputs[name] for name in ("input_ids", "attention_mask", "labels")}
        of_tokens = model(**read, fused_lm_head=True).log_probs  # (B, T − 1), 0 outside the responses
        return of_tokens.float().sum(dim=1)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Σ w · loss / (rows of the whole batch), so that accumulating micro-batches equals one large batch."""
        losses = self.losses(model, inputs)
        whole = len(losses) if num_items_in_batch is None else num_items_in_batch
        loss = (inputs["weight"] * losses).sum() / whole * self.accelerator.num_processes
        return (loss, {}) if return_outputs else loss

    def check_start(self, logratios: Tensor, tokens: Tensor) -> None:
        """Before the first step the policy is the reference: implicit rewards are 0 up to rounding.

        Args:
            logratios: (N,) log π − log ρ of responses, nats.
            tokens: (N,) their tokens.

        Raises:
            WorkbenchError: they are not.
        """
        apart = (logratios.detach().abs() / tokens).mean()
        limit = LOGPROB_LIMITS[self._dtype].mean
        if not float(apart) <= limit:
            raise WorkbenchError(
                "self-check policy = reference",
                f"before the first step they differ by {float(apart):.3g} nats per token on average",
                expected=f"rounding, at most {limit:.3g}: both are the start adapter",
                remedy="look for a dropout in the base's configuration; or try model.dtype=float32",
            )

    def note(self, sums: Mapping[str, Tensor]) -> None:
        """Add this micro-batch of all processes to the sums between two rows of the log; `rows` is among them."""
        here = torch.stack([value.detach().float() for value in sums.values()])
        total = self.accelerator.gather(here).view(-1, len(sums)).sum(dim=0)
        self._sums.update(dict(zip(sums, total.tolist(), strict=True)))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """With the means over all rows since the last row of the log."""
        if self._sums["rows"]:
            logs |= self.means(self._sums)
            self._sums.clear()
        super().log(logs, start_time)


class PairTrainer(LossTrainer):
    """Trains on pairs with one of `losses.METHODS`."""

    def logprobs(self, model: nn.Module, inputs: Any) -> PairLogprobs:
        """One forward pass over both responses of each pair."""
        reference = (inputs["reference_chosen"], inputs["reference_rejected"])
        if "sides" in inputs:
            read = {name: inputs[name] for name in ("input_ids", "attention_mask", "position_ids", "shift_labels")}
            of_tokens = model(**read, fused_lm_head=True).log_probs.float()  # (B, T), 0 outside the responses
            counted = inputs["shift_labels"] != -100
            both = [inputs["sides"] == side for side in (CHOSEN, REJECTED)]
            chosen, rejected = ((of_tokens * side).sum(dim=1) for side in both)
            chosen_tokens, rejected_tokens = ((counted & side).sum(dim=1).float() for side in both)
            return PairLogprobs(chosen, rejected, *reference, chosen_tokens, rejected_tokens)
        chosen, rejected = self.response_logprobs(model, inputs).chunk(2)
        chosen_tokens, rejected_tokens = (inputs["labels"] != -100).sum(dim=1).float().chunk(2)
        return PairLogprobs(chosen, rejected, *reference, chosen_tokens, rejected_tokens)

    def losses(self, model: nn.Module, inputs: Any) -> Tensor:
        """(B,) loss of each pair."""
        pairs, section = self.logprobs(model, inputs), self.section
        if self.state.global_step == 0 and self.method not in WITHOUT_REFERENCE:
            ratios = torch.cat([pairs.chosen_logratio, pairs.rejected_logratio])
            self.check_start(ratios, torch.cat([pairs.chosen_tokens, pairs.rejected_tokens]))
        losses = pair_losses(
            self.method,
            pairs,
            beta=section.beta,
            targets=inputs["target"],
            margins=inputs["margin"],
            length_coef=section.length_coef,
        )
        if section.sft_coef:
            losses = losses + section.sft_coef * chosen_nll(pairs)
        gaps = METHODS[self.method][0](pairs, section.beta)
        self.note(
            {
                "rows": torch.tensor(float(len(gaps)), device=gaps.device),
                "accuracy": (gaps > 0).sum(),
                "gap": gaps.sum(),
                "chosen_logprob": pairs.chosen.sum(),
                "chosen_logratio": pairs.chosen_logratio.sum(),
                "rejected_logprob": pairs.rejected.sum(),
                "difficulty": inputs["difficulty"].sum(),
            }
        )
        return losses


def make_trainer(
    config: ContrastiveConfig,
    session: Session,
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
) -> PairTrainer:
    """The trainer on rows with their reference, its adapter in float32."""
    ordered = config.curriculum.schedule != "mixed"
    rows = in_order(list(rows), config) if ordered else rows
    options = trainer_options(config, session, model, tokenizer, rows, draws=ordered)
    shared = shares_prompts(model.get_base_model(), recomputes=config.model.activation_checkpointing)
    collator = PairCollator(tokenizer.pad_token_id, shared)
    with keep_adapters_float32(model):
        trainer = PairTrainer(config, model, ordered=ordered, data_collator=collator, **options)
    trainer.remove_callback(PrinterCallback)
    return trainer


def trainer_options(
    config: ContrastiveConfig,
    session: Session,
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    *,
    draws: bool,
) -> dict[str, Any]:
    """Trainer's options for these rows; `draws`: they are all draws of the run, instead of one epoch's."""
    arguments = trainer_arguments(session, config, model.get_input_embeddings().weight.dtype)
    if draws:
        arguments["num_train_epochs"] = 1
    if config.model.activation_checkpointing:
        model.enable_input_require_grads()  # the frozen embeddings would end the graph at the first checkpoint
    callback = RunCallback(session, METRICS, keep_last=config.checkpoint.keep_last, description=config.method)
    return {
        "args": one_device(TrainingArguments(**arguments, remove_unused_columns=False)),
        "train_dataset": list(rows),
        "processing_class": tokenizer,
        "callbacks": [callback],
    }
