"""README.md of an exported folder: what it is, how well it agrees with the trained model, and code that loads it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CARD = """\
---
library_name: {library}
base_model: {base}
tags: [{to}, alignment-workbench]
---
# {name}

{about} Exported from the {phase} run `{run}` (adapter {adapter}); base `{base}`, weights {base_weights}.

## Agreement with the trained model

Read back from these files by transformers alone, and compared in float32 on held-out rows.

| | |
|---|---|
{rows}

## Load it

{loading}

```python
{code}```
"""

ABOUT = {
    "adapter": "A LoRA adapter in peft's format.",
    "merged": "The adapter folded into its base, stored in {stored}.",
    "gguf": "One GGUF file, {stored}, with tokenizer and chat template.",
    "classifier": "A LlamaForSequenceClassification, stored in {stored}; its last layer is the head, bias included.",
}
LOADING = {
    "adapter": "The base must be loaded as in training, or the probabilities differ.",
    "merged": "With the dtype of the files.",
    "gguf": "In Python, or with any program that reads GGUF.",
    "classifier": "In float32 or bfloat16; float16 overflows in the last layer.",
}

CHAT = """\
chat = [{"role": "user", "content": "Where is it?"}]
inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
answer = model.generate(**inputs, max_new_tokens=16, do_sample=False)
print(tokenizer.decode(answer[0]))
"""

CAUSAL = """\
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer{imports}

folder = {folder}
tokenizer = AutoTokenizer.from_pretrained(folder{options})
model = AutoModelForCausalLM.from_pretrained(folder{options}{quantised}, dtype={dtype}).eval()
"""

CLASSIFIER = """\
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder = {folder}
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForSequenceClassification.from_pretrained(folder, dtype={dtype}).eval()
ids = torch.tensor([{ids}])
with torch.no_grad():
    logits = model(input_ids=ids).logits[0]
print({shown})
"""

REWARD_IDS = """tokenizer.apply_chat_template(
    [{"role": "user", "content": "Where is it?"}, {"role": "assistant", "content": "Here."}], return_dict=False
)"""
TEXT_IDS = """[
    tokenizer.bos_token_id,
    *tokenizer("a text", add_special_tokens=False)["input_ids"],
    tokenizer.eos_token_id,
]"""

NF4 = """BitsAndBytesConfig(
    load_in_4bit=True,
    bnb_4bit_quant_type="nf4",
    bnb_4bit_compute_dtype=torch.float32,
    bnb_4bit_use_double_quant=True,
)"""


def write_card(folder: Path, out: Path, report: Mapping[str, Any]) -> None:
    """Write README.md into a folder that will be published as `out`; it contains measured numbers only."""
    to, stored = str(report["to"]), str(report["stored"])
    numbers = {key: report[key] for key in MEANINGS if report.get(key) is not None}
    gap = report.get("against_the_base_of_training")
    rows = [f"| {MEANINGS[key]} | {value:.4g} |" for key, value in numbers.items()]
    rows += [f"| KL against the model on the base of training, nats per token | {gap['kl']:.4g} |"] if gap else []
    text = CARD.format(
        library="peft" if to == "adapter" else "gguf" if to == "gguf" else "transformers",
        base=report["base"]["name"],
        to=to,
        name=out.name,
        about=ABOUT[to].format(stored=stored),
        phase=report["phase"],
        run=report["run"],
        adapter=str(report["adapter_sha256"])[:12],
        base_weights=report["base_weights"],
        rows="\n".join(rows),
        loading=LOADING[to],
        code=loading_code(out, report),
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


MEANINGS = {
    "kl": "KL(trained, exported), nats per token",
    "top1": "same most probable token, share",
    "effect": "KL(trained, base), nats per token: the adapter's effect",
    "survival": "share of that effect in the exported model",
    "tokens": "tokens compared",
    "largest_difference": "largest difference of a logit",
    "rows": "rows compared",
}
"""Key of the report → its row in the card."""


def loading_code(out: Path, report: Mapping[str, Any]) -> str:
    """Python code that loads the folder with transformers and runs it once."""
    folder = json.dumps(str(out.resolve()), ensure_ascii=False)
    dtype = f"torch.{report['stored']}" if report["stored"] in ("float32", "bfloat16") else "torch.float32"
    if report["to"] == "classifier":
        reward = report["labels"] == ["score"]
        probability = "sigmoid()" if report["multi_label"] else "softmax(-1)"
        return CLASSIFIER.format(
            folder=folder,
            dtype=dtype,
            ids=REWARD_IDS if reward else TEXT_IDS,
            shown="float(logits)"
            if reward
            else f"dict(zip(model.config.id2label.values(), logits.{probability}.tolist()))",
        )
    nf4 = report["to"] == "adapter" and report["base_weights"] == "dequantised NF4"
    options = ', gguf_file="model.gguf"' if report["to"] == "gguf" else ""
    quantised = f", quantization_config={NF4}" if nf4 else ""
    imports = ", BitsAndBytesConfig" if nf4 else ""
    code = CAUSAL.format(folder=folder, dtype=dtype, options=options, quantised=quantised, imports=imports)
    return code + CHAT
