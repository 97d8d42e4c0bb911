"""Checks of everything that a run of supervised tuning reads and writes, before any model library is imported."""

from itertools import chain
from typing import Any

from sft.config import SftConfig
from sft.sources import file_names, old_data, read_sources
from workbench.data.batching import earlier_turns
from workbench.data.inputs import (
    adapter_shape,
    check_base,
    check_micro_batch,
    check_run_folder,
    check_sides,
    data_files,
    left_out_line,
    start_base,
    usable_base,
)
from workbench.data.rules import RowRules
from workbench.run.config import Section
from workbench.run.errors import Problems, WorkbenchError
from workbench.run.folder import RunFolder


def check_inputs(config: SftConfig, problems: Problems, resume: bool = False) -> list[str]:
    """Collect the problems of values, base, files and folder; returns one line about each input."""
    section = config.data
    problems.attempt(check_micro_batch, config.train)
    soft = {"soft_prompt.tokens": config.soft_prompt.tokens} if config.adapter != "lora" else {}
    lengths = {"data.max_length": section.max_length, **soft}
    if config.model.start is None:
        base = problems.attempt(usable_base, config.model.base, config.model.revision)
        found = check_base(problems, base, lengths, quantise=config.model.quantise)
    else:
        base = start_base(problems, config.model.start, config.model.base, any_adapter=True)
        found = check_base(problems, base, lengths)
        problems.attempt(check_start, config)
    problems.attempt(check_adapter, config)
    problems.attempt(check_run_folder, config.run, "sft", config, resume=resume)
    files = data_files(file_names(config), problems)
    if files is None:
        return found
    rules = RowRules(section.ignore, section.bad_rows, mask=section.mask_personal)
    old = problems.attempt(old_data, config)
    sources = problems.attempt(read_sources, section, files, old, seed=config.run.seed, rules=rules)
    if sources is None:
        return found
    checked = [*sources.trained, sources.validation, *filter(None, [sources.old_validation])]
    check_sides(problems, base, [(source.path, source.records) for source in checked], rules)
    earlier, conversations = earlier_turns(chain.from_iterable(source.records for source in sources.trained))
    if earlier:
        use = "in the loss too" if section.loss_on == "all" else "context only (data.loss_on=all trains on them)"
        counted = f"{earlier:,} earlier assistant turns in {conversations:,} conversations"
        found.append(f"data.loss_on={section.loss_on}: {counted} are {use}")
    return [*found, *sources.lines(), *left_out_line(rules)]


def check_start(config: SftConfig) -> None:
    """Check that no key contradicts the run that `model.start` names: base and adapter are that run's.

    Raises:
        WorkbenchError: a key says something else.
    """
    assert config.model.start is not None
    start = RunFolder.open(config.model.start)
    shape = adapter_shape(start)
    kind = {"PROMPT_TUNING": "prompt", "PREFIX_TUNING": "prefix"}.get(shape["peft_type"], "lora")
    variant = "dora" if shape.get("use_dora") else "rslora" if shape.get("use_rslora") else "plain"
    base = start.record()["base"]
    theirs: list[tuple[str, Section, dict[str, Any]]] = [
        ("", config, {"adapter": kind}),
        ("model.", config.model, {key: base[key] for key in ("revision", "quantise", "dtype", "pad_token")}),
    ]
    if kind == "lora":
        lora = {"r": shape["r"], "alpha": shape["lora_alpha"], "variant": variant}
        theirs.append(("lora.", config.lora, lora))
    else:
        theirs.append(("soft_prompt.", config.soft_prompt, {"tokens": shape["num_virtual_tokens"]}))
    for prefix, section, values in theirs:
        for key, value in values.items():
            if key in section.model_fields_set and getattr(section, key) != value:
                raise WorkbenchError(
                    f"{prefix}{key}={getattr(section, key)}",
                    f"contradicts model.start={config.model.start}, whose value is {value}",
                    remedy="leave the key out: base and adapter are those of the start run",
                )


def check_adapter(config: SftConfig) -> None:
    """Check that the adapter can be trained as the other keys say.

    Raises:
        WorkbenchError: packing or activation checkpointing with virtual tokens.
    """
    if config.adapter == "lora":
        return
    if config.data.packing:
        raise WorkbenchError(
            "data.packing",
            f"adapter={config.adapter} puts virtual tokens before a row; only its first demonstration would use them",
            remedy="data.packing=false, or adapter=lora",
        )
    if config.adapter == "prefix" and config.model.activation_checkpointing:
        raise WorkbenchError(
            "model.activation_checkpointing",
            "a prefix is a cache of keys and values, which activation checkpointing switches off",
            remedy="model.activation_checkpointing=false, or adapter=prompt",
        )
