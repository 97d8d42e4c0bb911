"""Commands that follow one another do not disturb one another."""

import pytest

from workbench.run.process import start

ASKS = """
from pathlib import Path
from wandb.sdk.data_types._private import MEDIA_TMP

raise SystemExit(0 if Path(MEDIA_TMP.name).is_dir() else 3)
"""


@pytest.mark.slow
def test_a_command_that_ends_leaves_the_temporary_folders_of_imported_libraries(tmp_path, monkeypatch):
    (tmp_path / "asks.py").write_text(ASKS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for _ in range(2):
        process = start(["asks"], tmp_path / "measured.json", tmp_path / "log.txt")
        process.join()
        assert process.exitcode == 0, (tmp_path / "log.txt").read_text(encoding="utf-8")
