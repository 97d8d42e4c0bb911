"""The commands as processes of their own, as PPO starts them."""

import pytest

from ppo.people.store import Judgement, LabelStore, check_command
from tests.annotate.conftest import make_item
from workbench.run.errors import WorkbenchError


@pytest.mark.slow
def test_pairs_go_out_and_no_judgement_is_there_yet(tmp_path):
    config = tmp_path / "annotate.yaml"
    config.write_text(f"store: {{url: {tmp_path / 'labels.sqlite'}}}\n")
    store = LabelStore(str(config), "demo/ppo", tmp_path)
    assert store.exchange([make_item("one")], notice="") == []
    assert (tmp_path / "labels.sqlite").is_file()
    config.write_text("stor: {}\n")
    with pytest.raises(WorkbenchError, match="stor"):
        check_command(str(config))


def test_judgements_are_read_in_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "ppo.people.store.annotate",
        lambda words: (tmp_path / "judgements.jsonl").write_text(
            '{"item": "b", "strength": 2, "at": 1.5}\n{"item": "a", "strength": 0, "at": 2.5}\n'
        ),
    )
    assert LabelStore("x.yaml", "run", tmp_path).exchange([]) == [Judgement("b", 2), Judgement("a", 0)]
