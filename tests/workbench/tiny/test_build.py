from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from workbench.data.labelled import Columns, read_labelled
from workbench.data.readers import read_demonstrations, read_prompts
from workbench.tiny import build
from workbench.tiny.build import PRETRAINED, Sizes, build_tiny, is_complete
from workbench.tiny.grammar import is_heldout, parse_prompt
from workbench.tiny.phrases import RUDE

SMALL = Sizes(
    **{"demonstrations": 30, "demonstrations_heldout": 10, "prompts": 40, "prompts_heldout": 20, "texts": 40},
    **{"rare_demonstrations": 30, "rare_prompts": 40, "rare_heldout": 20},
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return build_tiny(tmp_path_factory.mktemp("tiny") / "built", SMALL)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_builds_are_the_same_bit_for_bit(folder, tmp_path):
    again = build_tiny(tmp_path / "again", SMALL)
    first, second = contents(folder), contents(again)
    assert "base/model.safetensors" in first
    assert first == second


def test_the_shipped_base_is_small_and_is_copied(folder):
    assert sum(path.stat().st_size for path in PRETRAINED.iterdir()) <= 2e6
    assert (folder / "base/model.safetensors").read_bytes() == (PRETRAINED / "model.safetensors").read_bytes()


def test_labelled_texts_are_rude_or_civil(folder):
    found = read_labelled(folder / "texts.jsonl", Columns())
    assert set(found.counts) == {"rude", "civil"}
    assert all((record.labels == ("rude",)) == any(map(record.text.count, RUDE)) for record in found.records)


def test_a_complete_folder_is_not_changed(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert is_complete(folder)
    build_tiny(folder, SMALL)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_half_built_folder_is_rebuilt(folder, tmp_path):
    target = tmp_path / "half"
    (tmp_path / ".half.partial" / "base").mkdir(parents=True)
    (tmp_path / ".half.partial" / "junk").write_text("left by a killed builder")
    target.mkdir()
    (target / "prompts.jsonl").write_text("")
    build_tiny(target, SMALL)
    assert contents(target) == contents(folder)
    assert not (tmp_path / ".half.partial").exists()


def test_two_concurrent_builders_build_it_once(tmp_path, monkeypatch):
    built = []

    def count(partial: Path, sizes: Sizes | None) -> None:
        built.append(partial)
        build_data(partial, sizes)

    build_data = build.write_data
    monkeypatch.setattr(build, "write_data", count)
    target = tmp_path / "shared"
    with ThreadPoolExecutor(2) as builders:
        folders = list(builders.map(lambda _: build_tiny(target, SMALL), range(2)))
    assert folders == [target, target]
    assert len(built) == 1
    assert is_complete(target)


def test_the_base_is_a_regular_hugging_face_folder(folder):
    model = AutoModelForCausalLM.from_pretrained(folder / "base")
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    config = model.config
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (0, 1, 2)
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert model.generation_config.eos_token_id == 2
    assert 0.3e6 <= model.num_parameters() <= 2e6
    assert len(tokenizer) <= config.vocab_size
    for layer in model.model.layers:
        for linear in (layer.self_attn.q_proj, layer.mlp.gate_proj, layer.mlp.down_proj):
            assert linear.in_features % 64 == 0
            assert linear.out_features % 64 == 0
    text = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert text == "<s>User: Hi\nAssistant:"


def test_training_and_heldout_files_do_not_mix(folder):
    train = [*read_demonstrations(folder / "demonstrations.jsonl"), *read_prompts(folder / "prompts.jsonl")]
    held = [
        *read_demonstrations(folder / "demonstrations_heldout.jsonl"),
        *read_prompts(folder / "prompts_heldout.jsonl"),
    ]
    assert (len(train), len(held)) == (70, 30)
    for records, side in ((train, False), (held, True)):
        specs = [parse_prompt(record.prompt[-1].content) for record in records]
        assert all(spec is not None and is_heldout(spec) == side for spec in specs)
    texts = [record.prompt for record in (*train, *held)]
    assert len(set(texts)) == len(texts)
    assert len({record.id for record in (*train, *held)}) == len(texts)
