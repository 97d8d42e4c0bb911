"""Configuration: which value wins, what is refused, and how it is said."""

import json
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from annotate.config import AnnotateConfig
from workbench.run.command_line import parse_command_line
from workbench.run.config import Section, describe, known_keys, load_config, write_config
from workbench.run.errors import SeveralErrors, WorkbenchError


class Inner(Section):
    lr: float = 0.1
    steps: int = 10
    flag: bool = False
    temperatures: tuple[float, ...] = (1.0,)


class Outer(Section):
    name: str
    train: Inner = Inner()
    data: Inner = Inner()


@pytest.fixture
def write(tmp_path):
    def _write(text, name="config.yaml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return _write


def failure(path, *overrides, config_class=Outer) -> WorkbenchError:
    with pytest.raises(WorkbenchError) as caught:
        load_config(config_class, path, overrides)
    return caught.value


def test_command_line_beats_file_beats_default_and_origins_say_so(write):
    path = write("name: a\ntrain:\n  lr: 0.5\n  steps: 20\n")
    config, origins = load_config(Outer, path, ["train.steps=30"])
    assert (config.train.lr, config.train.steps, config.train.flag) == (0.5, 30, False)
    assert origins["train.lr"] == str(path)
    assert origins["train.steps"] == "command line"
    assert origins["train.flag"] == "default"
    assert origins["data.lr"] == "default"
    assert set(origins) == set(known_keys(Outer))


def test_numbers_as_people_write_them(write):
    config, _ = load_config(Outer, write("name: a\ntrain: {lr: 1e-4, temperatures: [0.7, 1]}\n"), ["data.lr=2e-5"])
    assert config.train.lr == 1e-4
    assert config.data.lr == 2e-5
    assert config.train.temperatures == (0.7, 1.0)


def test_unknown_key_names_its_place_and_the_nearest(write):
    path = write("name: a\ntrain:\n  stepz: 3\n")
    error = failure(path)
    assert str(path) in error.place
    assert "train.stepz" in error.place
    assert "unknown key" in error.problem
    assert "train.steps" in error.remedy
    assert "command line" in failure(write("name: a"), "train.leer=3").place
    # The right key under the wrong section is proposed with its section.
    assert "train.lr" in failure(write("name: a"), "lr=3").remedy


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.steps=true", "integer"),
        ("train.steps=1.5", "integer"),
        ("train.lr=fast", "number"),
        ("train.lr=true", "number"),
        ("train.flag=3", "boolean"),
        ("name=7", "string"),
    ],
)
def test_wrong_type_is_refused_and_nothing_converted(write, override, expected):
    error = failure(write("name: a\n"), override)
    key, value = override.split("=")
    assert error.place == f"command line: {key}"
    assert expected in error.expected
    assert value.lower() in error.problem.lower()


def test_a_section_where_a_list_belongs_names_the_file_and_the_form(write):
    path = write("name: a\ntrain: {temperatures: {low: 0.5}}\n")
    error = failure(path)
    assert error.place == f"{path}: train.temperatures"
    assert "a list" in error.expected


def test_value_without_default_is_asked_for(write):
    error = failure(write("train: {lr: 1.0}\n"))
    assert "name" in error.place
    assert "has no value" in error.problem


def test_all_problems_are_named_at_once(write):
    path = write("name: a\nbatch: 2\n")
    several = failure(path, "train.steps=x", "data.steps=y")
    assert isinstance(several, SeveralErrors)
    places = [error.place for error in several.errors]
    assert places == ["command line: train.steps", "command line: data.steps", f"{path}: batch"]
    assert str(several).count("expected:") == 3


@pytest.mark.parametrize(
    ("text", "line", "problem", "remedy"),
    [
        ("name: a\ntrain:\n\tlr: 1\n", 3, "'lr: 1'", "does not allow tabs"),
        ("name: a: b\n", 1, "'name: a: b'", "quotes"),
        ("name: a\nname: b\n", 2, "duplicate key name", None),
        ("name: 'a\n", 2, "end of stream", None),
    ],
)
def test_broken_yaml_shows_the_line_and_what_to_do(write, text, line, problem, remedy):
    path = write(text)
    error = failure(path)
    assert error.place == f"{path}:{line}"
    assert problem in error.problem
    assert (error.remedy is None) if remedy is None else (remedy in error.remedy)


@pytest.mark.parametrize(
    "text", ["name: ${\n", "name: a\nnull: 1\n", "name: a\x00\n", "name: &a [*a]\n", "name: a\ntrain:\n"]
)
def test_odd_files_are_one_clear_error(write, text):
    path = write(text)
    assert str(path) in failure(path).place


@pytest.mark.parametrize("override", ["name=[1", "name=*x", "name=@", "name=${"])
def test_an_override_that_is_no_yaml_is_named_and_quoted(write, override):
    path = write("name: a\n")
    error = failure(path, "train.lr=1", override)
    assert error.place == f"command line: {override!r}"
    assert "\n" not in error.problem
    key, quoted = error.remedy.split(": ", 1)[1].split("=", 1)
    if "${" not in quoted:
        assert load_config(Outer, path, [f"{key}={quoted.strip(chr(39))}"])[0].name == override.partition("=")[2]


def test_numbers_must_be_finite(write):
    assert "finite" in failure(write("name: a\n"), "train.lr=.inf").expected
    assert "finite" in failure(write("name: a\n"), "train.lr=.nan").expected


def test_missing_file_names_the_nearest(write, tmp_path):
    path = write("name: a\n", "reward.yaml")
    error = failure(tmp_path / "rewrad.yaml")
    assert "no such configuration file" in error.problem
    assert str(path) in error.remedy
    assert failure(tmp_path / "no-folder" / "x.yaml").remedy is None


def test_broken_yaml_names_the_line(write):
    path = write("name: a\ntrain:\n  lr: [1, 2\nname2: b\n")
    error = failure(path)
    assert error.place.startswith(f"{path}:")
    assert int(error.place.rsplit(":", 1)[1]) in (3, 4)
    assert "not valid YAML" in error.problem


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words\n"])
def test_file_without_sections_is_refused(write, text):
    error = failure(write(text))
    assert "no mapping" in error.problem or "has no value" in error.problem


def test_latin1_file_is_refused(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_bytes("name: caf\xe9\n".encode("latin-1"))
    assert "not UTF-8" in failure(path).problem


def test_override_without_equals_is_refused(write):
    error = failure(write("name: a\n"), "train.steps")
    assert "train.steps" in error.place
    assert "a.b=value" in error.expected


@pytest.mark.parametrize("override", ["name=${missing}", "train=5", "train.lr.deeper=1", "name=[1"])
def test_odd_overrides_are_one_clear_error(write, override):
    failure(write("name: a\n"), override)


def test_list_as_config_file_of_a_folder_is_refused(tmp_path):
    assert "no such configuration file" in failure(tmp_path).problem


def test_dry_run_prints_yaml_with_the_origin_of_each_value(write, capsys):
    path = write("name: a\n")
    command = parse_command_line(Outer, [str(path), "train.lr=2", "--dry-run"], prog="x", description="y")
    assert command.dry_run
    assert not command.resume
    shown = [line.partition("  # ")[::2] for line in capsys.readouterr().out.strip().splitlines()]
    assert [(text.rstrip(), origin) for text, origin in shown if origin] == [
        ("name: a", str(path)),
        ("  lr: 2.0", "command line"),
        ("  steps: 10", "default"),
        ("  flag: false", "default"),
        ("  temperatures: [1.0]", "default"),
        ("  lr: 0.1", "default"),
        ("  steps: 10", "default"),
        ("  flag: false", "default"),
        ("  temperatures: [1.0]", "default"),
    ]


TEXTS = (
    "1e-4",
    "yes",
    "null",
    "a: b",
    "# no comment",
    "a\nb",
    "",
    " ",
    "~",
    "x" * 200 + " y",
    "a #b",
    "Grüße 東京",
    "C:\\x",
    "a,b]",
    "2026-01-01",
    "0x1F",
    "1_000",
    "a:",
    "-",
)


@pytest.mark.parametrize("text", TEXTS)
def test_what_dry_run_prints_reads_back_the_same(write, text):
    config = Outer(name=text, train=Inner(lr=1e-05, temperatures=(1e22, 0.1)))
    printed = describe(config, dict.fromkeys(known_keys(Outer), "default"))
    assert load_config(Outer, write(printed + "\n"))[0] == config
    assert yaml.safe_load(printed) == json.loads(config.model_dump_json())


def test_options_may_stand_between_overrides(write):
    path = write("name: a\n")
    command = parse_command_line(Outer, ["--resume", str(path), "train.lr=2", "data.lr=3"], prog="x", description="y")
    assert (command.resume, command.dry_run, command.config.data.lr) == (True, False, 3.0)


def test_configuration_cannot_be_changed(write):
    config, _ = load_config(Outer, write("name: a\n"))
    with pytest.raises(ValidationError):
        config.train.lr = 3.0
    with pytest.raises(ValidationError):
        config.name = "b"


def test_written_configuration_reads_back_the_same(write, tmp_path):
    config, _ = load_config(Outer, write("name: 'Grüße: ${x}'\n".replace("${x}", "x")), ["train.temperatures=[0.5,1]"])
    write_config(config, tmp_path / "resolved.yaml")
    again, origins = load_config(Outer, tmp_path / "resolved.yaml")
    assert again == config
    assert set(origins.values()) == {str(tmp_path / "resolved.yaml")}
    assert json.dumps(describe(again, origins))


def test_any_text_survives_writing_and_reading(tmp_path: Path):
    for text in ("1e-4", "yes", "null", "a: b", "# no comment", "a\nb"):
        config = Outer(name=text)
        write_config(config, tmp_path / "resolved.yaml")
        assert load_config(Outer, tmp_path / "resolved.yaml")[0].name == text


def test_a_list_that_is_too_short_says_how_many_entries_it_needs():
    with pytest.raises(WorkbenchError) as caught:
        load_config(AnnotateConfig, Path("configs/tiny/annotate.yaml"), ["pairs.temperatures=[]"])
    assert caught.value.expected == "at least 1 entry, not 0"
