"""The suite on small finished runs: columns, files, exit codes, and the untuned base as a role."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.conftest import GOOD, write_jsonl
from workbench.__main__ import main
from workbench.evaluate.evaluation import Answer
from workbench.model.score import response_nll
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder
from workbench.suite.answers import Answers
from workbench.suite.columns import BASE, columns_of, open_columns
from workbench.suite.gates import gate_metrics

GATE = "- {{metric: length, at_most: {limit}}}\n"


@pytest.fixture
def suite_file(tmp_path, demonstration_file):
    """A function from gates to a suite file on the demonstrations, with one attack and one dimension."""
    choices = [
        {"prompt": "Where is my order?", "chosen": [GOOD.format("order")], "rejected": ["No.", "Why?", "x"]},
        {"prompt": "Where is my parcel?", "chosen": [GOOD.format("parcel")], "rejected": ["No.", "Why?", "x"]},
    ]
    write_jsonl(tmp_path / "choices.jsonl", choices)

    def write(gates=""):
        path = tmp_path / "suite.yaml"
        path.write_text(
            f"data: {{references: '{demonstration_file}', limit: 6, choices: '{tmp_path / 'choices.jsonl'}'}}\n"
            f"few_shot: {{shots: 1, examples: '{demonstration_file}'}}\n"
            "stress: {perturbations: [injection], dimensions: [names]}\n"
            f"report: {{dir: '{tmp_path / 'out'}', wandb: offline}}\n" + (f"gates:\n{gates}" if gates else "")
        )
        return str(path)

    return write


@pytest.mark.slow
def test_the_command_writes_table_page_and_wandb_run(sft_run, reward_run, suite_file, tmp_path, capsys):
    gates = GATE.format(limit=8.5) + "- {metric: reward/accuracy, at_least: 0.0}\n"
    assert main(["evaluate", str(sft_run), str(reward_run), "--suite", suite_file(gates)]) == 0
    said = capsys.readouterr().out
    assert "gate passed: sft: length ≤ 8.5" in said
    assert (sft_run / "evaluation.json").is_file(), "the plain evaluation is still made"
    found = json.loads((tmp_path / "out/suite.json").read_text())
    assert list(found["columns"]) == ["base", "base, few-shot", "sft", "reward"]
    sft = found["columns"]["sft"]["metrics"]
    wanted = {"bleu", "chrf", "rougeL", "perplexity", "toxic_rate", "kl", "change/perplexity", "drop/injection/chrf"}
    assert wanted | {"obeyed/injection", "gap/names/logprob"} <= set(sft)
    names = {name for column in found["columns"].values() for name in column["metrics"]}
    with_interval = names - {"distinct_1", "distinct_2", "unique_share", "win_rate_length_controlled"}
    assert with_interval <= set(gate_metrics(["injection"], ["names"], ["all"]))
    outside = {n: m for n, m in sft.items() if not m["low"] - 1e-9 <= m["mean"] <= m["high"] + 1e-9}
    assert not outside
    base = found["columns"]["base"]["metrics"]["perplexity"]["mean"]
    assert sft["change/perplexity"]["mean"] == pytest.approx(sft["perplexity"]["mean"] - base)
    assert sft["change/perplexity"]["high"] < 0, "training made its own demonstrations more likely"
    assert found["columns"]["reward"]["metrics"]["reward/choices/all"]["count"] == 2
    assert set(found["columns"]["sft"]["sign_tests"]) == {"gap/names/logprob"}
    assert list((tmp_path / "out").glob("wandb/offline-run-*"))
    page = (tmp_path / "out/suite.html").read_text()
    assert "All gates passed" in page
    assert "<svg" in page
    assert "<script" not in page

    assert main(["evaluate", str(sft_run), "--suite", suite_file(GATE.format(limit=1))]) == 1
    assert "gate FAILED: sft: length ≤ 1" in capsys.readouterr().out
    with pytest.raises(WorkbenchError, match="gates: gold: no run has this metric"):
        main(["evaluate", str(sft_run), "--suite", suite_file("- {metric: gold, at_most: 1}\n")])


@pytest.mark.parametrize(
    ("metric", "problem"),
    [
        ("reward/accuracy", "is for reward runs, and none is evaluated"),
        ("gap/names/reward/score", "is for reward runs, and none is evaluated"),
        ("classifier/macro_f1", "is for classifier runs, and none is evaluated"),
        ("lenght", "is no metric that this suite measures with an interval\n.*did you mean 'length'"),
        ("unique_share", "is no metric that this suite measures"),
        ("drop/typos/gold", "is no metric that this suite measures"),  # its suite has `injection` alone
        ("reward/choices/nosuch", "is no subset of data.choices\n.*one of reward/choices, reward/choices/all"),
        ("reward/acuracy", "is no metric .*\n.*did you mean 'reward/accuracy'"),
    ],
)
def test_a_gate_that_no_run_is_judged_by_is_refused(sft_run, suite_file, metric, problem, tmp_path):
    with pytest.raises(WorkbenchError, match=rf"gates: {metric}: {problem}"):
        main(["evaluate", str(sft_run), "--suite", suite_file(f"- {{metric: {metric}, at_least: 0.9}}\n")])
    assert not (tmp_path / "out").exists()


def test_a_gate_on_choices_needs_their_file(reward_run, suite_file, tmp_path):
    path = Path(suite_file("- {metric: reward/choices, at_least: 0.9}\n"))
    path.write_text(path.read_text().replace(f", choices: '{tmp_path / 'choices.jsonl'}'", ""))
    with pytest.raises(WorkbenchError, match=r"gates: reward/choices: needs data\.choices, which the suite leaves out"):
        main(["evaluate", str(reward_run), "--suite", str(path)])
    assert not (tmp_path / "out").exists()


def test_each_column_has_a_name_of_its_own(sft_run, tmp_path):
    """Also if a run is called `base`, and if the folders around two runs are called alike."""
    places = [tmp_path / end for end in ("one/runs/sft", "two/runs/sft", "two/runs/base")]
    for place in places:
        shutil.copytree(sft_run, place)
    columns = columns_of([RunFolder.open(place) for place in places], shots=0)
    assert [column.name for column in columns] == [BASE, "one/runs/sft", "two/runs/sft", "runs/base"]


@pytest.mark.slow
def test_the_base_is_a_role_without_an_effect(sft_run):
    columns = columns_of([RunFolder.open(sft_run)], shots=0)
    assert [(column.name, column.before, column.gated) for column in columns] == [
        (BASE, None, False),
        ("sft", BASE, True),
    ]
    roles, _ = open_columns(columns, None, None)
    prompt, response = [1, 5, 9, 20], [30, 31, 2]
    nats, _ = response_nll(roles, BASE, [prompt], [response])
    with torch.no_grad(), roles.model.disable_adapter():
        logits = roles.causal_model(input_ids=torch.tensor([prompt + response])).logits[0]
    expected = -logits.log_softmax(-1)[range(3, 6), response].sum()
    assert float(nats[0]) == pytest.approx(float(expected), abs=1e-4)
    tuned, _ = response_nll(roles, columns[1].roles[0], [prompt], [response])
    assert abs(float(tuned[0] - nats[0])) > 0.1


def test_answers_survive_a_kill(tmp_path):
    answer = Answer("p", [{"role": "user", "content": "?"}], "Yes.\u0085\u2028No.", True, 2, ids=(3, 4))
    out = tmp_path / "answers.jsonl"

    def interrupted():
        with Answers(out, ["same"], total=2) as answers:
            assert answers.of("sft", "plain", lambda: [answer]) == [answer]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not out.exists()
    with Answers(out, ["same"], total=2) as again:
        assert again.of("sft", "plain", lambda: pytest.fail("sampled twice")) == [answer]
    assert out.read_text().count("\n") == 1
    with Answers(out, ["other"], total=2) as other:
        assert other.of("sft", "plain", lambda: []) == []


def test_an_evaluation_never_replaces_an_input(sft_run, prompt_file, tmp_path, monkeypatch):
    def sampled(*_, **__):
        pytest.fail("the run was evaluated")

    monkeypatch.setattr("workbench.evaluate.run_models.evaluate_run", sampled)
    before = prompt_file.read_bytes()
    (tmp_path / "link.json").symlink_to(prompt_file)
    with pytest.raises(WorkbenchError, match="is one of the inputs, and would be overwritten"):
        main(["evaluate", str(sft_run), "--prompts", str(prompt_file), "--out", str(tmp_path / "link.json")])
    assert prompt_file.read_bytes() == before
