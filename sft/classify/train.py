"""Trains a classifier of texts, a LoRA adapter with a head or with label words, and measures it against baselines."""

import gc
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from sft.classify.classifiers import last_states
from sft.classify.config import ClassifyConfig
from sft.classify.encode import PlainRows, Question
from sft.classify.evaluate import check_saved_head, measure_run, open_trained, untuned_questions
from sft.classify.inputs import PHASE, check_inputs
from sft.classify.split import TextSplit, flags_of, load_split
from sft.classify.trainer import Row, make_trainer
from workbench.data.augment import augmented_texts
from workbench.data.hashing import unit_hash
from workbench.data.rules import RowRules
from workbench.data.tokenise import unknown_characters, unknown_id
from workbench.evaluate.classification import Flags
from workbench.evaluate.summary import classifier_lines
from workbench.model.adapters import lora_config, start_training_adapter
from workbench.model.base import load_base
from workbench.model.heads import LabelHead, save_label_head
from workbench.model.roles import PeftModel, Roles
from workbench.model.session import Session, Setup, open_session, prepare
from workbench.model.training import count_parameters, save_trained_adapter
from workbench.run.card import write_card
from workbench.run.errors import check_all
from workbench.run.folder import RunFolder
from workbench.run.out_of_memory import DOCTOR, SMALLER_STEP, memory_hint

PROBED = 8
"""Held-out texts whose logits are compared before and after saving."""
FIRST_FIT = 20_000
"""Training texts whose states the first head is fitted to, at most."""


@dataclass(frozen=True)
class Encoded:
    """Training rows and the weights of the labels."""

    rows: list[Row]
    truth: Flags
    """(N, K) labels of the training texts."""
    positive_weights: torch.Tensor | None
    """(K,) for multi-label tasks."""
    cut: int
    """Training texts whose end was cut off."""
    unknown: int
    """Tokens that stand for characters without a token of their own."""


def train(config: ClassifyConfig, *, resume: bool) -> RunFolder:
    """Run the phase: read, fit, save, load again, measure."""
    check_all(check_inputs, config, resume=resume)
    setup = prepare(config)
    section = config.data
    files = setup.files({"train": section.train, "heldout": section.heldout})
    rules = RowRules(section.ignore, section.bad_rows, mask=section.mask_personal)
    split = load_split(files["train"], files.get("heldout"), section, seed=config.run.seed, rules=rules)
    encoded = encode(config, setup, split)
    questions = untuned_questions(config, setup.tokenizer, split)
    record: dict[str, Any] = {
        "method": config.method,
        "labels": list(split.labels),
        "multi_label": split.multi_label,
        "text_column": section.text,
        "texts": {
            "train": len(split.train),
            "augmented": len(encoded.rows) - len(split.train),
            "heldout": len(split.heldout),
            "cut": encoded.cut,
            "unknown_tokens": encoded.unknown,
        },
        "duplicates": {"texts": split.duplicates, "random_leak": split.random_leak, "left_out": split.left_out},
    }
    session = open_session(setup, config, PHASE, resume=resume, parents={}, files=files, rules=rules, **record)
    if not session.finished:
        with session.running():
            probe = _fit(config, setup, session, split, encoded)
            gc.collect()
            if session.processes.first:
                _finish(config, setup, session, split, questions, probe)
    setup.processes.close()
    return session.folder


def encode(config: ClassifyConfig, setup: Setup, split: TextSplit) -> Encoded:
    """The training texts as token rows with their labels and weights."""
    records = augmented_texts(split.train, config.augment, seed=config.run.seed)
    truth = flags_of(records, split.labels)
    if config.data.shuffle_labels:
        order = sorted(range(len(records)), key=lambda index: unit_hash(config.run.seed, "shuffle", index))
        truth = truth[order]
    weights, positive_weights = _weights(config, truth, multi_label=split.multi_label)
    rows: list[Row] = []
    cut = 0
    if config.method == "head":
        plain = PlainRows(setup.tokenizer, config.data.max_length)
        for record, flags, weight in zip(records, truth, weights, strict=True):
            ids, shorter = plain(record.text)
            cut += shorter
            rows.append({"ids": ids, "targets": flags.astype(float).tolist(), "weight": weight})
    else:
        question = Question(setup.tokenizer, config.verbalizer, split.labels, config.data.max_length)
        for record, flags, weight in zip(records, truth, weights, strict=True):
            ids, shorter = question(record.text)
            cut += shorter
            answer = question.answers[int(flags.argmax())]
            rows.append({"ids": [*ids, *answer], "answer": len(answer), "weight": weight})
    unknown = unknown_id(setup.tokenizer)
    return Encoded(rows, truth, positive_weights, cut, sum(row["ids"].count(unknown) for row in rows))


def _weights(config: ClassifyConfig, truth: Flags, *, multi_label: bool) -> tuple[list[float], torch.Tensor | None]:
    """The weight of each text; and for multi-label tasks, the weight of each label where it is present.

    balanced: N / (K n_k) for a text of label k; (N − n_k) / n_k for label k of several.
    """
    present = truth.sum(axis=0)
    balanced = config.train.class_weights == "balanced"
    if multi_label:
        positive = (len(truth) - present) / present if balanced else np.ones(len(present))
        return [1.0] * len(truth), torch.tensor(positive, dtype=torch.float32)
    per_label = len(truth) / (len(present) * present) if balanced else np.ones(len(present))
    return per_label[truth.argmax(axis=1)].tolist(), None


@memory_hint("in a training step", f"{SMALLER_STEP}. {DOCTOR}")
def _fit(
    config: ClassifyConfig, setup: Setup, session: Session, split: TextSplit, encoded: Encoded
) -> torch.Tensor | None:
    """Train the adapter (and the head), and save them.

    Returns:
        (PROBED, K) logits of held-out texts by the trained head; None for the verbalizer.
    """
    head = config.method == "head"
    base: Any = load_base(setup.spec, setup.tokenizer, head="score" if head else "causal")
    if head:
        base.score = LabelHead(split.labels, base.config.hidden_size).to(base.score.weight.device)
    task = "SEQ_CLS" if head else "CAUSAL_LM"
    adapter = lora_config(config.lora.r, config.lora.alpha, config.lora.dropout, task=task)
    model = start_training_adapter(base, adapter)
    trainer = make_trainer(config, session, model, setup.tokenizer, encoded.rows, encoded.positive_weights)
    trainable, frozen = count_parameters(model)
    session.say(
        f"base {setup.spec.name}, {frozen:,} parameters; training {trainable:,} on {len(encoded.rows):,} texts "
        f"({encoded.cut:,} cut at data.max_length)"
    )
    if encoded.unknown:
        characters = unknown_characters(setup.tokenizer, [record.text for record in split.train[:1000]])
        tokens = sum(len(row["ids"]) for row in encoded.rows)
        session.say(
            f"warning: {encoded.unknown:,} of {tokens:,} tokens stand for characters that the base's vocabulary lacks: "
            f"{' '.join(map(repr, list(characters)[:20]))}"
        )
    roles = Roles(model, setup.tokenizer)
    session.base_loaded(setup, roles, config.model)
    if head and session.checkpoint is None:
        _fit_head_first(config, roles, trained_head(model), encoded, multi_label=split.multi_label)
    with roles.one_thread_per_op():
        trainer.train(resume_from_checkpoint=session.resume_from)
    probe = None
    if head:
        plain = PlainRows(setup.tokenizer, config.data.max_length)
        rows = [plain(record.text)[0] for record in split.heldout[:PROBED]]
        found = trained_head(model)
        with torch.no_grad():
            states = last_states(roles, "default", rows, batch_size=PROBED)
            probe = found(states.to(found.weight.device)).cpu()
    if session.processes.first:
        save_trained_adapter(model, setup.tokenizer, session.folder.adapter)
        if head:
            save_label_head(session.folder.head_path, trained_head(model))
    return probe


def trained_head(model: PeftModel) -> LabelHead:
    """The head that the trainer trains, not the copy of its first state that peft keeps."""
    (head,) = (
        module
        for name, module in model.named_modules()
        if isinstance(module, LabelHead) and "original_module" not in name
    )
    return head


def _fit_head_first(
    config: ClassifyConfig, roles: Roles, head: LabelHead, encoded: Encoded, *, multi_label: bool
) -> None:
    """Fit the head alone on the states of the untuned base, by logistic regression.

    Source: Kumar et al. 2022, arXiv:2202.10054 (LP-FT): from a random head, the adapter first distorts good features.
    """
    rows = encoded.rows[:FIRST_FIT]
    states = last_states(roles, "default", [row["ids"] for row in rows], batch_size=config.train.micro_batch_size)
    weight, bias = linear_probe(
        states.double().numpy(),
        encoded.truth[:FIRST_FIT],
        np.array([row["weight"] for row in rows]),
        multi_label=multi_label,
    )
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(bias))


def linear_probe(
    states: np.ndarray[Any, Any], truth: Flags, weights: np.ndarray[Any, Any], *, multi_label: bool
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Weight (K, D) and bias (K,) of a logistic regression on standardised states.

    Args:
        states: (N, D).
        truth: (N, K) labels.
        weights: (N,) weight of each text.
        multi_label: one regression per label; a label that all or none of the texts have keeps weight 0.
    """
    centre, scale = states.mean(axis=0), states.std(axis=0) + 1e-6
    standard = (states - centre) / scale
    labels = truth.shape[1]
    weight, bias = np.zeros((labels, states.shape[1])), np.zeros(labels)
    present = truth.any(axis=0)
    if multi_label:
        for index in np.flatnonzero(present & ~truth.all(axis=0)):
            fitted = LogisticRegression(max_iter=300).fit(standard, truth[:, index], weights)
            weight[index], bias[index] = fitted.coef_[0], fitted.intercept_[0]
    elif present.sum() > 1:
        fitted = LogisticRegression(max_iter=300).fit(standard, truth.argmax(axis=1), weights)
        if len(fitted.classes_) == 2:  # one row of coefficients: the logit of the second label minus that of the first
            halves = np.array([[-0.5], [0.5]])
            weight[fitted.classes_], bias[fitted.classes_] = halves * fitted.coef_, halves[:, 0] * fitted.intercept_
        else:
            weight[fitted.classes_], bias[fitted.classes_] = fitted.coef_, fitted.intercept_
        bias[~present] = bias[present].min() - 5.0  # a label outside the first texts starts out improbable
    weight = weight / scale
    return weight, bias - weight @ centre


def _finish(
    config: ClassifyConfig,
    setup: Setup,
    session: Session,
    split: TextSplit,
    questions: dict[str, Question],
    probe: torch.Tensor | None,
) -> None:
    """Load the classifier as `predict` does, check that it is the trained one, measure it, and write the results."""
    folder = session.folder
    roles = open_trained(setup.spec, setup.tokenizer, folder)
    if probe is not None:
        check_saved_head(config, roles, folder, [record.text for record in split.heldout[:PROBED]], probe)
    evaluation = measure_run(config, roles, folder, split, questions)
    evaluation.save(folder.evaluation_path)
    found = evaluation.classifier
    assert found is not None
    ours = found.methods[found.trained]
    results = {
        "heldout/accuracy": ours.accuracy.mean,
        "heldout/macro_f1": ours.macro_f1.mean,
        "heldout/ece": ours.ece,
        "heldout/baseline_macro_f1": found.methods[found.best_baseline].macro_f1.mean,
        "heldout/texts": float(found.texts),
    }
    session.tracker.log(results, int(folder.read_metrics()[-1]["step"]))
    about = "A classifier of texts; " + (
        "its head is in head.safetensors." if config.method == "head" else "the LM scores the label words."
    )
    write_card(folder, about=f"{about} On held-out texts: {found.verdict()}.", results=results, kind="classifier")
    for line in classifier_lines(found):
        session.say(line)
