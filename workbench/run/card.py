"""The model card of a run: README.md in its folder, written from what the run recorded."""

import json
from collections.abc import Mapping
from textwrap import indent
from typing import Any, Literal

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
{warnings}
| | |
|---|---|
{rows}

## Results

| metric | value |
|---|---|
{results}

## Load it

{loading}

```python
{code}```
"""

POLICY = """\
import torch
from peft import PeftModel
from transformers import {imports}

run = {run}
base = {base}
tokenizer = AutoTokenizer.from_pretrained(f"{{run}}/adapter")
model = AutoModelForCausalLM.from_pretrained(base, {options})
{exact}model = PeftModel.from_pretrained(model, f"{{run}}/adapter").eval()
"""

REWARD = """\
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import {imports}

base = {base}
runs = {runs}
tokenizer = AutoTokenizer.from_pretrained(f"{{runs[0]}}/adapter")


def load(run):
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, {options})
{exact}    model.config.pad_token_id = tokenizer.pad_token_id
    return PeftModel.from_pretrained(model, f"{{run}}/adapter").eval(), load_file(f"{{run}}/head.safetensors")


models = [load(run) for run in runs]


def score(input_ids, attention_mask):
    \"\"\"Normalised scores of right-padded rows: prompt and response, EOS included.\"\"\"
    scores = []
    for model, head in models:
        with torch.no_grad():
            raw = model(input_ids=input_ids, attention_mask=attention_mask).logits.float().squeeze(-1).cpu()
        scores.append(head["gain"] * (raw + head["bias"]) + head["offset"])
    return torch.stack(scores).mean(dim=0)
"""

CLASSIFIER = """\
from pathlib import Path

from sft.classify.evaluate import open_classifier  # of alignment-workbench
from workbench.run.folder import RunFolder

folder = RunFolder(Path({run}))
labels = folder.record()["labels"]
classifier = open_classifier(folder)
print(dict(zip(labels, classifier.probabilities(["a text"])[0])))
"""

NF4 = """nf4 = BitsAndBytesConfig(
    load_in_4bit=True,
    bnb_4bit_quant_type="nf4",
    bnb_4bit_compute_dtype={dtype},
    bnb_4bit_use_double_quant=True,
)
"""

EXACT = """for layer in model.modules():  # bitsandbytes would round to bfloat16 on some CPUs
    layer.support_avx512bf16_for_cpu = False
"""


def write_card(
    folder: RunFolder,
    *,
    about: str,
    results: Mapping[str, float],
    kind: Literal["policy", "reward", "classifier"] = "policy",
) -> None:
    """Write the card. It contains measured numbers only.

    Args:
        folder: of a run whose run.json is complete.
        about: one or two sentences about what was trained and how.
        results: metric name → value at the end of the run.
        kind: how the adapter is loaded.
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
            warnings="".join(f"\n**Warning:** {warning_text(one)}\n" for one in record.get("warnings", [])),
            rows="\n".join(f"| {key} | {value} |" for key, value in facts.items()),
            results="\n".join(f"| `{name}` | {value:.4g} |" for name, value in results.items()) or "| none | |",
            loading=_loading(kind),
            code=loading_code(folder, record, kind),
        ),
    )


def warning_text(warning: Any) -> str:
    """A warning of run.json as a sentence."""
    return str(warning["text"]) if isinstance(warning, dict) else str(warning)


def loading_code(folder: RunFolder, record: Mapping[str, Any], kind: str) -> str:
    """Python code that loads the model as it was measured: the base as it was in training, the adapter and the head."""
    if kind == "classifier":
        return CLASSIFIER.format(run=json.dumps(str(folder.path), ensure_ascii=False))
    base = record["base"]
    opened: Mapping[str, str] = record.get("opened", {})
    dtype = f"torch.{opened.get('dtype', base.get('dtype', 'float32'))}".replace("torch.auto", '"auto"')
    quantises = base["quantise"] == "nf4" and opened.get("stored", "unquantised") == "unquantised"
    options = [f"dtype={dtype}", *([f"revision={json.dumps(base['revision'])}"] if base.get("revision") else [])]
    names = ["AutoTokenizer", "AutoModelForCausalLM" if kind == "policy" else "AutoModelForSequenceClassification"]
    if quantises:
        compute = "torch.float32" if dtype == '"auto"' else dtype
        options.append("quantization_config=nf4")
        names.append("BitsAndBytesConfig")
    named = json.dumps(opened.get("folder", base["name"]), ensure_ascii=False)
    elsewhere = "  # elsewhere: the folder that `python -m workbench tiny` prints, with /base"
    code = (POLICY if kind == "policy" else REWARD).format(
        imports=", ".join(sorted(names)),
        base=named + elsewhere * ("folder" in opened),
        run=json.dumps(str(folder.path), ensure_ascii=False),
        runs=json.dumps([str(member.path) for member in folder.members], ensure_ascii=False),
        options=", ".join(options),
        exact=indent(EXACT if quantises else "", "" if kind == "policy" else " " * 4),
    )
    if quantises:
        code = code.replace("tokenizer = ", NF4.format(dtype=compute) + "tokenizer = ", 1)
    return code


def _loading(kind: str) -> str:
    if kind == "policy":
        return "The base is loaded as it was in training: with other quantisation or dtype the probabilities differ."
    if kind == "classifier":
        return "A file of any size: `python -m sft predict RUN FILE`. In Python:"
    return (
        "The base is loaded as it was in training. peft loads the head's weight; bias, gain and offset, which "
        "normalise the scores, are in `head.safetensors`."
    )
