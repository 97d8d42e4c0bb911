"""The evaluation of a policy, on a fake policy with known numbers."""

import math

import numpy as np
import pytest

from tests.workbench.evaluate.fakes import (
    FakePolicy,
    gold,
    make_demonstrations,
    make_prompts,
    score,
    user,
)
from workbench.evaluate.policy import Opponent, evaluate_policy, judge_answers, trace
from workbench.run.errors import WorkbenchError


def test_numbers_of_a_known_policy():
    prompts = make_prompts(40)
    result = evaluate_policy(
        FakePolicy(nats=0.1, samples_per_prompt=3, seed=4),
        prompts,
        demonstrations=make_demonstrations(5),
        gold=gold,
        score=score,
    )
    answers = result.answers
    assert [answer.prompt_id for answer in answers[:4]] == ["p0", "p0", "p0", "p1"]
    assert len(answers) == 120
    lengths = np.array([len(answer.response.split()) for answer in answers])
    tokens = np.array([answer.tokens for answer in answers])
    assert result.gold.mean == pytest.approx(0.1 * lengths.mean())
    assert (result.gold.count, result.gold.prompts) == (120, 40)
    assert result.gold_parts["facts"].mean == pytest.approx(result.gold.mean)
    assert result.gold_parts["courtesy"].mean == 0
    assert result.reward_model_score.mean == pytest.approx(lengths.mean())
    assert result.length.mean == pytest.approx(tokens.mean())
    assert result.eos_rate.mean == pytest.approx(np.mean(tokens > lengths))
    assert result.kl.mean == pytest.approx(0.1 * tokens.mean())
    assert result.kl_sampled.mean == pytest.approx(result.kl.mean)  # ± ½ alternately has mean 0
    assert result.kl_sampled.high - result.kl_sampled.low > result.kl.high - result.kl.low
    assert (result.perplexity.mean, result.perplexity.low) == pytest.approx((7.0, 7.0))
    assert result.perplexity.count == sum(range(2, 7))
    assert result.distinct["1"] == pytest.approx(1 / lengths.sum())
    assert result.unique_share == len(set(lengths)) / 120
    assert result.length_correlation == pytest.approx(np.corrcoef(lengths, tokens)[0, 1])
    assert answers[7].gold == pytest.approx(0.1 * lengths[7])
    assert answers[7].score == lengths[7]
    assert result.win_rate is None
    assert result.judge is None


def test_same_seed_same_answers():
    first, again, other = (evaluate_policy(FakePolicy(seed=s), make_prompts(10)) for s in (1, 1, 2))
    assert first == again
    assert first.answers != other.answers


def test_what_is_not_measured_is_none_not_zero():
    result = evaluate_policy(FakePolicy(reference=False), make_prompts(5))
    assert result.gold is result.kl is result.kl_sampled is result.perplexity is result.reward_model_score is None
    assert result.gold_parts == {}
    assert result.length_correlation is None


def test_a_gold_reward_that_covers_only_some_prompts():
    prompts = make_prompts(4) + [p.model_copy(update={"id": f"x{p.id}"}) for p in make_prompts(4, "Say {}.")]
    result = evaluate_policy(FakePolicy(), prompts, gold=gold)
    assert (result.gold.count, len(result.answers)) == (4, 8)
    assert result.answers[-1].gold is None


def test_gold_judges_the_win_rate():
    prompts = make_prompts(30)
    bad = evaluate_policy(FakePolicy("bad"), prompts).answers
    result = evaluate_policy(FakePolicy("good"), prompts, gold=gold, opponent=Opponent("runs/sft", bad))
    assert (result.win_rate.mean, result.judge, result.opponent) == (1.0, "gold", "runs/sft")
    swapped = evaluate_policy(FakePolicy("bad"), prompts, gold=gold, opponent=Opponent("other", result.answers))
    assert swapped.win_rate.mean == 0.0


def test_policy_against_itself_wins_half():
    prompts = make_prompts(30)
    own = evaluate_policy(FakePolicy(seed=3), prompts, gold=gold)
    same = evaluate_policy(FakePolicy(seed=3), prompts, gold=gold, opponent=Opponent("other", own.answers))
    assert same.win_rate.mean == 0.5
    assert same.win_rate.ties == 1.0


def test_without_a_gold_reward_the_reward_model_judges_or_nobody():
    prompts = make_prompts(30)
    other = evaluate_policy(FakePolicy("bad", seed=9), prompts).answers
    judged = evaluate_policy(FakePolicy(), prompts, score=score, opponent=Opponent("b", other))
    assert judged.judge == "reward model"
    unjudged = evaluate_policy(FakePolicy(), prompts, opponent=Opponent("b", other))
    assert (unjudged.judge, unjudged.win_rate, unjudged.opponent) == (None, None, None)


def test_opponent_is_judged_anew():
    # Scores that another reward model left on the opponent's answers must not be compared with ours.
    prompts = make_prompts(20)
    flattered = judge_answers(
        evaluate_policy(FakePolicy(), prompts).answers,
        gold=None,
        score=lambda p, r, e, ids=None: np.full(len(r), 1e6),
    )
    result = evaluate_policy(FakePolicy(), prompts, score=score, opponent=Opponent("other", flattered))
    assert result.win_rate.mean == 0.5


def test_no_prompt_in_common():
    strangers = evaluate_policy(FakePolicy(), [p.model_copy(update={"id": "other"}) for p in make_prompts(1)]).answers
    with pytest.raises(WorkbenchError, match="no prompt in common"):
        evaluate_policy(FakePolicy(), make_prompts(3), gold=gold, opponent=Opponent("other", strangers))


def test_infinite_scores_are_an_error():
    with pytest.raises(WorkbenchError, match="3 of 3 scores are not finite"):
        evaluate_policy(FakePolicy(), make_prompts(3), score=lambda p, r, e, ids=None: np.full(len(r), math.nan))


def test_trace_joins_samples_metrics_and_gold_reward():
    prompt = [message.model_dump() for message in user("Which?")]
    samples = [
        {"step": 10, "prompt": prompt, "response": "good good", "ended": True, "score": 1.0},
        {"step": 0, "prompt": prompt, "response": "bad", "ended": True, "score": 0.5},
        {"step": 10, "prompt": prompt, "response": "good", "ended": False, "score": 2.0},
    ]
    metrics = [{"step": 10, "objective/kl": 3.5}, {"step": 20, "objective/kl": 4.0}]
    start, end = trace(samples, metrics, gold=gold)
    assert (start.step, start.score, start.gold, start.kl, start.count) == (0, 0.5, -0.2, None, 1)
    assert (end.step, end.score, end.kl, end.count) == (10, 1.5, 3.5, 2)
    assert end.gold == pytest.approx(0.15)
    assert (start.gold_error, end.gold_error) == (None, pytest.approx(0.05))  # (.2 − .1)/√2/√2
    assert trace(samples, metrics, gold=None)[1].gold is None
    assert trace([], [], gold=gold) == []


def test_trace_prefers_the_exact_kl_of_the_sampled_answers():
    prompt = [message.model_dump() for message in user("Which?")]
    samples = [{"step": s, "prompt": prompt, "response": "good", "kl": kl} for s, kl in ((1, 1.0), (1, 2.0), (2, 4.0))]
    metrics = [{"step": 1, "objective/kl": 9.0}, {"step": 2, "objective/kl": None, "heldout/kl": 5.0}]
    assert [point.kl for point in trace(samples, metrics, gold=None)] == [1.5, 5.0]
