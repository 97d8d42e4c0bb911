"""Personal data is masked before items enter the store, and the command restores it with the key."""

import json

import pytest

from annotate.config import QueueSection
from annotate.intake.load import audit_path, load_file
from annotate.store.database import Store
from workbench.__main__ import main
from workbench.data.masking import masker_of
from workbench.privacy.keys import ENVIRONMENT

pytest.importorskip("presidio_analyzer")


def test_the_store_holds_masks_and_unmask_restores_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "mask.key"))
    masker_of.cache_clear()
    file, store = tmp_path / "items.jsonl", Store.open(tmp_path / "labels.sqlite")
    row = {"prompt": "I am ann@example.org", "response_a": "Hello ann@example.org", "response_b": "From 10.0.0.1"}
    file.write_text(json.dumps(row) + "\n")
    queue = QueueSection(mask_personal=("email", "ip"))
    assert load_file(store, file, queue).new == 1
    assert load_file(store, file, queue).known == 1
    with store.read() as transaction:
        (item,) = transaction.items()
        texts = [response.text for response in transaction.responses(item.id)]
    store.close()
    assert audit_path(store) == tmp_path / "labels.masked.jsonl"
    held = item.prompt + " ".join(texts)
    assert "ann@" not in held
    assert "10.0.0.1" not in held
    copy, out = tmp_path / "copy.txt", tmp_path / "out.txt"
    copy.write_text("\n".join(texts) + " [IP_0000000000]")
    assert main(["unmask", str(copy), "--audit", str(audit_path(store)), "--out", str(out)]) == 0
    assert out.read_text() == "Hello ann@example.org\nFrom 10.0.0.1 [IP_0000000000]"
    assert "2 values restored; 1 masks are not in" in capsys.readouterr().out
    masker_of.cache_clear()
