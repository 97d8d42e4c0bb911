"""The description of a base from its files, before torch is imported."""

import json
import struct
import subprocess
import sys

import pytest

from workbench.data.base_files import check_quantisation, fit_positions, in_words, positions_of, read_base_files
from workbench.run.errors import WorkbenchError

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 32_000,
    "max_position_embeddings": 4096,
    "eos_token_id": 2,
}
NF4 = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}


def base(folder, config=None, generation=None, tokenizer=None, tensors=None):
    """A base's small files, and a weight file that is only a header."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config or LLAMA), encoding="utf-8")
    for name, content in (("generation_config.json", generation), ("tokenizer_config.json", tokenizer)):
        if content is not None:
            (folder / name).write_text(json.dumps(content), encoding="utf-8")
    if tensors is not None:
        header = {n: {"dtype": d, "shape": shape, "data_offsets": [0, 0]} for n, (d, shape) in tensors.items()}
        text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    return str(folder)


@pytest.mark.parametrize(
    ("config", "positions"),
    [
        ({"max_position_embeddings": 4096}, 4096),
        ({"n_positions": 1024}, 1024),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 4.0}}, 16_384),
        ({"max_position_embeddings": 4096, "rope_scaling": {"rope_type": "dynamic", "factor": 2}}, 8192),
        # Already extended: 8 × 8192 are the 131 072 that the file states, less than which it never means.
        (
            {
                "max_position_embeddings": 131_072,
                "rope_parameters": {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192},
            },
            131_072,
        ),
        (
            {
                "max_position_embeddings": 32_768,
                "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768},
            },
            131_072,
        ),
        (
            {
                "max_position_embeddings": 16_384,
                "rope_scaling": {"type": "linear", "factor": 4, "original_max_position_embeddings": 4096},
            },
            16_384,
        ),
        ({"max_position_embeddings": 131_072, "rope_scaling": {"type": "longrope"}}, 131_072),
        ({"alibi": True}, None),
    ],
)
def test_positions_with_rope_scaling(config, positions):
    assert positions_of(config) == positions


def test_a_configuration_longer_than_the_positions_names_both_and_the_key():
    fit_positions(4096, {"data.max_length": 4096})
    fit_positions(4096, {"data.max_prompt_length": 4000, "rollout.max_new_tokens": 96})
    fit_positions(None, {"data.max_length": 1 << 20})
    with pytest.raises(WorkbenchError) as caught:
        fit_positions(4096, {"data.max_length": 6836})
    assert caught.value.place == "data.max_length"
    assert caught.value.problem == "data.max_length=6836 tokens, but the base has 4096 positions"
    assert caught.value.remedy == "data.max_length=4096"
    with pytest.raises(WorkbenchError) as caught:
        fit_positions(4096, {"data.max_prompt_length": 4000, "rollout.max_new_tokens": 97})
    assert "are 4097 tokens" in caught.value.problem
    assert caught.value.remedy == "rollout.max_new_tokens=96"
    with pytest.raises(WorkbenchError) as caught:
        fit_positions(4096, {"data.max_prompt_length": 5000, "rollout.max_new_tokens": 96})
    assert "data.max_prompt_length" in str(caught.value.remedy)
    assert "4096" in str(caught.value.remedy)


def test_a_base_in_one_line(tmp_path):
    tokenizer = {
        "eos_token": "<|eot|>",
        "added_tokens_decoder": {
            "7": {"content": "<|eot|>", "special": True},
            "9": {"content": "<|end|>", "special": True},
            "11": {"content": "word", "special": False},
        },
    }
    weights = {"model.embed_tokens.weight": ("BF16", [32_000, 4096]), "lm_head.weight": ("BF16", [32_000, 4096])}
    name = base(tmp_path / "b", generation={"eos_token_id": [9, 7, 11]}, tokenizer=tokenizer, tensors=weights)
    # 2 × 32 000 × 4096 = 262 144 000; the tokenizer's EOS comes first; 11 and 2 (of config.json) are ordinary tokens.
    assert read_base_files(name).describe() == "Llama, 262 M, 4096 positions, EOS 7, 9; template: the workbench's"
    (tmp_path / "b/chat_template.jinja").write_text("{{ messages }}")
    assert read_base_files(name).describe().endswith("template: the base's own")


def test_packed_weights_count_twice_and_their_scales_not_at_all(tmp_path):
    tensors = {
        "w.weight": ("U8", [50, 1]),
        "w.weight.absmax": ("U8", [7]),
        "w.weight.quant_state.bitsandbytes__nf4": ("U8", [99]),
        "norm.weight": ("F32", [3]),
    }
    name = base(tmp_path / "b", {**LLAMA, "quantization_config": NF4}, tensors=tensors)
    assert read_base_files(name).parameters == 103
    assert "nf4 (bitsandbytes)" in read_base_files(name).describe()


def test_a_quantised_folder_is_nf4_or_refused(tmp_path):
    def own(**config):
        return read_base_files(base(tmp_path / "b", {**LLAMA, "quantization_config": config}))

    check_quantisation(read_base_files(base(tmp_path / "plain")), "none")
    check_quantisation(own(**NF4), "nf4")
    with pytest.raises(WorkbenchError, match="stored in NF4"):
        check_quantisation(own(**NF4), "none")
    for config, named in (
        ({"quant_method": "gptq", "bits": 4}, "gptq"),
        ({"quant_method": "awq"}, "awq"),
        ({**NF4, "load_in_4bit": False, "load_in_8bit": True}, "int8"),
        ({**NF4, "bnb_4bit_quant_type": "fp4"}, "fp4"),
    ):
        for quantise in ("nf4", "none"):
            with pytest.raises(WorkbenchError, match=named):
                check_quantisation(own(**config), quantise)


def test_sampling_settings_that_would_change_the_samples(tmp_path):
    generation = {
        "repetition_penalty": 1.3,
        "min_p": 0.1,
        "top_k": 50,
        "top_p": 1.0,
        "eos_token_id": 2,
        "max_length": 9,
    }
    files = read_base_files(base(tmp_path / "b", generation=generation))
    assert files.ignored_sampling == {"repetition_penalty": 1.3, "min_p": 0.1, "top_k": 50}


def test_the_text_part_of_a_multimodal_config_counts(tmp_path):
    config = {"architectures": ["XForConditionalGeneration"], "text_config": {"max_position_embeddings": 77}}
    assert read_base_files(base(tmp_path / "b", config)).positions == 77


@pytest.mark.parametrize(
    ("file", "content"), [("config.json", "{"), ("generation_config.json", "[]"), ("model.safetensors", "<html>")]
)
def test_a_broken_file_is_named(tmp_path, file, content):
    name = base(tmp_path / "b")
    (tmp_path / "b" / file).write_text(content)
    with pytest.raises(WorkbenchError) as caught:
        read_base_files(name).describe()
    assert file in caught.value.place


def test_it_needs_no_torch():
    check = "import sys, workbench.data.base_files; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


@pytest.mark.parametrize(("count", "text"), [(6_738_415_616, "6.74 B"), (755_000, "755 K"), (12, "12")])
def test_parameters_in_words(count, text):
    assert in_words(count) == text
