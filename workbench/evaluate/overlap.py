"""Overlap of evaluation prompts with training prompts, by text. Reads the data files named in run.json; no model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from workbench.data.readers import read_demonstrations, read_preferences, read_prompts, read_rated_answers
from workbench.data.records import Message, Prompt
from workbench.data.rules import RowRules
from workbench.data.splits import load_answers, load_pairs, split_by_group
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.lineage import data_fingerprint
from workbench.run.parents import find_data


@dataclass(frozen=True)
class Overlap:
    """How many evaluation prompts a run was trained on."""

    run: str
    shared: int | None
    """None if it could not be determined."""
    prompts: int
    """Number of evaluation prompts."""
    reason: str = ""
    """Why it could not be determined."""

    def sentence(self) -> str:
        """A clause for the report."""
        if self.shared is None:
            return f"{self.run}: not checked ({self.reason})"
        return f"{self.run} was trained on {self.shared} of {self.prompts}"


def overlap(name: str, folder: RunFolder, prompts: Sequence[Sequence[Mapping[str, str]]]) -> Overlap:
    """Count the distinct evaluation prompts that are also training prompts of a run.

    Args:
        name: of the run.
        folder: of the run.
        prompts: each a list of messages with `role` and `content`.
    """
    asked = {_key(prompt) for prompt in prompts}
    try:
        trained = {_key([message.model_dump() for message in prompt]) for prompt in training_prompts(folder)}
    except WorkbenchError as error:
        return Overlap(name, None, len(asked), f"{error.place}: {error.problem}")
    return Overlap(name, len(asked & trained), len(asked))


def training_prompts(folder: RunFolder) -> list[tuple[Message, ...]]:
    """The training prompts of a run. Its data is split again the way the run split it.

    Raises:
        WorkbenchError: run.json names no data, or a file is missing, changed or unreadable.
    """
    record, config = folder.record(), _config(folder)
    data = config.get("data", {})
    files = {name: find_data(folder, name) for name in record.get("data", {})}
    if "train" not in files:
        raise WorkbenchError(folder.record_path, "names no training data")
    for name, path in files.items():
        if not path.exists():
            raise WorkbenchError(path, "is missing")
        if data_fingerprint(path)["sha256"] != record["data"][name]["sha256"]:
            raise WorkbenchError(path, "has changed since")
    rules, seed = RowRules.of(data), int(config.get("run", {}).get("seed", 0))
    apart = files.get("heldout", files.get("validation"))
    if record["phase"] == "reward" or record.get("method", "ppo") != "ppo":
        share = float(data.get("heldout_share", 0.0))
        rated = record.get("method") == "kto"
        load: Any = load_answers if rated else load_pairs
        judged = load(
            files["train"], apart, heldout_share=share, seed=seed, limit=int(data.get("limit", 0)), rules=rules
        )
        read_mix: Any = read_rated_answers if rated else read_preferences
        more = read_mix(files["mix"], rules) if "mix" in files else []
        return [one.prompt for one in (*judged.train, *more)]
    share = float(data.get("validation_share", data.get("heldout_share", 0.0)))
    read: Any = read_demonstrations if record["phase"] == "sft" else read_prompts
    records: list[Prompt] = list(read(files["train"], rules))
    if apart is None or apart == files["train"]:
        records, _ = split_by_group(records, share, seed)
    return [one.prompt for one in records]


def _config(folder: RunFolder) -> dict[str, Any]:
    if not folder.config_path.is_file():
        raise WorkbenchError(folder.config_path, "is missing")
    try:
        config = yaml.safe_load(folder.config_path.read_text(encoding="utf-8"))
    except yaml.YAMLError:
        raise WorkbenchError(folder.config_path, "is not YAML") from None
    return config if isinstance(config, dict) else {}


def _key(prompt: Sequence[Mapping[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((str(message["role"]), message["content"].strip()) for message in prompt)
