"""Our PPO with a clock, and with given responses instead of sampled ones where asked. Started by `ppo_vs_trl`.

python -m benchmarks.our_ppo CONFIG.yaml OUT.json [RESPONSES.json]
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ppo.start
import ppo.train
from ppo.config import PpoConfig
from ppo.sampler import Samples
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
        ppo.start.open_engine = lambda *_, **__: Replay(Path(responses[0]))
    ppo.train.train(load_config(PpoConfig, Path(config))[0], resume=False)
    Path(out).write_text(json.dumps(ends) + "\n", encoding="utf-8")


class Replay:
    """An engine that answers each prompt with the response of a file."""

    def __init__(self, path: Path) -> None:
        self.table = {tuple(prompt): answer for prompt, answer in json.loads(path.read_text(encoding="utf-8"))}

    in_batches = True

    def refresh(self) -> None:
        """Nothing changes."""

    def sample(self, prompts: Sequence[Sequence[int]], **_: Any) -> Samples:
        """See `ppo.sampler.Engine`."""
        return Samples([self.table[tuple(prompt)] for prompt in prompts])


if __name__ == "__main__":
    main(sys.argv[1:])
