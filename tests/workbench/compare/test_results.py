"""From evaluations to the table, the page and the recommendation, on policies whose order is known."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from benchmarks.tables import compare_table
from tests.conftest import load_phase
from tests.workbench.evaluate.fakes import FakePolicy, gold, make_demonstrations, make_prompts, score
from tests.workbench.evaluate.test_report import Page
from workbench.compare.config import CompareConfig
from workbench.compare.page import write_results
from workbench.compare.plan import Shared, all_methods, plan
from workbench.compare.results import compare_methods, frontier, win_rates
from workbench.compare.table import as_json, lines, recommendation, signed
from workbench.evaluate.evaluation import Evaluation, TrajectoryPoint
from workbench.evaluate.policy import evaluate_policy
from workbench.run.errors import WorkbenchError
from workbench.run.steps import Ledger

SEEDS = (0, 1, 2)
PROMPTS = make_prompts(60)


class Longer(FakePolicy):
    """Adds `more` words to each answer, and with them gold."""

    def __init__(self, more, **options):
        super().__init__(**options)
        self.more = more

    def _answer(self, rng):
        sampled = super()._answer(rng)
        words = len(sampled.text.split()) + self.more
        return replace(sampled, text=" ".join([self.word] * words), ids=tuple(range(words)))


def evaluation(more, seed, *, judged=True):
    policy = Longer(more, samples_per_prompt=2, seed=seed * 100 + more, nats=0.1 * more)
    found = evaluate_policy(
        policy, PROMPTS, demonstrations=make_demonstrations(4), gold=gold if judged else None, score=score
    )
    return replace(found, trajectory=[TrajectoryPoint(step, 0.0, 0.1 * step, 0.1, 1.0 * step, 8) for step in (0, 1, 2)])


def comparison(folder, gains, *, judged=True):
    """A finished comparison: method → words that it adds; its evaluations and its ledger."""
    values = yaml.safe_load(Path("configs/tiny/compare.yaml").read_text(encoding="utf-8"))
    values["compare"] |= {
        "out": str(folder),
        "methods": [{"name": name, "config": "configs/tiny/dpo.yaml"} for name in gains],
    }
    folder.mkdir(exist_ok=True)
    config = load_phase(CompareConfig, folder / "config.yaml", values)
    ledger = Ledger(folder / "steps.json")
    for step in plan(config):
        ledger.add(step, {"seconds": 10.0 + step.number, "peak_rss_bytes": 2**30, "peak_gpu_bytes": None})
    for seed in SEEDS:
        shared = Shared.of(config, seed)
        for row in all_methods(config):
            path = shared.evaluation(row.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            policy = evaluation({"sft": 0, **gains}[row.name], seed, judged=judged)
            Evaluation(str(path), "ppo", seed, {}, policy=policy).save(path)
    return config, ledger


def test_the_best_is_recommended_and_the_equal_are_not_told_apart(tmp_path):
    config, ledger = comparison(tmp_path, {"much": 3, "same": 3, "little": 1})
    found = compare_methods(config, ledger)
    names = [method.name for method in found.methods]
    assert set(names[:2]) == {"much", "same"}
    assert names[2:] == ["little", "sft"]
    shown = {frozenset((pair.first, pair.second)): pair.shown for pair in found.pairs}
    assert not shown[frozenset(("much", "same"))]
    assert shown[frozenset(("much", "sft"))]
    assert shown[frozenset(("little", "much"))]
    best, other = names[:2]
    assert recommendation(found).startswith(f"Take {best}: gold reward")
    assert f"No difference shown from {other}." in recommendation(found)
    gains = {method.name: method.standing.gain.mean for method in found.methods}
    assert gains["little"] == pytest.approx(0.1, abs=0.05)
    assert gains["sft"] == 0
    assert found.test.aa_false_share <= 0.05
    assert found.test.shuffled_false_share <= 0.05


def test_equal_methods_are_not_recommended(tmp_path):
    found = compare_methods(*comparison(tmp_path, {"a": 0, "b": 0}))
    assert recommendation(found).startswith("Take none of them yet")
    assert not any(pair.shown for pair in found.pairs)


def test_without_a_gold_reward_the_judge_scores(tmp_path):
    config, ledger = comparison(tmp_path, {"much": 3}, judged=False)
    found = compare_methods(config, ledger)
    assert found.judge == "score"
    assert found.methods[0].standing.gain.mean == pytest.approx(3, abs=0.5)
    assert "score of the judge" in (write_results(config, ledger), (tmp_path / "compare.html").read_text())[1]


def test_the_numbers_of_a_method(tmp_path):
    config, ledger = comparison(tmp_path, {"much": 3})
    found = compare_methods(config, ledger)
    much, sft = found.methods
    assert much.seconds == pytest.approx(11.0)
    assert much.peak_gib == 1.0
    assert much.family == "contrastive"
    assert not much.needs_reward
    assert much.win_rate.mean > 0.75
    assert much.win_rate.low <= much.win_rate.mean <= much.win_rate.high
    assert much.win_rate_length_controlled.mean < much.win_rate.mean  # it wins because it is longer
    assert sft.win_rate.mean == pytest.approx(0.5)
    assert much.tax.mean == pytest.approx(0.0)
    assert much.length > sft.length
    assert found.shared_seconds == {"sft": 11.0, "labels": 33.0, "reward": 11.0}
    content = as_json(found)
    assert {"gold", "gold_ci", "kl", "win_rate"} <= content["methods"]["much"].keys()
    assert content["power"].keys() >= {"gain", "power", "prompts", "seeds"}
    assert json.loads(json.dumps(content)) == content
    assert lines(found)[1].startswith("much")
    table = compare_table(content).splitlines()
    assert table[2].startswith("| much | 0.")
    assert table[2].count("|") == table[0].count("|")
    assert any("of 200 repeats" in line for line in table)


def test_the_frontier_ends_at_the_measured_policy():
    policies = [evaluation(2, seed) for seed in SEEDS]
    path = frontier(policies, "gold", whole=False)
    assert [point.kl for point in path[:-1]] == [0, 1]
    assert [point.gold for point in path[:-1]] == pytest.approx([0, 0.1])
    assert path[-1].gold == pytest.approx(sum(policy.gold.mean for policy in policies) / 3)
    assert [point.kl for point in frontier(policies, "gold", whole=True)] == [0, 1, 2]


def test_the_win_rate_of_a_method_against_itself_is_even():
    policies = [evaluation(1, seed) for seed in SEEDS]
    plain, controlled = win_rates(policies, policies, "gold")
    assert plain.mean == pytest.approx(0.5)
    assert controlled.mean == pytest.approx(0.5, abs=1e-6)
    assert plain.p == 1


def test_the_page_is_self_contained_and_says_what_is_not_shown(tmp_path):
    config, ledger = comparison(tmp_path, {"much": 3, "same": 3, "little": 1})
    assert any("compare.html" in line for line in write_results(config, ledger))
    source = (tmp_path / "compare.html").read_text(encoding="utf-8")
    seen = Page(source)
    assert not {"script", "link", "iframe", "img"} & set(seen.tags)
    assert not re.search(r"(?:src|href)=\"(?!#)", source)
    text = " ".join(" ".join(seen.text).split())
    for words in ("no difference shown", "Take ", "of 200 repeats", "A true difference of 0.03", "at most 64 tokens"):
        assert words in text
    assert source.count("<svg") == 4
    assert json.loads((tmp_path / "compare.json").read_text())["seeds"] == [0, 1, 2]


@pytest.mark.parametrize(
    ("value", "shown"), [(0.1234, "+0.123"), (-0.1, "−0.100"), (-0.0, "+0.000"), (-1e-9, "+0.000")]
)
def test_signs(value, shown):
    assert signed(value) == shown


def test_different_prompts_are_refused(tmp_path):
    config, ledger = comparison(tmp_path, {"much": 3})
    path = Shared.of(config, 1).evaluation("much")
    policy = evaluation(3, 1)
    Evaluation(str(path), "ppo", 1, {}, policy=replace(policy, answers=policy.answers[::-1])).save(path)
    with pytest.raises(WorkbenchError, match="different prompts"):
        compare_methods(config, ledger)
