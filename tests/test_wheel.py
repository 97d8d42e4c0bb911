"""The built wheel, installed alone and run from another working directory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that holds what the wheel holds."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)], check=True
    )
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(folder / "site"), str(wheel)], check=True)
    return folder / "site"


def run(installed: Path, folder: Path, *words: str) -> str:
    """Output of `python -m …` with the installed package before all others on the path."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "WANDB_MODE": "disabled"}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_runs_by_itself(installed, tmp_path):
    where = run(installed, tmp_path, "-c", "import workbench; print(workbench.__file__)")
    assert Path(where.strip()).is_relative_to(installed)
    commit = run(installed, tmp_path, "-c", "from workbench.run.lineage import git_commit; print(git_commit())")
    assert commit.strip() == "None", "a wheel is of no checkout"


def test_the_wheel_holds_what_its_page_serves_and_the_licences(installed):
    assets = Path("annotate/web/assets")
    served = {path.relative_to(ROOT) for path in (ROOT / assets).rglob("*") if path.is_file()}
    assert {assets / "katex/katex.min.js", assets / "katex/fonts/KaTeX_Main-Regular.woff2"} <= served
    assert {path for path in served if not (installed / path).is_file()} == set()
    licences = [path.read_text(encoding="utf-8") for path in installed.glob("*.dist-info/licenses/**/LICENSE")]
    for name in ("Apache License", "The MIT License", "SIL OPEN FONT LICENSE"):
        assert any(name in text for text in licences), name


def test_the_demo_starts_from_any_folder(installed, tmp_path):
    """The demo's own commands for its base and its first training run, from a folder that holds nothing."""
    small = ["train.max_steps=2", "sample.prompts=0", "run.threads=1"]
    steps = "from workbench.demo import demo_steps; from pathlib import Path; import json; "
    steps += "print(json.dumps([step.words for step in demo_steps(Path('runs/demo'), 0)]))"
    base, sft, *_ = json.loads(run(installed, tmp_path, "-c", steps))
    run(installed, tmp_path, "-m", *base)
    run(installed, tmp_path, "-m", *sft, *small)
    assert (tmp_path / "runs/demo/sft/adapter/adapter_model.safetensors").is_file()


def test_a_project_starts_from_the_wheel(installed, tmp_path):
    run(installed, tmp_path, "-m", "workbench", "init", "mine")
    assert (tmp_path / "mine/configs/llama-7b/sft.yaml").is_file()
    assert "alignment" in (tmp_path / "mine/README.md").read_text(encoding="utf-8")
