"""An unfinished output is one process's at a time, and free again when that process is dead."""

import json
import subprocess
import sys

import pytest

from workbench.run.errors import WorkbenchError
from workbench.run.partial import PartialOutput, append_lines

WRITER = """
import sys, time
from pathlib import Path
from workbench.run.partial import PartialOutput, append_lines
out = Path(sys.argv[1])
partial = PartialOutput.open(out, ["same"])
with partial.path.open("a") as file:
    append_lines(file, [{"id": "first"}])
print("writes", flush=True)
sys.stdin.readline()
partial.publish(out)
"""


@pytest.fixture
def writer(tmp_path):
    """Another process that has written one line, and publishes it once it is told to."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "out.jsonl")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "writes\n"
        yield process
        process.kill()


@pytest.mark.parametrize("made_from", ["same", "other"])
def test_an_output_that_another_process_writes_is_refused_and_left_alone(writer, tmp_path, made_from):
    out = tmp_path / "out.jsonl"
    with pytest.raises(WorkbenchError, match=r"out\.jsonl: is being written by another process"):
        PartialOutput.open(out, [made_from])
    writer.communicate("publish\n")
    assert writer.returncode == 0
    assert [json.loads(line) for line in out.read_text().splitlines()] == [{"id": "first"}]
    assert sorted(tmp_path.iterdir()) == [out]
    partial = PartialOutput.open(out, [made_from])  # free again
    assert partial.rows == 0
    partial.discard()
    assert out.exists()


def test_the_lines_of_a_killed_process_are_continued(writer, tmp_path):
    out = tmp_path / "out.jsonl"
    writer.kill()
    writer.wait()
    for rows in (1, 2):  # the same process may open it again, too
        partial = PartialOutput.open(out, ["same"])
        assert partial.rows == rows
        with partial.path.open("a") as file:
            append_lines(file, [{"id": str(rows)}])
    partial.publish(out)
    assert len(out.read_text().splitlines()) == 3
