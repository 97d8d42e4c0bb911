"""A run that is trained again without a person is, bit for bit, the run that never saw them."""

import json
from pathlib import Path

import pytest

from benchmarks import forget


@pytest.mark.slow
def test_a_refitted_adapter_equals_that_of_a_run_that_never_saw_the_person(tmp_path: Path) -> None:
    forget.main(["--pairs", "24", "--records", "2000", "--out", str(tmp_path / "r.json")])
    result = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert result["hash_equal"]
    assert result["changed"]  # the person's labels had an effect
    # Each search asserts the number of records that it finds.
    assert result["records"] == 2000
    assert {"seconds", "one_record", "seconds_at_the_start_of_the_run"} <= result.keys()
