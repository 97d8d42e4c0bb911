"""Small random bases of several architectures, each written in a fraction of a second."""

import json
import shutil
from pathlib import Path
from typing import Any

COMMON = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 256,
    "head_dim": 32,
    "tie_word_embeddings": False,
}
LLAMA_3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
    "rope_theta": 500_000.0,
}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama3": ("llama", {"rope_parameters": LLAMA_3}),
    "llama-tied": ("llama", {"tie_word_embeddings": True}),
    "llama-biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "mistral": ("mistral", {"sliding_window": 64}),
    "qwen2": ("qwen2", {}),
    "gemma": ("gemma", {"tie_word_embeddings": True}),
    "cohere": ("cohere", {"logit_scale": 0.0625, "tie_word_embeddings": True}),
    "granite": ("granite", {"logits_scaling": 8.0}),
    "gemma2": ("gemma2", {"final_logit_softcapping": 30.0}),
    "gpt2": ("gpt2", {"n_positions": 256, "n_embd": 64, "n_layer": 1, "n_head": 2}),
    "gpt_neox": ("gpt_neox", {}),
    "opt": ("opt", {"ffn_dim": 64, "word_embed_proj_dim": 64}),
}
"""Name → model type of transformers, and what its configuration has besides `COMMON`."""


def write_base(folder: Path, kind: str, tokenizer: Path, **changes: Any) -> Path:
    """A base of that kind with the tokenizer files of another folder; `changes` go into its configuration.

    Weights are large enough that logits differ by several nats.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    made = AutoTokenizer.from_pretrained(tokenizer)
    model_type, own = KINDS[kind]
    values = {**COMMON, "vocab_size": len(made), "bos_token_id": made.bos_token_id, "eos_token_id": made.eos_token_id}
    values |= {"pad_token_id": None, "initializer_range": 0.2, **own, **changes}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **values))
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    made.save_pretrained(folder)
    return folder


def with_files(source: Path, folder: Path, **files: dict[str, Any]) -> Path:
    """A copy of a base in which JSON files (`generation_config={…}`) are replaced."""
    shutil.copytree(source, folder)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder
