"""The model card of a run: README.md in its folder, written from what the run recorded."""

from collections.abc import Mapping
from typing import Any

from workbench.run.checkpoints import write_text_atomically
from workbench.run.folder import RunFolder

CARD = """\
---
library_name: peft
base_model: {base}
tags: [{phase}, lora, alignment-workbench]
---
# {name}

A LoRA adapter ({phase}) on `{base}` ({quantise}), trained with alignment-workbench.

{about}

| | |
|---|---|
{rows}

## Results

| metric | value |
|---|---|
{results}

## Load it

```python
from peft import PeftModel
from transformers import {auto_class}, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{path}/adapter")
base = {auto_class}.from_pretrained("{base}")
model = PeftModel.from_pretrained(base, "{path}/adapter")
```
"""


def write_card(
    folder: RunFolder,
    *,
    about: str,
    results: Mapping[str, float],
    auto_class: str = "AutoModelForCausalLM",
) -> None:
    """Write the card. Only measured numbers appear in it.

    Args:
        folder: of a run whose run.json is complete.
        about: one or two sentences on what was trained and how.
        results: metric name → value at the end of the run.
        auto_class: the transformers class that loads the base for this adapter.
    """
    record = folder.record()
    base: dict[str, Any] = record["base"]
    facts = {
        "parents": ", ".join(f"{role}: `{path}`" for role, path in record["parents"].items()) or "none",
        "data": ", ".join(f"{name}: `{d['path']}` ({d['sha256'][:12]})" for name, d in record["data"].items()),
        "seed": record.get("seed"),
        "versions": ", ".join(f"{name} {version}" for name, version in record["versions"].items()),
        "commit": record.get("git_commit") or "not in git",
    }
    write_text_atomically(
        folder.path / "README.md",
        CARD.format(
            base=base["name"],
            quantise=base["quantise"],
            phase=record["phase"],
            name=record["name"],
            about=about,
            rows="\n".join(f"| {key} | {value} |" for key, value in facts.items()),
            results="\n".join(f"| `{name}` | {value:.4g} |" for name, value in results.items()) or "| none | |",
            auto_class=auto_class,
            path=folder.path,
        ),
    )
