"""Claim: which engine samples fastest, and what reading the responses by every role costs, side by side in one run.

Measures the engines of `ppo/sampler.py` that run in this process, on the roles of a ppo run's parents, and the passes
of policy, reference, value and reward over the same rows: one after another, and in one batch with an adapter for each
row.

    python -m benchmarks.rollout_engines [--start runs/demo/sft] [--reward runs/demo/reward] [--responses 128]
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.record import RESULTS, spread, write_result
from ppo.sampler import open_engine
from ppo.start import open_roles
from workbench.data.embedded import resolve_data
from workbench.data.readers import read_prompts
from workbench.data.tokenise import encode_prompt
from workbench.model.masks import position_ids
from workbench.model.processes import Processes
from workbench.model.roles import Roles
from workbench.model.rows import Rows
from workbench.run.command_line import run_main
from workbench.run.folder import RunFolder

ENGINES = ("auto", "transformers", "merged")


def argument_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rollout_engines", description=__doc__)
    parser.add_argument("--start", default="runs/demo/sft")
    parser.add_argument("--reward", default="runs/demo/reward")
    parser.add_argument("--prompts", default="tiny:prompts_heldout")
    parser.add_argument("--responses", type=int, default=128)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS / "rollout_engines.json")
    return parser


def main(argv: list[str]) -> int:
    """Run and write benchmarks/results/rollout_engines.json."""
    arguments = argument_parser().parse_args(argv)
    torch.set_num_threads(arguments.threads)
    roles = open_roles(
        RunFolder.open(arguments.start),
        [RunFolder.open(arguments.reward)],
        base=None,
        value="adapter",
        activation_checkpointing=False,
    )
    records = read_prompts(resolve_data(arguments.prompts))[: arguments.responses]
    prompts = [encode_prompt(roles.tokenizer, record.prompt) for record in records]
    content: dict[str, Any] = {
        "responses": len(prompts),
        "max_new_tokens": arguments.max_new_tokens,
        "threads": arguments.threads,
        "engines": engine_speeds(roles, prompts, arguments.max_new_tokens, arguments.repeats),
        "reading": reading_speeds(roles, prompts, arguments.max_new_tokens, arguments.repeats),
    }
    write_result(arguments.out, content)
    return 0


def engine_speeds(roles: Roles, prompts: list[list[int]], max_new_tokens: int, repeats: int) -> dict[str, Any]:
    """Response tokens a second of each engine, in turns; a merge counts, as each rollout needs one."""
    engines = {
        name: open_engine(name, roles, dtype=roles.lm_head.dtype, url="", folder=Path(), processes=Processes())
        for name in ENGINES
    }
    found: dict[str, list[float]] = {name: [] for name in ENGINES}
    for repeat in range(repeats + 1):  # the first is not counted
        for name, engine in engines.items():
            started = time.monotonic()
            engine.refresh()
            responses = engine.sample(prompts, max_new_tokens=max_new_tokens, temperature=1.0, seed=repeat)
            if repeat:
                found[name].append(sum(map(len, responses.ids)) / (time.monotonic() - started))
    return {name: {"tokens_per_second": spread(values)} for name, values in found.items()}


def reading_speeds(roles: Roles, prompts: list[list[int]], max_new_tokens: int, repeats: int) -> dict[str, Any]:
    """Seconds that all roles need to read the same rows: one pass a role, and one pass for all."""
    engine = open_engine("transformers", roles, dtype=roles.lm_head.dtype, url="", folder=Path(), processes=Processes())
    responses = engine.sample(prompts, max_new_tokens=max_new_tokens, temperature=1.0, seed=0)
    rows = Rows.of(prompts, responses.ids, roles.tokenizer.pad_token_id, roles.device)
    names = ["policy", "reference", "value", "reward_1"]
    seconds: dict[str, list[float]] = {"one pass a role": [], "one pass for all": []}
    difference = 0.0
    for repeat in range(repeats + 1):
        started = time.monotonic()
        apart = _one_after_another(roles, rows, names)
        middle = time.monotonic()
        together = _in_one_pass(roles, rows, names)
        if repeat:
            seconds["one pass a role"].append(middle - started)
            seconds["one pass for all"].append(time.monotonic() - middle)
        difference = max(float((apart[name] - together[name])[rows.mask].abs().max()) for name in names)
    return {**{way: {"seconds": spread(values)} for way, values in seconds.items()}, "largest_difference": difference}


def _one_after_another(roles: Roles, rows: Rows, names: list[str]) -> dict[str, torch.Tensor]:
    hidden = {}
    for name in names:
        with roles.use(name) as forward:
            hidden[name] = forward(rows.ids, rows.mask)
    return hidden


def _in_one_pass(roles: Roles, rows: Rows, names: list[str]) -> dict[str, torch.Tensor]:
    """peft's mixed batch: each row with an adapter of its own."""
    ids, mask = rows.ids.repeat(len(names), 1), rows.mask.repeat(len(names), 1)
    adapters = [name for name in names for _ in range(len(rows))]
    with roles.use(names[0]), roles.model._enable_peft_forward_hooks(adapter_names=adapters):
        states = roles.causal_model.model(
            input_ids=ids, attention_mask=mask.long(), position_ids=position_ids(mask), use_cache=False
        ).last_hidden_state
    return dict(zip(names, states.chunk(len(names)), strict=True))


if __name__ == "__main__":
    run_main(main)
