"""Configuration of classification."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from pydantic import field_validator

from workbench.run.config import Section, read_values
from workbench.run.errors import WorkbenchError, did_you_mean
from workbench.run.sections import (
    AugmentSection,
    BaseSection,
    CheckpointSection,
    LoraSection,
    Names,
    NonNegativeInt,
    OptimizerSection,
    PersonalRowsSection,
    PositiveInt,
    RunSection,
    Share,
    TrackingSection,
)

Method = Literal["head", "verbalizer"]


class TextSection(PersonalRowsSection):
    """Labelled texts."""

    train: str
    """File of labelled texts (JSON, CSV, TSV, Parquet), or `tiny:texts`."""
    heldout: str | None = None
    """Labelled texts to measure on; None holds out `heldout_share` of the groups of near duplicates."""
    heldout_share: Share = 0.2
    """Share of the groups of near duplicates that is held out if `heldout` is not given."""
    text: str = "text"
    """Column with the text."""
    labels: Names = ("label",)
    """Column with the class, or with a list of classes; or several columns of 0 and 1, each named like its class. Lists
    and several columns make the task multi-label."""
    max_length: PositiveInt = 256
    """Tokens of a row; the ends of longer texts are cut off, and these texts are counted."""
    shuffle_labels: bool = False
    """Shuffle the labels of the training texts: a negative control, the result should be that of the majority."""


class VerbalizerSection(Section):
    """How the LM is asked for a label; the untuned base is also asked in this way."""

    prompt: str = "{text}\n\nWhich label fits this text: {labels}?"
    """The user's turn; `{text}` is the text, `{labels}` the list of label words."""
    words: Names = ()
    """Words for labels, such as [1=offensive, 0=harmless]; a label that is not named stands for itself."""
    calibrate: bool = False
    """Contextual calibration of the tuned classifier: divide by the probabilities under a prompt without content. The
    untuned base is measured both ways."""
    shots: NonNegativeInt = 4
    """Labelled training texts in the few-shot prompt of the untuned base; 0: measure without examples only."""

    @field_validator("prompt")
    @classmethod
    def _has_text(cls, prompt: str) -> str:
        if "{text}" not in prompt:
            raise ValueError("a prompt that contains {text}")
        return prompt

    @field_validator("words")
    @classmethod
    def _are_pairs(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [word for word in words if not all(part.strip() for part in word.partition("=")[::2])]
        if wrong:
            raise ValueError(f"LABEL=WORD, not {wrong[0]!r}")
        return words

    def word_of(self, label: str) -> str:
        """The words that the LM says for a label."""
        renamed = {name: word for name, _, word in (pair.partition("=") for pair in self.words)}
        return renamed.get(label, label)


class LabelTrainSection(OptimizerSection):
    """AdamW, its schedule, and the weights of the classes."""

    class_weights: Literal["none", "balanced"] = "none"
    """`balanced`: a class counts in the loss in inverse proportion to its frequency; better recall of rare classes,
    worse calibration."""


class ClassifyConfig(Section):
    """Everything `python -m sft` reads if `method` is `head` or `verbalizer`."""

    method: Method
    """`head`: a linear head on the hidden state of the last token. `verbalizer`: the LM scores the label words."""
    run: RunSection
    model: BaseSection
    lora: LoraSection = LoraSection()
    data: TextSection
    augment: AugmentSection = AugmentSection()
    verbalizer: VerbalizerSection = VerbalizerSection()
    train: LabelTrainSection = LabelTrainSection()
    checkpoint: CheckpointSection = CheckpointSection()
    tracking: TrackingSection = TrackingSection()


def is_classification(path: Path, overrides: Sequence[str]) -> bool:
    """Whether a configuration of `python -m sft` asks for a classifier: it then has a `method`.

    Raises:
        WorkbenchError: the file cannot be read, or the method is unknown.
    """
    method = read_values(path, overrides).get("method")
    known = get_args(Method)
    if method is None or method in known:
        return method is not None
    raise WorkbenchError(
        "method",
        f"{method!r} is unknown",
        expected=f"{', '.join(known)}; or no method, which is supervised tuning on demonstrations",
        remedy=did_you_mean(str(method), known),
    )
