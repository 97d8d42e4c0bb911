"""The doctor for data: what it finds, what it leaves alone, and that it says what the phases do."""

import json
import re
from pathlib import Path

import pytest

from benchmarks.defects import DEFECTS, make
from benchmarks.doctor_defects import reported_in
from tests.conftest import write_jsonl
from workbench.__main__ import make_parser
from workbench.data.batching import encode_demonstrations
from workbench.data.readers import read_demonstrations
from workbench.run.errors import WorkbenchError
from workbench.validate.command import validate
from workbench.validate.examine import Question, examine
from workbench.validate.findings import KINDS, exit_code
from workbench.validate.fix import CHANGES, write_fixed
from workbench.validate.page import page
from workbench.validate.reading import guess_purpose
from workbench.validate.show import lines

ROOT = Path(__file__).parents[3]
QUICK = ("broken-row", "mixed-forms", "leaked-near", "label-error", "preference-cycle", "position-bias")


def written(path: Path, made) -> list[str]:
    reported_in(made, path)
    return [str(path / f"{number}.jsonl") for number in range(len(made.files))]


@pytest.mark.parametrize(
    "kind", [k if k in QUICK else pytest.param(k, marks=pytest.mark.slow) for k in sorted(DEFECTS)]
)
def test_a_planted_defect_is_found_with_its_lines_and_nothing_else_is(kind, tmp_path):
    made = make(kind, seed=1000, rows=60)
    assert made.planted, "nothing was planted: the test would prove nothing"
    assert reported_in(made, tmp_path / "data") == dict(made.planted)


@pytest.mark.parametrize("seed", range(5))
def test_a_file_without_a_defect_has_no_finding(seed, tmp_path):
    """Of each purpose, with one split or two; the purpose is also the one that is guessed."""
    made = make("clean", seed=seed, rows=60)
    assert reported_in(made, tmp_path / "data") == {}
    (first, *_) = written(tmp_path / "again", made)
    assert guess_purpose(first, Question((first,)).columns) == made.purpose


def run(tmp_path, file, *options) -> int:
    words = ["validate", str(file), "--out", str(tmp_path / "page.html"), *options]
    return validate(make_parser().parse_args(words))


def test_exit_codes_and_the_refusal_is_the_phase_s_own_error(tmp_path, capsys):
    good = [
        {"prompt": f"What is {n} and {n * n}?", "response": f"They are {n} apples, {n * n} pears."} for n in range(20)
    ]
    for name, rows in (("clean", good), ("warned", [*good, good[3]]), ("refused", [*good, {"prompt": "Why?"}])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    varied = [{"prompt": f"{word}?", "response": f"{word[::-1]}."} for word in ("oranges", "umbrellas", "Thursday")]
    (tmp_path / "clean.jsonl").write_text("".join(json.dumps(row) + "\n" for row in varied), encoding="utf-8")
    assert run(tmp_path, tmp_path / "clean.jsonl") == 0
    assert "clean: no findings" in capsys.readouterr().out
    assert run(tmp_path, tmp_path / "warned.jsonl") == 1
    said = capsys.readouterr().out
    assert "exact-duplicate" in said
    assert "line 21: repeats line 4" in said
    with pytest.raises(WorkbenchError) as refusal:
        run(tmp_path, tmp_path / "refused.jsonl", "--for", "sft")
    with pytest.raises(WorkbenchError) as own:
        read_demonstrations(tmp_path / "refused.jsonl")
    assert str(refusal.value) == str(own.value)
    assert "missing-column" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_answers_judged_alone_are_refused_for_reward_with_the_methods_that_read_them(tmp_path, capsys):
    rows = [{"prompt": f"Where is {n}?", "completion": f"In box {n}.", "label": bool(n % 2)} for n in range(8)]
    file = write_jsonl(tmp_path / "kto.jsonl", rows)
    with pytest.raises(WorkbenchError, match="judgement"):
        run(tmp_path, file)
    said = capsys.readouterr().out
    assert "remedy: for answers that are good or bad by themselves: method=kto" in said
    assert "data.ignore" not in said


def test_an_empty_rejected_answer_is_named(tmp_path, capsys):
    made = [{"prompt": f"Where is {n}?", "chosen": f"In box {n}.", "rejected": "Far away."} for n in range(8)]
    file = write_jsonl(tmp_path / "pairs.jsonl", [*made, {"prompt": "Why?", "chosen": "Because.", "rejected": None}])
    assert run(tmp_path, file) == 1
    assert "line 9: an answer is empty" in capsys.readouterr().out


def test_examples_are_the_rows_that_the_trainer_gets(tiny_base, demonstration_file):
    from workbench.model.base import load_tokenizer

    report = examine(Question((str(demonstration_file),), "sft", str(tiny_base), quiet=True))
    tokenizer, shown = load_tokenizer(str(tiny_base)), report.files[0].tokens.examples[0]
    (row,) = encode_demonstrations(
        tokenizer, read_demonstrations(demonstration_file)[:1], max_length=256, source="test"
    ).rows
    assert (shown.tokens, shown.marked) == (len(row["input_ids"]), sum(row["completion_mask"]))
    in_loss = [token for token, counts in zip(row["input_ids"], row["completion_mask"], strict=True) if counts]
    assert "".join(p.text for p in shown.pieces) == tokenizer.decode(row["input_ids"])
    assert "".join(p.text for p in shown.pieces if "loss" in p.kind).strip() == tokenizer.decode(in_loss).strip()
    plain, coloured = ("\n".join(lines(report, colour=colour)) for colour in (False, True))
    assert "⟦" in plain
    assert "\x1b[32m" in coloured
    assert "\x1b" not in plain


def test_the_fixed_copy_has_none_of_the_defects_that_are_fixed(tmp_path):
    for kind in ("broken-row", "mixed-forms", "leaked-row", "contradiction", "control-character", "outer-whitespace"):
        files = written(tmp_path / kind, make(kind, seed=7, rows=60))
        before = examine(Question(tuple(files), quiet=True))
        write_fixed(before, tmp_path / f"{kind}-fixed")
        fixed = tuple(str(tmp_path / f"{kind}-fixed" / Path(file).name) for file in files)
        after = examine(Question(fixed, before.purpose, quiet=True))
        assert exit_code(before.findings) > exit_code(after.findings) == 0, kind
        changes = (tmp_path / f"{kind}-fixed" / CHANGES).read_text(encoding="utf-8").splitlines()
        assert {json.loads(line)["kind"] for line in changes} == {kind}
        kept = sum(len(one.entries) for one in after.files)
        dropped = sum(json.loads(line)["change"] == "left out" for line in changes)
        assert kept + dropped == sum(one.read.rows for one in before.files)


def test_a_fixed_copy_never_replaces_an_input(tmp_path):
    files = written(tmp_path / "data", make("clean", seed=0, rows=20))
    with pytest.raises(WorkbenchError, match="one of the inputs"):
        write_fixed(examine(Question(tuple(files), quiet=True)), tmp_path / "data")


def test_a_fixed_copy_never_replaces_another_one(tmp_path):
    (text,) = (Path(file).read_text() for file in written(tmp_path / "data", make("clean", seed=0, rows=20)))
    for names in (("rows.jsonl", "rows.ndjson"), (CHANGES,)):
        files = [tmp_path / name for name in names]
        for file in files:
            file.write_text(text)
        with pytest.raises(WorkbenchError, match="written twice") as caught:
            write_fixed(examine(Question(tuple(map(str, files)), quiet=True)), tmp_path / "fixed")
        assert str(files[0]) in caught.value.problem
        assert not (tmp_path / "fixed").exists()


def test_the_page_escapes_texts_and_shows_every_finding(tmp_path):
    made = make("exact-duplicate", seed=1, rows=60)
    made.files[0][2] = {"prompt": "<script>alert(1)</script>", "response": "\x1b[31m red <b>bold</b> text."}
    report = examine(Question(tuple(written(tmp_path / "data", made)), quiet=True))
    html = page(report)
    assert "<script" not in html
    assert "\x1b" not in html
    assert all(f"<b>{finding.kind}</b>" in html for finding in report.findings)
    assert html.count("<svg") >= 2


def test_the_documentation_lists_every_kind():
    text = (ROOT / "docs/validate.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `([a-z-]+)` \|", text, re.MULTILINE))
    assert listed == set(KINDS)
    assert set(DEFECTS) <= set(KINDS)
