"""Training that goes on from a run: copied adapter, replay of old data, and what was forgotten."""

import json

import pytest

import sft.train as phase
from sft.config import SftConfig
from sft.inputs import check_inputs
from sft.sources import old_data, read_sources
from tests.conftest import load_phase, sft_values, user, write_jsonl
from tests.sft.test_train import assert_same, weights
from workbench.data.rules import RowRules
from workbench.data.splits import group_of
from workbench.evaluate.inputs import EvaluationInputs
from workbench.evaluate.policy import Sampling
from workbench.evaluate.run_models import evaluate_policy_run
from workbench.evaluate.summary import result_lines
from workbench.evaluate.tables import policy_rows
from workbench.run.errors import Problems, WorkbenchError
from workbench.run.folder import RunFolder


@pytest.fixture(scope="module")
def new_file(tmp_path_factory):
    """40 demonstrations of another kind: the answer is the question's last word, in capitals."""
    rows = [
        {"id": f"n{number}", "prompt": user("Repeat {}", word), "response": f"{word.upper()}!"}
        for number, word in enumerate(f"w{number}" for number in range(40))
    ]
    return write_jsonl(tmp_path_factory.mktemp("new") / "new.jsonl", rows)


@pytest.fixture
def configure(tmp_path, sft_run, new_file):
    def _configure(name, *overrides):
        values = sft_values(tmp_path / name, "unused", new_file)
        values["model"], _ = {"start": str(sft_run)}, values.pop("lora")
        return load_phase(SftConfig, tmp_path / f"{name}.yaml", values, "sample.prompts=0", *overrides)

    return _configure


def sources_of(config):
    files = {"train": config.data.train} | {f"mix_{n}": one.file for n, one in enumerate(config.data.mix, 1)}
    return read_sources(config.data, files, old_data(config), seed=0, rules=RowRules())


def problems_of(config):
    problems = Problems()
    lines = check_inputs(config, problems)
    problems.raise_if_any()
    return lines


def test_the_adapter_is_the_start_runs_and_the_lineage_says_so(configure, sft_run, prompt_file):
    folder = phase.train(configure("run", "train.max_steps=1", "train.lr=1e-30", "train.warmup_share=0"), resume=False)
    assert_same(weights(folder), weights(RunFolder(sft_run)))
    record = folder.record()
    assert record["parents"] == {"start": str(sft_run)}
    assert {"train", "replay_train"} <= record["data"].keys()
    forgetting = record["forgetting"]
    assert forgetting["after"] == pytest.approx(forgetting["before"], abs=1e-6)
    last = [row for row in RunFolder(sft_run).read_metrics() if "validation/loss" in row][-1]
    assert forgetting["before"] == pytest.approx(last["validation/loss"], abs=1e-6)
    inputs = EvaluationInputs(prompts=str(prompt_file))
    evaluation = evaluate_policy_run(folder.path, inputs, sampling=Sampling(max_new_tokens=4))
    assert evaluation.policy.forgetting.after == forgetting["after"]
    assert evaluation.policy.kl.mean == pytest.approx(0, abs=1e-4), "the reference is the start run"
    assert any("start run's validation set" in line for line in result_lines(evaluation))
    assert any(row.name == "Loss on old data" for row in policy_rows([evaluation.policy]))


@pytest.mark.slow
def test_without_replay_more_is_forgotten(configure):
    steps = ("train.max_steps=30", "train.lr=0.01")
    forgotten, learned = {}, {}
    for share in (0.0, 0.5):
        folder = phase.train(configure(f"replay-{share}", f"data.replay={share}", *steps), resume=False)
        found = folder.record()["forgetting"]
        forgotten[share] = found["after"] - found["before"]
        rows = [row["validation/loss"] for row in folder.read_metrics() if "validation/loss" in row]
        learned[share] = rows[-1] - rows[0]
    assert max(learned.values()) < -0.5, "both runs learn the new data"
    assert forgotten[0.0] > forgotten[0.5] + 0.3


def test_replay_and_mixed_files_have_their_shares_without_validated_prompts(configure, demonstration_file):
    mix = json.dumps([{"file": str(demonstration_file), "share": 0.2}])
    config = configure("run", f"data.mix={mix}", "data.replay=0.3")
    sources = sources_of(config)
    own, mixed, replay = (len(source.records) for source in sources.trained)
    assert mixed == round(0.2 * (own + mixed + replay))
    assert replay == round(0.3 * (own + mixed + replay))
    validated = {group_of(r) for s in (sources.validation, sources.old_validation) for r in s.records}
    trained = {group_of(record) for source in sources.trained for record in source.records}
    assert not validated & trained
    assert sources.mixed[0].overlap == len(sources.old_validation.records)
    assert sources_of(config) == sources


def test_a_source_with_too_few_demonstrations_repeats_them(configure):
    sources = sources_of(configure("run", "data.replay=0.7"))
    distinct = {record.id for record in sources.replay.records}
    assert sources.replay.repeated == len(sources.replay.records) - len(distinct) > 0
    assert f"{sources.replay.repeated} of them again" in "\n".join(sources.lines())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lora.r=5", r"lora\.r=5.*contradicts"),
        ("adapter=prompt", r"adapter=prompt.*contradicts"),
        ("model.quantise=none", r"model\.quantise=none.*contradicts"),
        ("data.replay=1.0", "add up to 1"),
        ("data.replay_train=elsewhere.jsonl", "elsewhere.jsonl is not here"),
        ("model.start=nowhere", "nowhere"),
    ],
)
def test_contradictions_and_missing_files_are_errors(configure, override, message):
    with pytest.raises(WorkbenchError, match=f"(?s){message}"):
        problems_of(configure("run", override))


def test_old_data_with_other_content_is_an_error(configure, new_file):
    with pytest.raises(WorkbenchError, match="holds other content"):
        problems_of(configure("run", f"data.replay_train={new_file}"))


def test_every_source_is_named_at_the_start(configure, demonstration_file):
    lines = problems_of(configure("run", "data.replay=0.25"))
    assert any(line.startswith("data.replay: ") and "trained on again" in line for line in lines)
    assert any("to measure what is forgotten" in line for line in lines)
