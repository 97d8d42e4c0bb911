"""Our PPO with given responses instead of sampled ones. Started by `ppo_vs_trl` to compare losses step by step.

python -m benchmarks.our_ppo CONFIG.yaml RESPONSES.json
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import ppo.rollout
from ppo.config import PpoConfig
from ppo.train import train
from workbench.model.generate import Responses
from workbench.run.config import load_config


def main(argv: list[str]) -> None:
    """Train with the responses of the file."""
    config, responses = argv
    table = {tuple(prompt): response for prompt, response in json.loads(Path(responses).read_text(encoding="utf-8"))}

    def replay(_: Any, __: str, prompts: Sequence[Sequence[int]], **___: Any) -> Responses:
        ids = torch.tensor([table[tuple(prompt)] for prompt in prompts])
        return Responses(ids, torch.ones_like(ids, dtype=torch.bool), torch.zeros(len(ids), dtype=torch.bool))

    assert hasattr(ppo.rollout, "generate")
    ppo.rollout.generate = replay  # type: ignore[assignment]
    train(load_config(PpoConfig, Path(config))[0], resume=False)


if __name__ == "__main__":
    main(sys.argv[1:])
