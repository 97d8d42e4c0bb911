"""Every shipped configuration: its class reads it, it says what it is for, and no key is read by nobody."""

import argparse
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import pytest
import torch
import yaml
from peft import get_peft_model
from pydantic import BaseModel, TypeAdapter, ValidationError
from transformers import LlamaConfig, LlamaForCausalLM

from annotate.config import AnnotateConfig
from ppo.config import ContrastiveConfig, PpoConfig
from ppo.ladder.config import PairsConfig
from reward.config import RewardConfig
from sft.classify.config import ClassifyConfig
from sft.config import SftConfig
from workbench.compare.config import CompareConfig
from workbench.loop.config import LoopConfig
from workbench.model.adapters import lora_config
from workbench.run.command_line import add_config_arguments, parse_command_line, parse_words, read_command
from workbench.run.config import dotted, known_keys, load_config
from workbench.run.errors import WorkbenchError
from workbench.run.reference import MISSING, reference
from workbench.suite.config import SuiteConfig

ROOT = Path(__file__).parents[1]
CLASSES = {
    "sft": SftConfig,
    "retrain": SftConfig,
    "classify": ClassifyConfig,
    "annotate": AnnotateConfig,
    "reward": RewardConfig,
    "ppo": PpoConfig,
    "dpo": ContrastiveConfig,
    "slic": ContrastiveConfig,
    "kto": ContrastiveConfig,
    "pairs": PairsConfig,
    "compare": CompareConfig,
    "loop": LoopConfig,
    "suite": SuiteConfig,
}
READERS = {
    SftConfig: ("sft/train.py", "sft/data.py", "sft/evaluate.py", "sft/inputs.py", "sft/sources.py"),
    ClassifyConfig: ("sft/classify",),
    AnnotateConfig: ("annotate",),
    RewardConfig: ("reward",),
    PpoConfig: (
        *("ppo/config.py", "ppo/start.py", "ppo/train.py", "ppo/state.py", "ppo/update.py"),
        *("ppo/rollout.py", "ppo/rewards.py", "ppo/advantages.py", "ppo/guard", "ppo/people"),
    ),
    ContrastiveConfig: ("ppo/contrastive", "ppo/config.py", "ppo/guard"),
    PairsConfig: ("ppo/ladder", "ppo/inputs.py"),
    CompareConfig: ("workbench/compare",),
    LoopConfig: ("workbench/loop",),
    SuiteConfig: ("workbench/suite",),
}
"""Files that read each class."""
REFERENCES = {
    "sft": SftConfig,
    "classify": ClassifyConfig,
    "reward": RewardConfig,
    "ppo": PpoConfig,
    "contrastive": ContrastiveConfig,
    "pairs": PairsConfig,
    "annotate": AnnotateConfig,
    "compare": CompareConfig,
    "loop": LoopConfig,
    "suite": SuiteConfig,
}
METHODS = {"contrastive": "dpo", "classify": "head"}
"""The value of `method` where it has no default."""
FILES = sorted(path for path in (ROOT / "configs").rglob("*.yaml") if path.parent.name != "reference")
NAMES = [path.relative_to(ROOT / "configs").as_posix() for path in FILES]


def phase_configs():
    """Files with a class of their own; a file that drives several phases has none."""
    return [path for path in FILES if path.stem in CLASSES]


def header_of(path):
    """The comment lines before the first key."""
    lines = path.read_text(encoding="utf-8").splitlines()
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    return "\n".join(lines[:first])


@pytest.mark.parametrize("path", phase_configs(), ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_its_own_class_reads_it(path):
    config, origins = load_config(CLASSES[path.stem], path)
    assert str(path) in origins.values()
    if path.stem in ("ppo", "dpo", "slic", "kto"):
        assert config.method == path.stem


@pytest.mark.parametrize("path", phase_configs(), ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_what_a_dry_run_prints_can_be_fed_back(path, tmp_path, capsys):
    parser = argparse.ArgumentParser()
    add_config_arguments(parser)

    def dry_run(*words):
        return read_command(CLASSES[path.stem], parse_words(parser, [*words, "--dry-run"])), capsys.readouterr().out

    command, printed = dry_run(str(path))
    (tmp_path / "again.yaml").write_text(printed, encoding="utf-8")
    assert dry_run(str(tmp_path / "again.yaml"))[0].config == command.config
    as_json = json.loads(dry_run(str(path), "--json")[1])
    assert as_json["config"] == command.config.model_dump(mode="json")
    assert as_json["origins"] == command.origins


def test_json_without_a_dry_run_starts_nothing(capsys):
    with pytest.raises(SystemExit) as stopped:
        parse_command_line(SftConfig, ["configs/tiny/sft.yaml", "--json"], prog="python -m sft", description="")
    assert stopped.value.code == 2
    assert "use it with --dry-run" in capsys.readouterr().err


@pytest.mark.parametrize("name", list(REFERENCES))
def test_the_reference_is_current(name):
    text = (ROOT / f"configs/reference/{name}.yaml").read_text(encoding="utf-8")
    assert text == reference(REFERENCES[name]), "run `make reference`"
    without = [line for above, line in pairwise(text.splitlines()) if not above.lstrip().startswith("#")]
    assert not [line for line in without if re.match(r" *[a-z_]+:", line)], "a key without a docstring"


@pytest.mark.parametrize("name", list(REFERENCES))
def test_the_reference_reads_back_as_the_defaults(name, tmp_path):
    path = ROOT / f"configs/reference/{name}.yaml"
    values = dotted(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert list(values) == known_keys(REFERENCES[name])
    required = [key for key, value in values.items() if value == MISSING]
    given = [f"{key}={METHODS.get(name, 'x') if key == 'method' else 'x'}" for key in required]
    if required:
        with pytest.raises(WorkbenchError, match="has no value"):
            load_config(REFERENCES[name], path, given[1:])
    sections = "".join(f"{key}: {{}}\n" for key in dict.fromkeys(key.split(".")[0] for key in values if "." in key))
    (tmp_path / "empty.yaml").write_text(sections, encoding="utf-8")
    defaults, _ = load_config(REFERENCES[name], tmp_path / "empty.yaml", given)
    assert load_config(REFERENCES[name], path, given)[0] == defaults


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_the_header_says_what_a_stranger_needs(path):
    header = header_of(path)
    assert len(header) > 100
    assert re.search(r"^# Commands?:", header, re.MULTILINE), "how to start it"
    assert re.search(r"^# Hardware:", header, re.MULTILINE), "what it takes"
    assert path.relative_to(ROOT).as_posix() in header, "its own path in its command"


def test_both_sizes_have_every_phase():
    for size in ("tiny", "llama-7b"):
        assert set(CLASSES) <= {path.stem for path in FILES if path.parent.name == size}


def test_runs_of_one_size_find_one_another():
    for size in ("tiny", "llama-7b"):
        folder = ROOT / "configs" / size
        configs = {name: load_config(cls, folder / f"{name}.yaml")[0] for name, cls in CLASSES.items()}
        sft, exported = configs["sft"].run.dir, configs["annotate"].export.out
        assert configs["annotate"].pairs.run == sft
        for name in ("reward", "ppo", "dpo", "slic"):
            assert configs[name].model.start == sft
        for name in ("reward", "dpo", "slic"):
            assert configs[name].data.train == exported
        assert configs["ppo"].model.reward == (configs["reward"].run.dir,)


@pytest.mark.parametrize("name", ["sft", "reward", "ppo", "dpo", "slic"])
def test_llama_7b_saves_memory_and_its_work(name):
    config, _ = load_config(CLASSES[name], ROOT / "configs/llama-7b" / f"{name}.yaml")
    assert config.model.activation_checkpointing
    assert config.checkpoint.every > 0
    if name == "sft":
        assert (config.model.base, config.model.quantise, config.model.dtype) == (
            "meta-llama/Llama-2-7b-hf",
            "nf4",
            "auto",
        )
        assert config.data.packing
        assert (config.lora.r, config.lora.alpha) == (16, 32)


def source_of(places):
    files = [
        file
        for place in places
        for file in ([ROOT / place] if place.endswith(".py") else sorted((ROOT / place).rglob("*.py")))
    ]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def unread_keys(config_class, source, shared):
    """Keys that no code reads: not as `config.a.b` or `self.a.b`, nor as `x.b` where the section is handed on whole."""
    unread = []
    for key in known_keys(config_class):
        section, _, name = key.rpartition(".")
        read_directly = re.search(rf"\b(config|self)\.{re.escape(key)}\b", source)
        handed_on = section and re.search(rf"\bconfig\.{re.escape(section)}\b(?!\.)", source + shared)
        if not (read_directly or (handed_on and re.search(rf"\.{name}\b", source + shared))):
            unread.append(key)
    return unread


@pytest.mark.parametrize("config_class", list(READERS), ids=lambda c: c.__name__)
def test_no_key_is_read_by_nobody(config_class):
    shared = source_of(("workbench/run/folder.py", "workbench/data/augment.py"))
    handed_on = ("workbench/model/session.py", "workbench/model/training.py")
    unread = unread_keys(config_class, source_of((*READERS[config_class], *handed_on)), shared)
    assert not unread


def test_a_key_that_nobody_reads_is_noticed():
    assert unread_keys(PpoConfig, "config.run.dir", "")[:2] == ["method", "run.seed"]


@pytest.fixture(scope="module")
def llama():
    """Llama-2-7B on the meta device: shapes without weights."""
    config = LlamaConfig(
        vocab_size=32_000,
        hidden_size=4096,
        intermediate_size=11_008,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=32,
        tie_word_embeddings=False,
    )
    with torch.device("meta"):
        return LlamaForCausalLM(config)


def test_llama_2_7b_and_its_lora_adapter_have_the_published_sizes(llama):
    assert sum(p.numel() for p in llama.parameters()) == 6_738_415_616
    lora = load_config(SftConfig, ROOT / "configs/llama-7b/sft.yaml")[0].lora
    with torch.device("meta"):
        model = get_peft_model(llama, lora_config(lora.r, lora.alpha, lora.dropout))
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    # r (in + out) in each of 32 layers: q, k, v, o of 4096 + 4096; gate, up, down of 4096 + 11008.
    assert sum(p.numel() for p in trained.values()) == 16 * 32 * (4 * 8192 + 3 * 15_104) == 39_976_960
    assert not any("lm_head" in name or "embed" in name for name in trained)


@pytest.mark.parametrize("name", list(REFERENCES))
def test_no_seed_is_too_large_for_a_generator(name):
    """Generators take 32 bits. A round of the loop has the seed 1000 * loop.seed + its number."""
    seeds = [value for key, value in _fields(REFERENCES[name]) if key in ("seed", "seeds")]
    for field in seeds:
        check = TypeAdapter(Annotated[field.annotation, *field.metadata])
        several = check.json_schema()["type"] == "array"
        with pytest.raises(ValidationError, match="less than or equal to"):
            check.validate_python((2**32,) if several else 2**32)
    assert seeds or name == "suite"


def _fields(section):
    for key, field in section.model_fields.items():
        yield key, field
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _fields(field.annotation)
