"""What README, docs and configurations say, held against the code: commands, metrics, files, links."""

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from reward.verbs.command import VERBS
from reward.verbs.command import make_parser as make_reward_parser
from sft.__main__ import make_parser as make_sft_parser
from workbench.__main__ import make_parser
from workbench.run.folder import RunFolder

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PHASES = ("sft", "reward", "ppo", "annotate")


def commands() -> list[tuple[str, str]]:
    """(where, command) of every shell line in the documents and every command in a configuration's header."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                words = line.split("#")[0].strip()
                if words:
                    found.append((page.relative_to(ROOT).as_posix(), words))
    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        for line in path.read_text(encoding="utf-8").splitlines():
            match = re.match(r"#[^`]*?(python -m (?:sft|reward|ppo|annotate) .*?)(?:\s{2,}\(.*)?$", line)
            if match:
                found.append((path.relative_to(ROOT).as_posix(), match.group(1)))
    return found


COMMANDS = commands()


def test_there_are_commands_to_check():
    assert len(COMMANDS) > 20
    assert any("configs/llama-7b" in command for _, command in COMMANDS)


@pytest.mark.slow
@pytest.mark.parametrize(("place", "command"), COMMANDS, ids=[f"{p}: {c}" for p, c in COMMANDS])
def test_every_documented_command_is_one(place, command, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    words = shlex.split(command)
    if words[0] == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert words[1] in targets
    elif words[0] == "wandb":
        from wandb.cli.cli import cli

        assert words[1] in cli.commands
    elif words[0] == "curl":
        assert words[-1].startswith(
            "http://127.0.0.1:7860/"
        )  # sent to a real application in tests/annotate/web/test_api.py
    elif words[:3] == ["python", "-m", "workbench"]:
        assert callable(make_parser().parse_args(words[3:]).run)
    elif words[:3] == ["python", "-m", "reward"] and words[3] in VERBS:
        assert callable(make_reward_parser().parse_args(words[3:]).run)
    elif words[:4] == ["python", "-m", "sft", "predict"]:
        assert callable(make_sft_parser().parse_args(words[3:]).run)
    elif words[:2] == ["python", "-m"] and words[2] in PHASES:
        main = import_module(f"{words[2]}.__main__").main
        assert not main([*words[3:], "--dry-run"])
        assert "# default" in capsys.readouterr().out
    else:
        pytest.fail(f"{place} shows a command that no test knows: {command}")


def documented_metrics() -> set[str]:
    return set(
        re.findall(r"^\| `([a-z]+/[a-z0-9_]+)`", (ROOT / "docs/metrics.md").read_text(encoding="utf-8"), re.MULTILINE)
    )


@pytest.mark.parametrize("phase", ["sft", "reward"])
def test_every_logged_metric_is_documented(phase, request):
    rows = RunFolder.open(request.getfixturevalue(f"{phase}_run")).read_metrics()
    logged = {name for row in rows for name in row} - {"step", "seconds"}
    assert len(logged) > 5
    assert logged <= documented_metrics()


def test_every_documented_metric_is_logged_by_some_code():
    code = "\n".join(
        p.read_text(encoding="utf-8") for name in ("sft", "reward", "ppo") for p in (ROOT / name).rglob("*.py")
    )
    whole = set(re.findall(r"\"([a-z]+/[a-z0-9_]+)\"", code))
    leaves = set(re.findall(r"\"([a-z0-9_]+)\"", code))
    for name in documented_metrics():
        group, leaf = name.split("/")
        stage = re.sub("_(tokens_per_second|seconds)$", "", leaf)  # ppo.evaluate.Clock names metrics after stages
        assert name in whole or leaf in leaves or stage in leaves, name
        assert group in code
    logged = {name for name in whole if name.split("/")[0] in {n.split("/")[0] for n in documented_metrics()}}
    internal = {
        f"{role}/{count}" for role in ("policy", "value", "ptx") for count in ("tokens", "steps")
    }  # divisors of means, never logged
    assert logged - internal <= documented_metrics() | {"rewards/accuracies", "rewards/margins"}


def test_every_link_and_picture_is_there():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} points to {target}"


def test_the_readme_names_every_folder():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in ("sft", "reward", "ppo", "annotate", "workbench", "configs", "docs", "tests", "benchmarks"):
        assert f"{name}/" in text
        assert (ROOT / name).is_dir()
