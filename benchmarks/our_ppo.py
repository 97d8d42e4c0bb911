"""Our PPO with a clock, and with given responses instead of sampled ones where asked. Started by `ppo_vs_trl`.

python -m benchmarks.our_ppo CONFIG.yaml OUT.json [RESPONSES.json]
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import ppo.rollout
from ppo.config import PpoConfig
from ppo.train import train
from workbench.model.generate import Responses
from workbench.run.config import load_config
from workbench.run.tracking import Tracker


def main(argv: list[str]) -> None:
    """Train; write the wall and CPU seconds at which each iteration was logged."""
    config, out, *responses = argv
    ends: list[tuple[float, float]] = []
    log = Tracker.log

    def timed(self: Tracker, metrics: dict[str, float], step: int) -> None:
        if "policy/loss" in metrics:
            ends.append((time.monotonic(), time.process_time()))
        log(self, metrics, step)

    Tracker.log = timed  # type: ignore[method-assign, assignment]
    if responses:
        assert hasattr(ppo.rollout, "generate")
        ppo.rollout.generate = replay_of(Path(responses[0]))
    train(load_config(PpoConfig, Path(config))[0], resume=False)
    Path(out).write_text(json.dumps(ends) + "\n", encoding="utf-8")


def replay_of(path: Path) -> Any:
    """A stand-in for generation that answers each prompt with the response of a file."""
    table = {tuple(prompt): response for prompt, response in json.loads(path.read_text(encoding="utf-8"))}

    def replay(_: Any, __: str, prompts: Sequence[Sequence[int]], **___: Any) -> Responses:
        ids = torch.tensor([table[tuple(prompt)] for prompt in prompts])
        return Responses(ids, torch.ones_like(ids, dtype=torch.bool), torch.zeros(len(ids), dtype=torch.bool))

    return replay


if __name__ == "__main__":
    main(sys.argv[1:])
