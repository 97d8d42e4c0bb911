"""Reward modelling: preference pairs → a LoRA adapter with a scalar head that scores responses.

TRL's RewardTrainer trains both. The adapter and its head are then loaded as a role on a causal base, as PPO loads them.
Scores are normalised over answers of the start run, and a probe batch is stored with the head.
"""

import gc
from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel
from torch import Tensor
from transformers import PreTrainedTokenizerBase, PrinterCallback
from trl import RewardConfig as TrlConfig

from reward.config import RewardConfig
from reward.data import RewardData, load_data
from reward.ensemble import member_seed, started, train_members
from reward.evaluate import check_same_scores, heldout_metrics, probe_rows, score_pairs
from reward.head import ScoreHead, first_head
from reward.inputs import check_inputs, few_labels
from reward.passport.document import NAME as PASSPORT
from reward.passport.issue import issue_passport, summary
from reward.trainer import Comparisons, ComparisonTrainer
from workbench.data.batching import prompts_with_room
from workbench.data.records import Prompt
from workbench.data.rules import RowRules
from workbench.data.tokenise import encode_prompt
from workbench.model.adapters import lora_config, start_training_adapter
from workbench.model.base import compute_dtype, default_device, load_base
from workbench.model.generate import sample
from workbench.model.heads import Probe, ScalarHead, save_head
from workbench.model.masks import pad_rows
from workbench.model.open import open_runs
from workbench.model.processes import Processes
from workbench.model.roles import PeftModel, Roles
from workbench.model.score import score_rows
from workbench.model.session import Session, Setup, open_session, prepare
from workbench.model.training import (
    RunCallback,
    count_parameters,
    keep_adapters_float32,
    one_device,
    save_trained_adapter,
    trainer_arguments,
)
from workbench.run.card import write_card
from workbench.run.divergence import BASE, diverged, require_finite
from workbench.run.errors import check_all
from workbench.run.folder import RunFolder
from workbench.run.out_of_memory import DOCTOR, SMALLER_STEP, memory_hint

METRICS = {
    "loss": "reward/loss",
    "learning_rate": "reward/learning_rate",
    "grad_norm": "reward/grad_norm",
    "accuracy": "reward/accuracy",
    "margin": "reward/margin",
    "mean_reward": "reward/raw_score",
    "first_threshold": "reward/first_threshold",
    "num_input_tokens_seen": "reward/tokens",
}
"""Names of RewardTrainer → names of our metrics."""
LOSSES = {"ordinal": "ordinal loss over ties and strengths", "bradley_terry": "Bradley-Terry loss"}
"""For the model card."""


def train(config: RewardConfig, *, resume: bool) -> RunFolder:
    """Run the phase: fit one model or an ensemble, then examine it."""
    member = config.ensemble.member > 0
    check_all(check_inputs, config, resume=resume)
    if config.ensemble.members > 1 and not member:
        folder = train_members(config, resume=resume, fit=train_one)
    else:
        folder = train_one(started(config, config.ensemble.member) if member else config, resume=resume)
    processes = Processes()
    if processes.first and config.passport.at_end and not member and not (folder.path / PASSPORT).is_file():
        gc.collect()
        print(summary(issue_passport(config, folder)))
    processes.close()
    return folder


def train_one(config: RewardConfig, *, resume: bool) -> RunFolder:
    """Fit one model, alone or as a member of an ensemble: read, fit, save, normalise, measure on held-out pairs."""
    seed = member_seed(config.run.seed, config.ensemble.member)
    setup = prepare(config, seed=seed)
    files = setup.files({"train": config.data.train, "heldout": config.data.heldout})
    bootstrap_seed = seed if config.ensemble.member else None
    data = load_data(
        setup.tokenizer, files, config.data, config.loss, seed=config.run.seed, bootstrap_seed=bootstrap_seed
    )
    _normalising_prompts(config, setup.tokenizer, data)  # raises before any work if no prompt leaves room
    rules, parents = RowRules(config.data.ignore, config.data.bad_rows), {"start": config.model.start}
    session = open_session(
        setup, config, "reward", resume=resume, parents=parents, files=files, rules=rules, seed=seed, pairs=data.counts
    )
    if session.finished:
        return session.folder
    if data.counts["too_long"] and config.passport.at_end and config.ensemble.member <= 1:
        for line in few_labels(data.counts["train"], data.counts["heldout"], config.passport.fewest):
            session.say(f"warning: {line}")
    with session.running():
        head, raw_probe = fit(config, setup, session, data)
        gc.collect()
        if session.processes.first:
            results = finish(config, setup, session, head, raw_probe, data)
            write_card(
                session.folder,
                about=f"A reward model ({LOSSES[config.loss.kind]}) on preference pairs; its head is in "
                "head.safetensors.",
                results=results,
                kind="reward",
            )
            session.say(
                f"held-out accuracy {results['heldout/accuracy']:.3f} on {data.counts['heldout']} pairs, "
                f"calibration error {results['heldout/ece']:.3f}"
            )
    return session.folder


@memory_hint("in a training step", f"{SMALLER_STEP}. {DOCTOR}")
def fit(config: RewardConfig, setup: Setup, session: Session, data: RewardData) -> tuple[ScalarHead, Tensor]:
    """Train adapter and score head, and save the adapter.

    Returns:
        head: the trained head, not normalised yet. raw_probe: (N,) float32, the trained model's raw scores of the
        probe rows.

    Raises:
        WorkbenchError: the fit diverged: something is not finite, or all scores are the same.
    """
    trainer, model = _trainer(config, setup, session, data)
    trainable, frozen = count_parameters(model)
    session.say(
        f"base {setup.spec.name}, {frozen:,} parameters; training {trainable:,} on {data.counts['train']:,} pairs "
        f"({data.counts['too_long']:,} too long and left out, {data.counts['cut']:,} with a cut prompt)"
    )
    if session.checkpoint is None and config.loss.head_first:
        _fit_head_first(config, setup, session, trainer, data)
    roles = Roles(model, setup.tokenizer)
    session.base_loaded(setup, roles, config.model)
    with roles.one_thread_per_op():
        trainer.train(resume_from_checkpoint=session.resume_from)

    weight = _score_weight(model)  # (D,); peft drops the head when PPO loads the adapter on a causal base
    head = ScalarHead(len(weight))
    with torch.no_grad():
        head.weight.copy_(weight)
    scores = _raw_scores(model, probe_rows(data.heldout.to_list()), setup.tokenizer)
    require_finite(session.folder, "at its end", {"the sum of the probe rows' scores": float(scores.sum())})
    if bool((scores == scores[0]).all()):
        raise diverged(session.folder, "at its end", f"every response gets the same score, {float(scores[0]):g}")
    if session.processes.first:
        save_trained_adapter(model, setup.tokenizer, session.folder.adapter, without="raw_thresholds")
    return head, scores


def _trainer(
    config: RewardConfig, setup: Setup, session: Session, data: RewardData
) -> tuple[ComparisonTrainer, PeftModel]:
    """The trainer, and the model that it trains: the base with a copy of the start adapter and a random score head."""
    assert setup.start is not None
    base: Any = load_base(setup.spec, setup.tokenizer, head="score")
    first = ScalarHead(base.config.hidden_size).weight.detach().unsqueeze(0).to(base.score.weight.device)  # (1, D)
    base.score = ScoreHead(first, torch.tensor(data.level_shares))
    adapter = lora_config(config.lora.r, config.lora.alpha, config.lora.dropout, task="SEQ_CLS")
    model = start_training_adapter(base, adapter, setup.start.adapter)
    callback = RunCallback(session, METRICS, keep_last=config.checkpoint.keep_last, description="reward")
    with keep_adapters_float32(model):  # TRL casts trainable parameters to bfloat16
        trainer = ComparisonTrainer(
            loss=config.loss,
            model=model,
            args=_arguments(config, session, compute_dtype(setup.spec.dtype, default_device())),
            train_dataset=data.train,
            processing_class=setup.tokenizer,
            data_collator=Comparisons(setup.tokenizer.pad_token_id),
            callbacks=[callback],
        )
    trainer.remove_callback(PrinterCallback)
    return trainer, model


def _fit_head_first(
    config: RewardConfig, setup: Setup, session: Session, trainer: ComparisonTrainer, data: RewardData
) -> None:
    """Give the score head the weight that fits the pairs best before the adapter moves."""
    groups, size = data.train.to_list(), config.normalise.batch_size
    with torch.no_grad():
        fitted = first_head(trainer.model, groups, setup.tokenizer.pad_token_id, batch_size=size)  # (D,)
        largest = float(fitted.abs().max())
        require_finite(session.folder, "before its first step", {"the first head's weight": largest}, remedy=BASE)
        trainer.head.weight.copy_(fitted.unsqueeze(0))


def finish(
    config: RewardConfig, setup: Setup, session: Session, head: ScalarHead, raw_probe: Tensor, data: RewardData
) -> dict[str, float]:
    """Load the reward model as PPO will, check that it scores the same, normalise its scores, and measure it."""
    folder = session.folder
    assert setup.start is not None
    roles = open_runs({"start": setup.start.path}, base=config.model.base, kernels=config.model.kernels)
    roles.add("reward", folder.adapter, head)
    size = config.normalise.batch_size
    ids, mask = pad_rows(probe_rows(data.heldout.to_list()), roles.tokenizer.pad_token_id)  # (B, T) each
    probe = ids.to(roles.device), mask.to(roles.device)
    check_same_scores(raw_probe, roles.scores("reward", *probe).cpu(), dtype=roles.dtype, place=folder.path)

    answers = answer_rows(config, roles, _normalising_prompts(config, roles.tokenizer, data))
    raw = score_rows(roles, "reward", answers, batch_size=size)
    roles.heads["reward"].normalise(float(raw.mean()), float(raw.std()))

    save_head(folder.head_path, roles.heads["reward"], Probe(ids, mask, roles.scores("reward", *probe)))

    chosen, rejected = score_pairs(roles, "reward", data.heldout.to_list(), batch_size=size)
    metrics = heldout_metrics(chosen, rejected, float(roles.heads["reward"].gain), data.heldout_groups)
    metrics |= {"normalise/raw_mean": float(raw.mean()), "normalise/raw_std": float(raw.std())}
    require_finite(folder, "at its end", metrics)
    rows = folder.read_metrics()  # none if nothing was trained: an average
    session.tracker.log(metrics, int(rows[-1]["step"]) if rows else 0)
    return metrics


def _normalising_prompts(config: RewardConfig, tokenizer: PreTrainedTokenizerBase, data: RewardData) -> list[Prompt]:
    """The distinct training prompts whose answers set the scale of the scores."""
    section = config.normalise
    by_group = {record.group: Prompt(id=record.group, prompt=record.prompt) for record in data.train_records}
    prompts = prompts_with_room(
        tokenizer, list(by_group.values()), max_new_tokens=section.max_new_tokens, key="normalise.max_new_tokens"
    )
    return prompts[: section.answers]


@memory_hint("while sampling answers", "a smaller normalise.batch_size or normalise.max_new_tokens")
def answer_rows(config: RewardConfig, roles: Roles, distinct: list[Prompt]) -> list[list[int]]:
    """Token rows of prompts with answers that the start run samples, at least `normalise.answers` of them."""
    per_prompt = -(-config.normalise.answers // len(distinct))
    sampled = sample(
        roles,
        "start",
        distinct,
        temperatures=[1.0],
        responses_per_prompt=per_prompt,
        max_new_tokens=config.normalise.max_new_tokens,
        batch_size=config.normalise.batch_size,
        seed=config.run.seed,
    )
    return [
        [*encode_prompt(roles.tokenizer, prompt.prompt), *answer.ids]
        for prompt, answers in sampled
        for answer in answers
    ]


def _arguments(config: RewardConfig, session: Session, dtype: torch.dtype) -> TrlConfig:
    arguments = TrlConfig(
        **trainer_arguments(session, config, dtype, seed=member_seed(config.run.seed, config.ensemble.member)),
        max_length=None,  # over-long pairs were left out and counted when the rows were encoded
        disable_dropout=False,  # the adapter keeps `lora.dropout`
    )
    return one_device(arguments)


def _score_weight(model: PeftModel) -> Tensor:
    """(D,) weight of the trained score head."""
    weights = [p for name, p in model.named_parameters() if name.endswith("score.modules_to_save.default.weight")]
    assert len(weights) == 1, "the score head was not trained with the adapter"
    return weights[0].detach().float().cpu().squeeze(0)


def _raw_scores(model: PeftModel, rows: list[list[int]], tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """(N,) float32 scores of the trained model, not normalised, on the CPU."""
    ids, mask = pad_rows(rows, tokenizer.pad_token_id)  # (N, T) each
    device = default_device()
    # Accelerate leaves its bfloat16 autocast on the model; roles run LoRA in float32, so the wrapper is taken off.
    model = extract_model_from_parallel(model, keep_fp32_wrapper=False).eval()
    with torch.no_grad():
        logits: Tensor = model(input_ids=ids.to(device), attention_mask=mask.long().to(device)).logits
    return logits.float().squeeze(-1).cpu()
