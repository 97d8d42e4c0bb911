"""Claim: sampling costs the host per step, not per response, so more rows per step and fewer operators per step pay.

A random Llama with the 32 layers of a 7B and widths so small that its products cost little, in bfloat16 through the
modules of transformers, peft and bitsandbytes: what is left is what Python and torch's dispatcher spend on a decode
step, which is what a GPU waits for while it samples a few rows. Measures CPU time (other load on the machine hardly
counts) and counts the operators that reach a device, of NF4 base with adapter and of a merged copy.

    python -m benchmarks.decode_host_cost [--rows 16 128] [--tokens 16] [--repeats 3]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.record import RESULTS, spread, write_result
from ppo.sampler import MergedCopy
from workbench.doctor.measure import llama_config
from workbench.doctor.memory import Shape
from workbench.doctor.random_base import write_random_base
from workbench.model.adapters import lora_config
from workbench.model.base import BaseSpec, load_base, load_tokenizer
from workbench.model.generate import generate_with
from workbench.model.roles import Roles
from workbench.run.command_line import run_main

OUT = RESULTS / "decode_host_cost.json"
PROMPT = [1] + [5] * 15
LAYERS = 32
"""Layers of a 7B."""

Sampler = Callable[[int, int], Any]
"""(rows, new tokens) → responses."""


class Operators(TorchDispatchMode):
    """Counts the operators that would each launch something on a device; views launch nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """See torch."""
        self.number += not func.is_view
        return func(*args, **(kwargs or {}))


def argument_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--rows", type=int, nargs=2, default=(16, 128), help="few and many (default: 16 128)")
    parser.add_argument("--tokens", type=int, default=16, help="decode steps that are timed")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=OUT)
    return parser


def main(argv: list[str]) -> int:
    """Run and write benchmarks/results/decode_host_cost.json."""
    arguments = argument_parser().parse_args(argv)
    torch.set_num_threads(1)
    few, many = arguments.rows
    with tempfile.TemporaryDirectory() as name:
        samplers = open_samplers(Path(name), arguments.layers)
    steps = {
        name: {rows: step_cost(sampler, rows, arguments.tokens, arguments.repeats) for rows in (few, many)}
        for name, sampler in samplers.items()
    }

    def per_token(name: str, rows: int) -> float:
        return float(steps[name][rows]["milliseconds"]["median"]) / rows

    before = per_token("nf4 with adapter", few)
    write_result(
        arguments.out,
        {
            "claim": "the host's cost of a sampled token falls with rows per step and with a merged copy",
            "layers": arguments.layers,
            "steps": steps,
            "host_cost_per_token_before_over_after": {
                f"nf4 with adapter, {many} rows": before / per_token("nf4 with adapter", many),
                f"merged copy, {few} rows": before / per_token("merged copy", few),
                f"merged copy, {many} rows": before / per_token("merged copy", many),
            },
        },
    )
    return 0


def open_samplers(folder: Path, layers: int) -> dict[str, Sampler]:
    """Both ways to sample from one policy, with the four adapters of a PPO run on the base."""
    shape = Shape(512, 64, 128, layers, 2, 2, 32, tied=False)
    base = write_random_base(folder / "base", llama_config(shape), dtype=torch.bfloat16)
    tokenizer = load_tokenizer(str(base))
    model = load_base(BaseSpec(str(base), None, "nf4", "bfloat16"), tokenizer)
    roles = Roles(get_peft_model(model, lora_config(16, 32, 0.0), adapter_name="policy"), tokenizer)
    for role in ("reference", "value", "reward_1"):
        roles.copy("policy", role)
    copy = MergedCopy(roles, "policy", dtype=torch.bfloat16)
    copy.refresh()

    def sample(model: Any, rows: int, tokens: int) -> Any:
        options: Any = {"max_new_tokens": tokens, "temperature": 1.0, "seed": 0, "device": roles.device}
        return generate_with(model, tokenizer, [PROMPT] * rows, **options)

    def with_adapter(rows: int, tokens: int) -> Any:
        with roles.use("policy"):
            return sample(roles.model, rows, tokens)

    return {
        "nf4 with adapter": with_adapter,
        "merged copy": lambda rows, tokens: sample(copy.model, rows, tokens),
    }


def step_cost(sampler: Sampler, rows: int, tokens: int, repeats: int) -> dict[str, Any]:
    """Milliseconds of CPU time and operators of one decode step: of a long answer less those of its first token."""

    def seconds(new: int) -> float:
        started = time.process_time()
        sampler(rows, new)
        return time.process_time() - started

    def operators(new: int) -> int:
        with Operators() as counted:
            sampler(rows, new)
        return counted.number

    seconds(2)
    costs = [1e3 * (seconds(1 + tokens) - seconds(1)) / tokens for _ in range(repeats)]
    return {
        "milliseconds": spread(costs),
        "milliseconds_per_token": statistics.median(costs) / rows,
        "operators": (operators(1 + tokens) - operators(1)) / tokens,
    }


if __name__ == "__main__":
    run_main(main)
