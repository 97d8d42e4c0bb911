"""`benchmarks/gpu.sh`: its commands are understood by the scripts they start, and no step stops the next one."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from benchmarks import decode_host_cost, ppo_7b, rollout_engines, sft_7b
from workbench.__main__ import make_parser
from workbench.doctor.plan import plan_of
from workbench.doctor.shapes import KNOWN

ROOT = Path(__file__).parents[2]
PARSERS = {
    "benchmarks.ppo_7b": ppo_7b.argument_parser,
    "benchmarks.sft_7b": sft_7b.argument_parser,
    "benchmarks.rollout_engines": rollout_engines.argument_parser,
    "benchmarks.decode_host_cost": decode_host_cost.argument_parser,
    "workbench": make_parser,
}


def gpu_sh(*arguments, **environment):
    command = ["bash", str(ROOT / "benchmarks/gpu.sh"), *arguments]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("size", [(), ("--tiny",)])
def test_every_command_is_understood_by_its_script(size):
    lines = gpu_sh(*size, "--list").stdout.splitlines()
    assert len(lines) == 6
    for line in lines:
        python, dash_m, module, *arguments = shlex.split(line)
        assert (python, dash_m) == ("python", "-m")
        parsed = PARSERS[module]().parse_args(arguments)
        if module == "workbench":
            assert Path(parsed.config).is_file() or (ROOT / parsed.config).is_file()
        else:
            assert parsed.out.parent == Path("benchmarks/results/gpu")


def test_the_shares_of_the_steps_are_the_whole_time():
    text = (ROOT / "benchmarks/gpu.sh").read_text(encoding="utf-8")
    shares = [int(line.split()[2]) for line in text.splitlines() if line.startswith("step ")]
    assert len(shares) == 6
    assert sum(shares) == 100


def test_a_step_that_fails_does_not_stop_the_next_one(tmp_path):
    done = gpu_sh("--tiny", PYTHON="false", OUT=str(tmp_path / "out"), WORK=str(tmp_path))
    assert done.returncode == 1
    assert done.stdout.count("FAILED with code 1") == 6
    assert "6 steps failed" in done.stdout
    done = gpu_sh("--tiny", PYTHON="true", OUT=str(tmp_path / "out"), WORK=str(tmp_path))
    assert done.returncode == 0
    assert done.stdout.count("   done in") == 6


def test_no_step_starts_when_the_time_is_over(tmp_path):
    done = gpu_sh("--tiny", MINUTES="0", PYTHON="true", OUT=str(tmp_path / "out"), WORK=str(tmp_path))
    assert done.returncode == 1
    assert done.stdout.count("no time left") == 6
    assert gpu_sh("--tinny").returncode == 2


def test_the_memory_that_ppo_7b_claims_is_what_the_plan_says_of_its_sizes():
    """In bfloat16, with everything that CUDA takes besides."""
    settings = ppo_7b.plan_settings(ppo_7b.Sizes(dtype="bfloat16"))
    plan = plan_of("ppo", KNOWN["llama-7b"], settings)
    assert 0.8 * ppo_7b.CLAIMED_GIB < plan.needed / 2**30 <= ppo_7b.CLAIMED_GIB


def test_switches_of_ppo_7b():
    arguments = ppo_7b.argument_parser().parse_args(
        ["--layers", "2", "--dtype", "bfloat16", "--kernels", "modules", "--episodes", "8", "--sample-batch", "4"]
    )
    assert (arguments.layers, arguments.dtype, arguments.kernels, arguments.sample_batch) == (
        2,
        "bfloat16",
        "modules",
        4,
    )
    small = ppo_7b.consistent(ppo_7b.Sizes(episodes=4, minibatch=64, micro_batch=8))
    assert (small.minibatch, small.micro_batch) == (4, 4)
