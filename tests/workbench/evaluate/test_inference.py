"""Best-of-n and few-shot: the policies that they make of another one."""

import numpy as np
import pytest

from tests.workbench.evaluate.fakes import FakePolicy, gold, make_demonstrations, make_prompts, score
from workbench.data.records import Message, Prompt
from workbench.evaluate.best_of import best_of_kl
from workbench.evaluate.inference import BestOf, FewShot, best_of_curve, widened
from workbench.evaluate.policy import evaluate_policy, judge_answers, sampled_answers


def pool_of(policy, prompts, best_of):
    wide = FakePolicy()
    wide.sampling = widened(policy.sampling, best_of)
    return judge_answers(sampled_answers(wide, prompts), gold=gold, score=score)


def test_the_best_of_n_is_picked_by_score():
    prompts = make_prompts(30)
    policy = FakePolicy(samples_per_prompt=2, seed=3)
    pool = pool_of(policy, prompts, 4)
    assert len(pool) == 30 * 8
    best = BestOf(policy, pool, 4)
    evaluated = evaluate_policy(best, prompts, gold=gold, score=score, demonstrations=make_demonstrations(3))
    blocks = np.array([answer.score for answer in pool]).reshape(60, 4)
    assert [answer.score for answer in evaluated.answers] == blocks.max(axis=1).tolist()
    assert evaluated.kl.mean == pytest.approx(best_of_kl(4))
    assert evaluated.perplexity.mean == pytest.approx(7.0)


def test_the_curve_of_best_of_n():
    prompts = make_prompts(50)
    pool = pool_of(FakePolicy(samples_per_prompt=1), prompts, 8)
    curve = best_of_curve(pool, len(prompts))
    assert [point.step for point in curve] == [1, 2, 4, 8]
    assert [point.kl for point in curve] == pytest.approx([best_of_kl(n) for n in (1, 2, 4, 8)])
    scores = np.array([answer.score for answer in pool]).reshape(50, 8)
    assert curve[0].score == pytest.approx(scores.mean())
    assert curve[-1].score == pytest.approx(scores.max(axis=1).mean())
    assert curve[0].gold < curve[1].gold < curve[3].gold
    without = best_of_curve(judge_answers(pool, gold=None, score=score), len(prompts))
    assert without[0].gold is None


def test_examples_come_before_the_prompt_and_after_the_system_message():
    seen = []

    class Recording(FakePolicy):
        def sample(self, prompts):
            seen.extend(prompts)
            return super().sample(prompts)

    system = Message(role="system", content="Be brief.")
    prompts = [Prompt(id="p", prompt=(system, Message(role="user", content="Which way?")))]
    policy = FewShot(Recording(), make_demonstrations(2))
    evaluated = evaluate_policy(policy, prompts, gold=gold)
    assert [(m.role, m.content) for m in seen[0].prompt] == [
        ("system", "Be brief."),
        *[("user", "Which?"), ("assistant", "good ")],
        *[("user", "Which?"), ("assistant", "good good ")],
        ("user", "Which way?"),
    ]
    assert [message["content"] for message in evaluated.answers[0].prompt] == ["Be brief.", "Which way?"]
    assert evaluated.kl is None
