"""Bases as people have them: other architectures, several end tokens, odd tokenizers, broken or quantised weights."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from ppo.sampler import MergedCopy
from tests.bases import with_files, write_base
from tests.reference.tolerances import FLOAT32
from workbench.data.records import Message
from workbench.data.template import end_ids
from workbench.data.tokenise import decode_response, encode_prompt, encode_response
from workbench.model.adapters import lora_config, start_training_adapter
from workbench.model.base import BaseSpec, load_base, load_tokenizer
from workbench.model.generate import generate, generate_with
from workbench.model.heads import ScalarHead
from workbench.model.logprobs import token_logprobs
from workbench.model.roles import Roles
from workbench.run.errors import WorkbenchError

PROMPTS = [[1, 10, 20, 30], [1, 40], [1, 50, 60]]
WORK = ["llama3", "llama-tied", "llama-biases", "mistral", "qwen2", "gemma", "cohere", "granite", "opt"]


def opened(folder, quantise="none"):
    tokenizer = load_tokenizer(str(folder))
    model = load_base(BaseSpec(str(folder), None, quantise, "float32"), tokenizer)
    return Roles(start_training_adapter(model, lora_config(4, 8, 0.0)), tokenizer)


def failure(action) -> str:
    with pytest.raises(WorkbenchError) as caught:
        action()
    return str(caught.value)


@pytest.mark.parametrize("quantise", ["none", "nf4"])
@pytest.mark.parametrize("kind", WORK)
def test_log_probabilities_are_those_of_the_models_own_logits(kind, quantise, tiny_base, tmp_path):
    """The own logits come from transformers alone, before anything of ours has touched the model."""
    from transformers import AutoModelForCausalLM

    folder = write_base(tmp_path / "base", kind, tiny_base)
    ids = torch.tensor([[1, 5, 9, 100, 200, 299, 2]])
    own = AutoModelForCausalLM.from_pretrained(folder)(ids).logits.log_softmax(dim=-1)[0, :-1]
    roles = opened(folder, quantise)
    if quantise == "nf4":  # its own logits, with the scale that transformers applies to them
        reference = roles.causal_model(input_ids=ids, use_cache=False).logits
        own = reference.log_softmax(dim=-1)[0, :-1]
    with roles.use("default") as forward:
        hidden = forward(ids, torch.ones_like(ids))[0, :-1]
    ours, _ = token_logprobs(hidden, roles.lm_head, ids[0, 1:])
    assert own.std() > 0.05, "the logits are too flat to show a difference"
    torch.testing.assert_close(ours, own.gather(1, ids[0, 1:].unsqueeze(1)).squeeze(1), **FLOAT32)


@pytest.mark.parametrize("kind", ["llama-biases", "qwen2", "gemma", "cohere"])
def test_the_merged_copy_has_biases_and_the_scale_of_the_logits(kind, tiny_base, tmp_path):
    roles = opened(write_base(tmp_path / "base", kind, tiny_base), "nf4")
    torch.manual_seed(0)
    for weight in roles.parameters("default"):
        torch.nn.init.normal_(weight, std=0.1)
    copy, ids = MergedCopy(roles, "default", dtype=torch.float32), torch.tensor([[1, 5, 9, 100]])
    copy.refresh()
    with torch.no_grad():
        expected = roles.causal_model(input_ids=ids, use_cache=False).logits
        torch.testing.assert_close(copy.model(input_ids=ids).logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox", "gemma2"])
def test_another_architecture_is_refused_by_name_before_weights_are_read(kind, tiny_base, tmp_path):
    folder = write_base(tmp_path / "base", kind, tiny_base)
    (folder / "model.safetensors").unlink()
    text = failure(lambda: load_tokenizer(str(folder))).lower()
    assert {"gpt2": "gpt2", "gpt_neox": "gptneox", "gemma2": "final_logit_softcapping=30.0"}[kind] in text


def test_the_reward_head_of_a_base_with_scaled_logits_reads_the_same_trunk(tiny_base, tmp_path):
    """Cohere and Granite have no sequence classification class in transformers."""
    folder = write_base(tmp_path / "base", "granite", tiny_base)
    tokenizer, spec = load_tokenizer(str(folder)), BaseSpec(str(folder), None, "none", "float32")
    score, causal = load_base(spec, tokenizer, head="score"), load_base(spec, tokenizer)
    ids = torch.tensor([[1, 5, 9]])
    with torch.no_grad():
        hidden = causal.model(input_ids=ids).last_hidden_state[:, -1]
        expected = hidden @ score.score.weight.T
        torch.testing.assert_close(score(input_ids=ids).logits, expected, **FLOAT32)


@pytest.fixture(scope="module")
def several_ends(tiny_base, tmp_path_factory):
    """Ends are </s> (2) and <s> (1); 40 is an ordinary token, such as the default of an architecture may name."""
    ends = {"bos_token_id": 1, "eos_token_id": [2, 1, 40]}
    base = write_base(tmp_path_factory.mktemp("ends") / "plain", "llama3", tiny_base, initializer_range=0.02)
    return with_files(base, base.with_name("several"), generation_config=ends)


@pytest.mark.parametrize("engine", ["dense", "transformers"])
def test_a_sample_ends_at_any_of_the_end_tokens(several_ends, engine):
    roles = opened(several_ends)
    assert end_ids(roles.tokenizer) == (2, 1)
    options = {"max_new_tokens": 60, "temperature": 1.0, "seed": 0}
    if engine == "dense":
        answers = generate(roles, "default", PROMPTS * 20, **options)
    else:
        with roles.use("default"):
            answers = generate_with(roles.model, roles.tokenizer, PROMPTS * 20, **options, device=roles.device)
    last = [ids[-1] for ids in answers.lists()]
    assert 1 in last
    assert 2 in last
    assert [token in (1, 2) for token in last] == answers.ended.tolist()
    for ids in answers.lists():
        assert not {1, 2} & set(ids[:-1]), "an answer runs on past its end"
        assert len(ids) == 60 or ids[-1] in (1, 2)


def test_the_text_ends_at_the_first_end_and_answers_are_trained_with_eos(several_ends):
    tokenizer = load_tokenizer(str(several_ends))
    prompt = [Message(role="user", content="Where?")]
    there = encode_response(tokenizer, prompt, "There.")
    assert there[-1] == tokenizer.eos_token_id == 2
    for ends in ([1], [2], [1, 2], [2, 1]):
        assert decode_response(tokenizer, [*there[:-1], *ends, *there]) == "There."
    assert 1 not in there
    assert encode_prompt(tokenizer, prompt)[0] == 1


def test_end_tokens_are_said_once_on_opening(several_ends, capsys, monkeypatch):
    monkeypatch.setattr("workbench.model.base._introduced", set())
    for _ in range(2):
        load_tokenizer(str(several_ends))
    said = capsys.readouterr().err
    assert said.count("answers end at any of 2 ('</s>'), 1 ('<s>'); they are trained with the first") == 1
    assert said.count("ignored as ends, because they are not special tokens: 40") == 1


def test_another_end_token_is_scored_as_eos(several_ends):
    """A reward model has seen answers that end with EOS alone."""
    roles = opened(several_ends)
    roles.heads["default"] = ScalarHead(64)
    torch.nn.init.normal_(roles.heads["default"].weight)
    rows = torch.tensor([[1, 10, 20, 2], [1, 10, 20, 1], [1, 10, 20, 30]])
    eos, other, cut = roles.scores("default", rows, torch.ones_like(rows)).tolist()
    assert eos == pytest.approx(other, rel=1e-5)  # rows of a batch differ by rounding
    assert eos != pytest.approx(cut, rel=1e-3)


LEAKS = {"do_sample": True, "repetition_penalty": 5.0, "min_p": 0.4, "top_k": 2, "temperature": 0.1}
LEAKS |= {"no_repeat_ngram_size": 2, "top_p": 0.2, "suppress_tokens": [5, 6], "eos_token_id": 2}


def test_sampling_settings_of_the_base_change_no_sample_and_are_named_once(tiny_base, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("workbench.model.base._introduced", set())
    plain = write_base(tmp_path / "plain", "qwen2", tiny_base, initializer_range=0.05)
    leaky = with_files(plain, tmp_path / "leaky", generation_config=LEAKS)
    drawn = []
    for folder in (plain, leaky):
        roles = opened(folder)
        drawn.append(generate(roles, "default", PROMPTS * 4, max_new_tokens=20, temperature=1.0, seed=3).lists())
    assert drawn[0] == drawn[1]
    said = capsys.readouterr().err
    assert "leaky: ignored in its generation_config.json" in said
    for setting in ("repetition_penalty=5.0", "min_p=0.4", "top_k=2", "no_repeat_ngram_size=2"):
        assert said.count(setting) == 1


def broken(source, folder, change):
    """A copy of a base with its weights changed."""
    shutil.copytree(source, folder)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


@pytest.mark.parametrize("quantise", ["none", "nf4"])
@pytest.mark.parametrize("head", ["causal", "score"])
def test_missing_weights_are_listed(quantise, head, tiny_base, tmp_path):
    def drop(weights):
        del weights["model.layers.0.self_attn.q_proj.weight"], weights["model.norm.weight"]

    base = broken(tiny_base, tmp_path / "base", drop)
    text = failure(lambda: load_base(BaseSpec(base, None, quantise, "auto"), load_tokenizer(base), head=head))
    assert "2 of its weights are not in the files" in text
    assert "model.layers.0.self_attn.q_proj.weight, model.norm.weight" in text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_the_first_tensor_that_is_not_finite_is_named(value, tiny_base, tmp_path):
    def spoil(weights):
        weights["model.layers.1.mlp.up_proj.weight"][3, 4] = value

    base = broken(tiny_base, tmp_path / "base", spoil)
    text = failure(lambda: load_base(BaseSpec(base, None, "nf4", "auto"), load_tokenizer(base)))
    assert "model.layers.1.mlp.up_proj.weight holds 1 values that are not finite" in text


def test_weights_of_another_shape_are_one_clear_error(tiny_base, tmp_path):
    def cut(weights):
        weights["model.layers.0.mlp.up_proj.weight"] = weights["model.layers.0.mlp.up_proj.weight"][:-1].clone()

    base = broken(tiny_base, tmp_path / "base", cut)
    assert "base" in failure(lambda: load_base(BaseSpec(base, None, "none", "auto"), load_tokenizer(base)))


@pytest.mark.parametrize("form", ["float16", "sharded", "bin", "bin with NaN"])
def test_other_forms_of_weights(form, tiny_base, tmp_path):
    from transformers import AutoModelForCausalLM

    base = tmp_path / "bäse of mine"
    shutil.copytree(tiny_base, base)
    weights = load_file(base / "model.safetensors")
    if form.startswith("bin"):
        (base / "model.safetensors").unlink()
        if form == "bin with NaN":
            weights["model.norm.weight"][0] = float("nan")
        torch.save(weights, base / "pytorch_model.bin")
    else:
        model = AutoModelForCausalLM.from_pretrained(tiny_base)
        (base / "model.safetensors").unlink()
        model.to(torch.float16 if form == "float16" else torch.float32).save_pretrained(base, max_shard_size="50KB")
        assert len(list(base.glob("*.safetensors"))) > 1
    tokenizer, spec = load_tokenizer(str(base)), BaseSpec(str(base), None, "none", "float32")
    if form == "bin with NaN":
        assert "model.norm.weight holds 1 values" in failure(lambda: load_base(spec, tokenizer))
        return
    loaded = load_base(spec, tokenizer).state_dict()
    for name, weight in weights.items():
        torch.testing.assert_close(loaded[name], weight, rtol=0, atol=1e-3 if form == "float16" else 0)


def test_a_folder_in_nf4_is_opened_as_it_is(tiny_base, tmp_path, spec, tokenizer):
    stored = load_base(spec, tokenizer)
    stored.save_pretrained(tmp_path / "nf4")
    tokenizer.save_pretrained(tmp_path / "nf4")
    own = BaseSpec(str(tmp_path / "nf4"), None, "nf4", "float32")
    again = load_base(own, load_tokenizer(own.name))
    ids = torch.tensor([[1, 5, 9]])
    with torch.no_grad():
        torch.testing.assert_close(again(input_ids=ids).logits, stored(input_ids=ids).logits, rtol=0, atol=0)
    assert own.opened()["stored"] == "nf4 (bitsandbytes)"
    assert spec.opened()["stored"] == "unquantised"
    plain = BaseSpec(own.name, None, "none", "float32")
    assert "stored in NF4" in failure(lambda: load_base(plain, load_tokenizer(own.name)))


def test_the_record_names_the_dtype_that_auto_stood_for(spec):
    device = "bfloat16" if torch.cuda.is_available() else "float32"
    assert spec.dtype == "auto"
    assert spec.opened()["dtype"] == device
    assert spec.opened()["description"].startswith("Llama, ")


def test_a_row_beyond_the_positions_is_refused(tiny_base):
    roles = opened(tiny_base)
    assert roles.positions == json.loads((tiny_base / "config.json").read_text())["max_position_embeddings"] == 256
    long = torch.ones(1, 257, dtype=torch.long)
    with roles.use("default") as forward:
        assert "256 positions" in failure(lambda: forward(long, long))
    text = failure(lambda: generate(roles, "default", [[1] * 200], max_new_tokens=57, temperature=1.0, seed=0))
    assert "a row has 257 tokens" in text
    assert len(generate(roles, "default", [[1] * 200], max_new_tokens=56, temperature=1.0, seed=0).ids) == 1
