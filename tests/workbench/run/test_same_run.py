"""`--resume` compares files and parent runs by content, and everything else by value."""

import pytest
import yaml

from workbench.run.config import Section
from workbench.run.errors import WorkbenchError
from workbench.run.lineage import data_fingerprint, run_fingerprint
from workbench.run.same_run import check_same_run


class Model(Section):
    start: str
    reward: tuple[str, ...]


class Data(Section):
    train: str


class Config(Section):
    model: Model
    data: Data
    lr: float = 0.1


def make_run(path, content=b"weights", adapter="adapter"):
    (path / adapter).mkdir(parents=True)
    (path / adapter / "adapter_model.safetensors").write_bytes(content)
    return path


@pytest.fixture
def run(tmp_path):
    """The configuration and the record of a run, and what it was made from."""
    start, one = make_run(tmp_path / "sft"), make_run(tmp_path / "reward", b"reward")
    many = make_run(make_run(tmp_path / "many", b"a", "members/1/adapter"), b"b", "members/2/adapter")
    file = tmp_path / "train.jsonl"
    file.write_text("{}", encoding="utf-8")
    config = Config(model=Model(start=str(start), reward=(str(one), str(many))), data=Data(train=str(file)))
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")), encoding="utf-8")
    # As ppo records them: an ensemble by its members.
    parents = {"start": start, "reward_1": one, "reward_2": many / "members/1", "reward_3": many / "members/2"}
    record = {
        "data": {"train": data_fingerprint(file)},
        "parents_at": {role: {"adapter": run_fingerprint(parent)} for role, parent in parents.items()},
    }
    return path, record, config


def with_values(config, **values):
    model = config.model.model_copy(update={k: v for k, v in values.items() if k in ("start", "reward")})
    data = Data(train=values.get("train", config.data.train))
    return config.model_copy(update={"model": model, "data": data, "lr": values.get("lr", config.lr)})


def test_the_same_command_is_the_same_run(run):
    assert check_same_run(*run) == []


def test_what_was_moved_is_named_in_a_line_each(run, tmp_path):
    path, record, config = run
    (tmp_path / "new").mkdir()
    for name in ("sft", "reward", "many", "train.jsonl"):
        (tmp_path / name).rename(tmp_path / "new" / name)
    new = tmp_path / "new"
    moved = with_values(
        config, start=str(new / "sft"), reward=(str(new / "reward"), str(new / "many")), train=str(new / "train.jsonl")
    )
    data, reward, start = check_same_run(path, record, moved)
    assert data.startswith("data.train was moved, the content is the same: ")
    assert reward.startswith("model.reward was moved")
    assert start == f"model.start was moved, the content is the same: {tmp_path / 'sft'} → {new / 'sft'}"


def test_other_content_is_refused_at_another_and_at_the_same_place(run, tmp_path):
    path, record, config = run
    other = make_run(tmp_path / "other", b"other")
    with pytest.raises(WorkbenchError, match=r"model\.start=.*other: holds other content than this run was made from"):
        check_same_run(path, record, with_values(config, start=str(other)))
    with pytest.raises(WorkbenchError, match=r"model\.reward=.*holds other content"):
        check_same_run(path, record, with_values(config, reward=(*config.model.reward[:1], str(other))))
    (tmp_path / "train.jsonl").write_text("[]", encoding="utf-8")
    with pytest.raises(WorkbenchError, match=r"data\.train=.*holds other content"):
        check_same_run(path, record, config)


def test_a_value_that_differs_is_named(run):
    path, record, config = run
    with pytest.raises(WorkbenchError, match="these keys differ: lr"):
        check_same_run(path, record, with_values(config, lr=0.2))


def test_without_recorded_content_another_path_is_another_run(run):
    path, _, config = run
    with pytest.raises(WorkbenchError, match=r"these keys differ: data\.train"):
        check_same_run(path, {}, with_values(config, train="elsewhere.jsonl"))
