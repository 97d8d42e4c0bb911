"""The world `rare`: how often its skills occur, how well demonstrations do them, and what is left to learn."""

import random
from collections import Counter

import pytest

from tests.workbench.tiny.test_build import SMALL
from workbench.data.readers import read_demonstrations, read_prompts
from workbench.tiny.build import RARE as FILES
from workbench.tiny.build import write_rare
from workbench.tiny.gold import gold_reward, score_answer
from workbench.tiny.grammar import is_heldout, parse_prompt, render_prompt
from workbench.tiny.rare import COMMON, RARE, demonstrate, sample_prompt, sample_prompts


@pytest.fixture(scope="module")
def specs():
    rng = random.Random(0)
    return [sample_prompt(rng, heldout=False) for _ in range(4000)]


def test_each_rare_skill_occurs_in_three_percent_of_the_prompts(specs):
    asked = Counter(fact for spec in specs for fact in spec.facts)
    assert len(RARE) == 20
    assert all(0.02 < asked[fact] / len(specs) < 0.04 for fact in RARE)
    assert all(asked[fact] / len(specs) > 0.15 for fact in COMMON)
    assert all(sum(fact in RARE for fact in spec.facts) <= 1 for spec in specs)


@pytest.mark.parametrize("heldout", [False, True])
def test_prompts_are_of_the_grammar_and_of_their_side(heldout):
    rng = random.Random(1)
    first = sample_prompts(rng, 40, heldout=heldout)
    second = sample_prompts(rng, 40, heldout=heldout, without=map(render_prompt, first))
    texts = [render_prompt(spec) for spec in (*first, *second)]
    assert len(set(texts)) == 80
    assert [parse_prompt(text) for text in texts] == [*first, *second]
    assert {is_heldout(spec) for spec in first} == {heldout}


def test_only_the_rare_facts_are_left_to_learn(specs):
    rng = random.Random(2)
    pairs = [[score_answer(spec, demonstrate(spec, rng)) for _ in range(2)] for spec in specs]
    answers = [answer for pair in pairs for answer in pair]
    right = [score_answer(spec, demonstrate(spec, rng)).facts > 0 for spec in specs if set(spec.facts) <= set(RARE)]
    assert 0.07 < sum(right) / len(right) < 0.13
    means = {name: sum(getattr(a, name) for a in answers) / len(answers) for name in ("facts", "courtesy", "padding")}
    assert means["facts"] < 0.05  # of .25
    assert means["courtesy"] > 0.54  # of .6
    assert means["padding"] == 0
    near = [abs(one.total - other.total) < 0.1 for one, other in pairs]
    assert 0.6 < sum(near) / len(near) < 0.8, "most pairs are near-ties"


def test_files_are_the_same_each_time_and_share_no_prompt(tmp_path):
    write_rare(tmp_path / "one", SMALL)
    write_rare(tmp_path / "two", SMALL)
    texts = []
    for name in FILES:
        path = tmp_path / f"one/{name}.jsonl"
        assert path.read_bytes() == (tmp_path / f"two/{name}.jsonl").read_bytes()
        read = read_demonstrations if name.startswith("demonstrations") else read_prompts
        records = read(path)
        texts += [record.prompt[0].content for record in records]
        assert all(gold_reward(record.prompt, "Hello!") is not None for record in records)
        assert {is_heldout(parse_prompt(record.prompt[0].content)) for record in records} == {"heldout" in name}
    assert len(set(texts)) == len(texts) == 90
