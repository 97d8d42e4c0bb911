"""Random bases load as any other does."""

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from workbench.doctor import random_base
from workbench.doctor.random_base import byte_tokenizer, write_random_base
from workbench.model.base import load_tokenizer


def config(**changes) -> LlamaConfig:
    sizes = {"vocab_size": 300, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    return LlamaConfig(**{**sizes, "num_attention_heads": 2, "bos_token_id": 1, "eos_token_id": 2, **changes})


@pytest.mark.parametrize("tied", [False, True])
def test_all_weights_are_read_back_from_several_shards(tmp_path, monkeypatch, tied):
    monkeypatch.setattr(random_base, "SHARD_BYTES", 100_000)
    folder = write_random_base(tmp_path / "base", config(tie_word_embeddings=tied), dtype=torch.bfloat16)
    assert len(list(folder.glob("*.safetensors"))) > 2
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert model.dtype == torch.bfloat16
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    assert model.model.layers[0].mlp.up_proj.weight.detach().float().std().item() == pytest.approx(0.02, rel=0.05)
    assert (model.model.norm.weight == 1).all()


def test_the_same_seed_gives_the_same_weights(tmp_path):
    first, second, other = (
        AutoModelForCausalLM.from_pretrained(
            write_random_base(tmp_path / str(i), config(), dtype=torch.float32, seed=seed)
        ).lm_head.weight
        for i, seed in enumerate((0, 0, 1))
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_the_tokenizer_is_bytes_and_llama_s_special_tokens(tmp_path):
    folder = write_random_base(tmp_path, config(), dtype=torch.float32)
    tokenizer = load_tokenizer(str(folder))
    assert (tokenizer.unk_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert tokenizer.pad_token_id == 0
    text = "Wörter, 12"
    ids = tokenizer(text).input_ids
    assert len(ids) == len(text.encode())
    assert tokenizer.decode(ids) == text
    assert len(tokenizer) == 300
    with pytest.raises(ValueError, match="259"):
        byte_tokenizer(100)
