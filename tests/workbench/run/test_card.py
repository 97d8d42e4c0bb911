"""The model card says what was measured, and nothing else."""

import re

import pytest
import yaml

from workbench.run.card import write_card
from workbench.run.config import Section
from workbench.run.folder import RunFolder


class Config(Section):
    seed: int = 0


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data.jsonl").write_text("x")
    folder = RunFolder.create(tmp_path / "runs" / "mine", phase="sft", config=Config())
    folder.record_lineage(
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
    text = card_of(folder, results={}, auto_class="AutoModelForSequenceClassification")
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1)
    compile(code, "card", "exec")
    assert 'AutoModelForSequenceClassification.from_pretrained("bases/llama")' in code
    assert f'"{folder.path}/adapter"' in code
