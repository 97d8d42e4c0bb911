"""The benchmark of classification runs end to end at a toy size."""

import json

import pytest

from benchmarks import classify_real
from tests.conftest import write_jsonl
from tests.sft.classify.conftest import labelled_rows


@pytest.mark.slow
def test_it_measures_every_method_the_control_and_the_leak(tmp_path, tiny_base, monkeypatch):
    monkeypatch.chdir(classify_real.CONFIG.resolve().parents[2])
    texts = write_jsonl(tmp_path / "toy.jsonl", labelled_rows())
    words = ["--bases", tiny_base, "--texts", texts, "--seeds", 0, "--most", 100, "--runs", tmp_path / "runs"]
    words += ["--out", tmp_path / "r.json", "--set", "train.max_steps=3", "verbalizer.shots=1"]
    classify_real.main([str(word) for word in words])
    content = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    base = tiny_base.name
    names = ("head", "verbalizer", "zero_shot", "few_shot_calibrated", "head, shuffled labels")
    assert {"majority", "tfidf_logistic", *(f"{base}, {name}" for name in names)} <= content["toy"].keys()
    for method in content["toy"].values():
        assert method["macro_f1_ci"][0] <= method["macro_f1"] <= method["macro_f1_ci"][1]
    assert len(content["toy"]["tfidf_logistic"]["seeds"]) == 1
    copies = content["leak_of_a_random_split"]["toy"]["with 3 near copies of each text"]
    assert (
        copies["share_of_heldout_texts_with_a_near_duplicate_in_training"] > 0.7
    )  # one of three copies lies in training with probability .82 or so
    assert {"commit", "hardware", "versions"} <= content.keys()
