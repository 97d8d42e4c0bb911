"""The trained classifier beside its baselines on held-out texts, after it was loaded from its folder."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from sft.classify.baselines import majority, tfidf_logistic
from sft.classify.classifiers import Classifier, HeadClassifier, WordClassifier
from sft.classify.config import ClassifyConfig
from sft.classify.encode import PlainRows, Question, short_examples
from sft.classify.inputs import PHASE
from sft.classify.split import TextSplit, flags_of
from workbench.data.hashing import unit_hash
from workbench.data.records import LabelledText
from workbench.evaluate.classification import evaluate_classifiers
from workbench.evaluate.evaluation import Evaluation
from workbench.evaluate.statistics import Floats
from workbench.model.base import BaseSpec, load_base
from workbench.model.heads import load_label_head
from workbench.model.open import open_runs, without_dropout
from workbench.model.precision import REPEATED_TOLERANCE
from workbench.model.roles import Roles
from workbench.run.config import load_config
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder

ROLE, UNTUNED = "classifier", "untuned"


def open_trained(spec: BaseSpec, tokenizer: Any, folder: RunFolder) -> Roles:
    """The base with the adapter of a run that is not marked as finished yet."""
    model = load_base(spec, tokenizer)
    without_dropout(model)
    return Roles.of(model, tokenizer, ROLE, folder.adapter)


def classifier_of(
    config: ClassifyConfig,
    roles: Roles,
    folder: RunFolder,
    labels: Sequence[str],
    *,
    multi_label: bool,
    batch_size: int,
) -> Classifier:
    """The classifier of a run, on its opened adapter."""
    if config.method == "head":
        head = load_label_head(folder.head_path)
        rows = PlainRows(roles.tokenizer, config.data.max_length)
        return HeadClassifier(roles, ROLE, head, rows, multi_label=multi_label, batch_size=batch_size)
    question = Question(roles.tokenizer, config.verbalizer, labels, config.data.max_length)
    return WordClassifier(roles, ROLE, question, calibrated=config.verbalizer.calibrate, batch_size=batch_size)


def open_classifier(folder: RunFolder, *, base: str | None = None, batch_size: int = 64) -> Classifier:
    """The classifier of a finished run; its labels are in run.json.

    Args:
        folder: the run.
        base: where the base is now, if not where the run says.
        batch_size: rows per forward pass, at most.

    Raises:
        WorkbenchError: the run is unfinished, broken, or on another base.
    """
    config, _ = load_config(ClassifyConfig, folder.config_path)
    record = folder.record()
    roles = open_runs({ROLE: folder.path}, base=base)
    return classifier_of(
        config, roles, folder, record["labels"], multi_label=record["multi_label"], batch_size=batch_size
    )


def check_saved_head(
    config: ClassifyConfig, roles: Roles, folder: RunFolder, texts: Sequence[str], trained: torch.Tensor
) -> None:
    """Check that adapter and head, loaded from the folder, give the logits that the trained model gave.

    Args:
        config: of the run.
        roles: with the adapter.
        folder: of the run.
        texts: (N,).
        trained: (N, K) float32 logits of the model in the trainer.

    Raises:
        WorkbenchError: they differ: the head was dropped, or the adapter was saved incompletely.
    """
    head = load_label_head(folder.head_path)
    rows = PlainRows(roles.tokenizer, config.data.max_length)
    loaded = HeadClassifier(roles, ROLE, head, rows, multi_label=False, batch_size=len(texts)).logits(texts)
    worst = float((trained - loaded).abs().max())
    limit = REPEATED_TOLERANCE[roles.dtype] * max(1.0, float(trained.abs().max()))
    if not worst <= limit:
        raise WorkbenchError(
            folder.path,
            f"the saved classifier gives other logits than the trained one, by up to {worst:.3g}",
            expected=f"differences up to {limit:.3g}",
            remedy="check that nothing else writes into this folder, then run it again with --resume",
        )


def measure_run(
    config: ClassifyConfig, roles: Roles, folder: RunFolder, split: TextSplit, questions: Mapping[str, Question]
) -> Evaluation:
    """Classify the held-out texts with every method, and compare.

    Args:
        config: of the run.
        roles: with the adapter.
        folder: of the run.
        split: the texts.
        questions: from `untuned_questions`.
    """
    texts, seed = [record.text for record in split.heldout], config.run.seed
    truth = flags_of(split.heldout, split.labels)
    learned = flags_of(split.train, split.labels)
    size = config.train.micro_batch_size
    methods: dict[str, Floats] = {"majority": majority(learned, len(texts))}
    methods["tfidf_logistic"] = tfidf_logistic(
        [record.text for record in split.train], learned, texts, multi_label=split.multi_label
    )
    methods |= untuned(roles, questions, texts, batch_size=size)
    ours = classifier_of(config, roles, folder, split.labels, multi_label=split.multi_label, batch_size=size)
    methods[config.method] = ours.probabilities(texts)
    found = evaluate_classifiers(
        methods,
        truth,
        texts=texts,
        groups=split.heldout_groups,
        labels=split.labels,
        trained=config.method,
        multi_label=split.multi_label,
        seed=seed,
    )
    sources = {"train": config.data.train, "heldout": config.data.heldout or "the run's own held-out texts"}
    return Evaluation(str(folder.path), PHASE, seed, sources, classifier=found)


def untuned_questions(config: ClassifyConfig, tokenizer: Any, split: TextSplit) -> dict[str, Question]:
    """How the untuned base is asked: `zero_shot` and `few_shot`; nothing for multi-label tasks.

    Examples make a prompt longer than `data.max_length`, which limits the rows of training: each may take as many
    tokens as a text, up to the base's positions.

    Raises:
        WorkbenchError: the wording leaves no room for a text.
    """
    if split.multi_label:
        return {}
    section, length = config.verbalizer, config.data.max_length
    questions = {"zero_shot": Question(tokenizer, section, split.labels, length)}
    if section.shots:
        longer = min((section.shots + 1) * length, int(tokenizer.model_max_length))
        shots = few_shots(tokenizer, split.train, section.shots, longer, seed=config.run.seed)
        questions["few_shot"] = Question(tokenizer, section, split.labels, longer, shots)
    return questions


def untuned(
    roles: Roles, questions: Mapping[str, Question], texts: Sequence[str], *, batch_size: int
) -> dict[str, Floats]:
    """The untuned base's probabilities of the label words for each question, each also calibrated."""
    if not questions:
        return {}
    roles.copy(ROLE, UNTUNED)
    zero = {name: torch.zeros_like(weight) for name, weight in roles.adapter_state(UNTUNED).items()}
    roles.load_adapter_state(UNTUNED, zero)  # an adapter of zeros adds nothing: this is the base
    methods = {}
    for name, question in questions.items():
        model = WordClassifier(roles, UNTUNED, question, calibrated=False, batch_size=batch_size)
        table = model.log_probabilities(texts)
        methods[name] = model.of_log_probabilities(table, calibrated=False)
        methods[f"{name}_calibrated"] = model.of_log_probabilities(table, calibrated=True)
    return methods


def few_shots(
    tokenizer: Any, records: Sequence[LabelledText], number: int, length: int, *, seed: int
) -> list[tuple[str, str]]:
    """Examples drawn by the seed, as many of each label as possible, in random order, short enough for a row."""
    ordered = sorted(records, key=lambda record: unit_hash(seed, "shot", record.text))
    by_label: dict[str, list[LabelledText]] = {}
    for record in ordered:
        by_label.setdefault(record.labels[0], []).append(record)
    chosen: list[LabelledText] = []
    for turn in range(number):
        chosen += [own[turn] for own in by_label.values() if turn < len(own)]
    drawn = sorted(chosen[:number], key=lambda record: unit_hash(seed, "order", record.text))
    return short_examples(tokenizer, [(record.text, record.labels[0]) for record in drawn], length)
