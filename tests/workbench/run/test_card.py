"""The model card says what was measured, and nothing else."""

import json
import re

import pytest
import yaml

from workbench.run.card import write_card
from workbench.run.config import Section
from workbench.run.folder import RunFolder
from workbench.run.parents import record_lineage


class Config(Section):
    seed: int = 0


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data.jsonl").write_text("x")
    folder = RunFolder.create(tmp_path / "runs" / "mine", phase="sft", config=Config())
    record_lineage(
        folder,
        parents={"start": "runs/other"},
        data={"train": tmp_path / "data.jsonl"},
        base={"name": "bases/llama", "quantise": "nf4"},
        seed=7,
    )
    return folder


def card_of(folder, **options):
    write_card(folder, about="Tuned on something.", **options)
    return (folder.path / "README.md").read_text(encoding="utf-8")


def test_front_matter_is_yaml_that_hubs_read(folder):
    _, front, _ = card_of(folder, results={}).split("---\n", 2)
    values = yaml.safe_load(front)
    assert values["base_model"] == "bases/llama"
    assert values["library_name"] == "peft"
    assert "sft" in values["tags"]


def test_lineage_and_sections(folder):
    text = card_of(folder, results={"validation/perplexity": 3.14159})
    assert re.findall(r"^#+ (.+)$", text, re.MULTILINE) == ["mine", "Results", "Load it"]
    record = folder.record()
    for fact in ("`runs/other`", record["data"]["train"]["sha256"][:12], "| seed | 7 |", record["versions"]["torch"]):
        assert fact in text
    assert "Tuned on something." in text


def test_results_are_the_given_numbers_and_no_others(folder):
    text = card_of(folder, results={"validation/perplexity": 3.14159, "heldout/accuracy": 0.5})
    table = text.split("## Results")[1].split("## Load it")[0]
    assert re.findall(r"\| `(\S+)` \| (\S+) \|", table) == [
        ("validation/perplexity", "3.142"),
        ("heldout/accuracy", "0.5"),
    ]
    empty = card_of(folder, results={}).split("## Results")[1].split("## Load it")[0]
    assert not re.search(r"\d", empty)


def test_loading_names_the_class_and_the_places(folder):
    code = re.search(r"```python\n(.*?)```", card_of(folder, results={}, kind="reward"), re.DOTALL).group(1)
    compile(code, "card", "exec")
    assert "AutoModelForSequenceClassification.from_pretrained(base, num_labels=1," in code
    assert 'base = "bases/llama"' in code
    assert json.dumps(str(folder.path)) in code


def test_a_folder_that_is_quantised_already_is_not_quantised_again(folder):
    folder.update_record(opened={"stored": "bitsandbytes nf4", "dtype": "bfloat16"})
    text = card_of(folder, results={})
    assert "BitsAndBytesConfig" not in text
    assert "dtype=torch.bfloat16" in text


def test_the_embedded_base_is_loaded_from_its_folder(folder):
    folder.update_record(
        base={"name": "tiny", "quantise": "none", "dtype": "float32"}, opened={"folder": "/cache/base"}
    )
    text = card_of(folder, results={})
    assert 'base = "/cache/base"  # elsewhere' in text
    assert 'from_pretrained("tiny"' not in text


def test_warnings_of_the_run_stand_above_the_results(folder):
    folder.update_record(warnings=[{"iteration": 3, "kind": "kl", "text": "KL is high"}, "it diverged"])
    head = card_of(folder, results={}).split("## Results")[0]
    assert "**Warning:** KL is high" in head
    assert "**Warning:** it diverged" in head
