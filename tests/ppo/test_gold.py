"""PPO on the gold reward itself: a test of the optimiser on the embedded default, with its negative control."""

from pathlib import Path

import pytest
import torch

import ppo.train
import sft.train
from ppo.config import PpoConfig
from sft.config import SftConfig
from workbench.data.embedded import resolve_data
from workbench.data.readers import read_prompts
from workbench.data.records import Message
from workbench.model.generate import sample
from workbench.model.open import open_runs
from workbench.model.roles import Roles
from workbench.run.config import load_config
from workbench.tiny.gold import gold_reward

CONFIGS = Path(__file__).parents[2] / "configs/tiny"
QUIET = ["tracking.wandb=disabled", "run.threads=2"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def gold_of(roles: Roles, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The gold reward of rows of prompt and response, scaled like a normalised score."""
    scores = []
    for row, real in zip(ids, mask, strict=True):
        text = roles.tokenizer.decode(row[real], skip_special_tokens=True)
        prompt, _, response = text.removeprefix("User: ").partition("\nAssistant:")
        found = gold_reward([Message(role="user", content=prompt)], response.removeprefix(" "))
        assert found is not None, f"no prompt of the grammar: {prompt!r}"
        scores.append((found.total - 0.3) / 0.45)
    return torch.tensor(scores)


def mean_gold(run: Path) -> float:
    prompts = read_prompts(resolve_data("tiny:prompts_heldout"))
    sampled = sample(
        open_runs({"policy": run}),
        "policy",
        prompts,
        temperatures=[1.0],
        responses_per_prompt=1,
        max_new_tokens=64,
        batch_size=200,
        seed=0,
    )
    totals = [gold_reward(prompt.prompt, answers[0].text, answers[0].ended) for prompt, answers in sampled]
    return sum(gold.total for gold in totals if gold is not None) / len(totals)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """An sft run, and a reward run whose scores the tests replace."""
    from reward.config import RewardConfig
    from reward.train import train as train_reward
    from workbench.data.readers import read_demonstrations

    folder = tmp_path_factory.mktemp("gold")
    config, _ = load_config(SftConfig, CONFIGS / "sft.yaml", [f"run.dir={folder / 'sft'}", *QUIET])
    sft.train.train(config, resume=False)
    lines = []
    for number, record in enumerate(read_demonstrations(resolve_data("tiny:demonstrations"))[:64]):
        better, worse = record.response, f"{number} {record.response}"
        lines.append(
            f'{{"prompt": {_json(record.prompt[-1].content)}, "chosen": {_json(better)}, "rejected": {_json(worse)}}}'
        )
    (folder / "pairs.jsonl").write_text("\n".join(lines), encoding="utf-8")
    overrides = [
        f"run.dir={folder / 'reward'}",
        f"model.start={folder / 'sft'}",
        f"data.train={folder / 'pairs.jsonl'}",
        "train.max_steps=2",
        "normalise.answers=32",
        "passport.at_end=false",
        *QUIET,
    ]
    config_reward, _ = load_config(RewardConfig, CONFIGS / "reward.yaml", overrides)
    train_reward(config_reward, resume=False)
    return folder


def _json(text: str) -> str:
    import json

    return json.dumps(text)


def post_trained(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, *overrides: str) -> float:
    own_scores = Roles.scores

    def scores(self: Roles, role: str, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return gold_of(self, ids, mask) if self.heads and "policy" in self.names else own_scores(self, role, ids, mask)

    monkeypatch.setattr(Roles, "scores", scores)
    places = [f"run.dir={folder / name}", f"model.start={folder / 'sft'}", f"model.reward={folder / 'reward'}"]
    places.append("model.force=true")  # its scores are replaced: there is nothing to examine
    config, _ = load_config(PpoConfig, CONFIGS / "ppo.yaml", [*places, *QUIET, *overrides])
    ppo.train.train(config, resume=False)
    return mean_gold(folder / name)


def test_ppo_on_the_gold_reward_gains_four_tenths_and_loses_with_the_sign_flipped(tuned, monkeypatch):
    before = mean_gold(tuned / "sft")
    assert post_trained(tuned, monkeypatch, "up", "reward.kl_coef=0.01", "train.iterations=30") >= before + 0.40
    assert post_trained(tuned, monkeypatch, "down", "reward.sign=-1", "train.iterations=12") <= before - 0.10
