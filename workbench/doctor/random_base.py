"""A Llama of any shape with random weights, written to disk in Hugging Face form: for measurements without a hub.

One tensor exists at a time, so that a 7B needs no 14 GB of memory to be written. The tokenizer knows bytes only; the
rest of its vocabulary are fillers that no text encodes to.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SHARD_BYTES = 4 << 30
SPECIAL = ("<unk>", "<s>", "</s>")


def write_random_base(folder: Path, config: LlamaConfig, *, dtype: torch.dtype, seed: int = 0) -> Path:
    """Write config, tokenizer and weights (normal, deviation 0.02; norms 1) into `folder`; returns it.

    The ids of `<s>` and `</s>` in the config must be 1 and 2, as Llama's are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    shapes = weight_shapes(config)
    shard: dict[str, torch.Tensor] = {}
    index: dict[str, str] = {}
    filled, number = 0, 1
    for name, shape in shapes.items():
        if shard and filled + shape.numel() * dtype.itemsize > SHARD_BYTES:
            _write_shard(folder, number, shard, index)
            shard, filled, number = {}, 0, number + 1
        shard[name] = _random(name, shape, dtype, generator)
        filled += shape.numel() * dtype.itemsize
    _write_shard(folder, number, shard, index)
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": index}, indent=1), encoding="utf-8"
    )
    config.architectures = ["LlamaForCausalLM"]
    config.dtype = dtype
    config.save_pretrained(folder)
    byte_tokenizer(config.vocab_size).save_pretrained(folder)
    return folder


def weight_shapes(config: LlamaConfig) -> dict[str, torch.Size]:
    """Name and shape of each stored weight; a tied LM head is not stored."""
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    return {name: weight.shape for name, weight in model.state_dict().items() if name not in tied}


def byte_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """A tokenizer of this many tokens: three special ones, the 256 bytes, and fillers."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*SPECIAL, *letters]
    if vocabulary < len(names):
        raise ValueError(f"a byte tokenizer needs {len(names)} tokens, not {vocabulary}")
    names += [f"filler{number}" for number in range(vocabulary - len(names))]
    bpe = Tokenizer(models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=[], unk_token="<unk>"))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token=None
    )


def _random(name: str, shape: torch.Size, dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    if name.endswith("norm.weight"):
        return torch.ones(shape, dtype=dtype)
    return torch.empty(shape, dtype=dtype).normal_(0.0, 0.02, generator=generator)


def _write_shard(folder: Path, number: int, shard: dict[str, torch.Tensor], index: dict[str, str]) -> None:
    file = f"model-{number:05d}.safetensors"
    save_file(shard, folder / file, metadata={"format": "pt"})
    index.update(dict.fromkeys(shard, file))
