"""Scores and log-probabilities of given responses: equal to the slow way, whatever the batch."""

from types import SimpleNamespace

import pytest
import torch

from tests.reference.tolerances import SHAPES
from workbench.model.masks import pad_rows
from workbench.model.score import batches_by_length, compare_roles, feature_rows, response_nll, score_rows

PROMPTS = [[1, 40, 41, 42], [1, 50], [1, 60, 61, 62, 63], [1, 70, 71]]
RESPONSES = [[80, 81, 2], [82, 2], [83, 84, 85, 86, 87, 2], [88]]
ROWS = [p + r for p, r in zip(PROMPTS, RESPONSES, strict=True)]


def slow_logprobs(roles, role, *, temperature=1.0):
    """Row by row through the whole causal model: Σ log p of the response tokens."""
    roles.model.set_adapter(role, inference_mode=True)
    roles.model.eval()
    sums = []
    for prompt, response in zip(PROMPTS, RESPONSES, strict=True):
        with torch.no_grad():
            logits = roles.model(input_ids=torch.tensor([prompt + response])).logits[0].double() / temperature
        log_p = torch.log_softmax(logits, dim=-1)
        places = range(len(prompt) - 1, len(prompt) + len(response) - 1)
        sums.append(sum(float(log_p[t, token]) for t, token in zip(places, response, strict=True)))
    return sums


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_perplexity_counts_response_tokens_only(roles, batch_size):
    nats, tokens = response_nll(roles, "reference", PROMPTS, RESPONSES, batch_size=batch_size)
    assert tokens.tolist() == [len(response) for response in RESPONSES]
    assert nats.tolist() == pytest.approx([-logprob for logprob in slow_logprobs(roles, "reference")], rel=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_roles_compared_are_what_each_says_alone(roles, temperature):
    found = compare_roles(roles, "reward", "reference", PROMPTS, RESPONSES, temperature=temperature, batch_size=2)
    assert [r.policy for r in found] == pytest.approx(slow_logprobs(roles, "reward", temperature=temperature), rel=1e-4)
    assert [r.reference for r in found] == pytest.approx(
        slow_logprobs(roles, "reference", temperature=temperature), rel=1e-4
    )
    assert [r.tokens for r in found] == [len(response) for response in RESPONSES]
    assert all(r.kl_exact > 0 for r in found)


def test_copies_are_at_distance_zero(roles):
    for result in compare_roles(roles, "policy", "reference", PROMPTS, RESPONSES):
        assert result.policy == result.reference
        assert result.kl_exact == 0


@pytest.mark.parametrize("batch_size", [1, 2, 3, 64])
def test_scores_do_not_depend_on_batch_size_or_neighbours(roles, batch_size):
    alone = torch.cat([roles.scores("reward", *pad_rows([row], 0)) for row in ROWS])
    torch.testing.assert_close(score_rows(roles, "reward", ROWS, batch_size=batch_size), alone, **SHAPES)
    shuffled = score_rows(roles, "reward", ROWS[::-1], batch_size=batch_size).flip(0)
    torch.testing.assert_close(shuffled, alone, **SHAPES)
    assert alone.std() > 100 * SHAPES["atol"], "scores too alike to see a mix-up"


def test_scores_are_read_from_the_features(roles):
    features = feature_rows(roles, "reward", [*ROWS, ROWS[0]], batch_size=3)
    assert features.shape[0] == len(ROWS) + 1
    scores = score_rows(roles, "reward", [*ROWS, ROWS[0]], batch_size=3)
    torch.testing.assert_close(roles.heads["reward"](features).detach(), scores, **SHAPES)
    assert score_rows(roles, "reward", [], batch_size=3).shape == (0,)


def test_scores_do_not_depend_on_how_much_padding_there_is(roles):
    ids, mask = pad_rows(ROWS, 0)
    wide_ids = torch.cat([ids, torch.full((len(ROWS), 5), 9)], dim=1)
    wide_mask = torch.cat([mask, torch.zeros(len(ROWS), 5, dtype=torch.bool)], dim=1)
    torch.testing.assert_close(roles.scores("reward", wide_ids, wide_mask), roles.scores("reward", ids, mask), **SHAPES)


def test_the_score_is_read_at_the_end_token(roles):
    """The head applied to the state of the last real token, EOS, and to no other."""
    ids, mask = pad_rows(ROWS, 0)
    with roles.use("reward") as forward:
        hidden = forward(ids, mask)
    last = torch.stack([hidden[b, len(row) - 1] for b, row in enumerate(ROWS)])
    before = torch.stack([hidden[b, len(row) - 2] for b, row in enumerate(ROWS)])
    scores = roles.scores("reward", ids, mask)
    torch.testing.assert_close(scores, roles.heads["reward"](last).detach(), **SHAPES)
    assert not torch.allclose(scores, roles.heads["reward"](before).detach(), **SHAPES)
    assert not scores.requires_grad


def test_batches_by_length_by_hand():
    # Lengths 5 2 9 2 3, sorted 2 2 3 5 9 (rows 1 3 4 0 2). Two a batch, at most 10 tokens with padding: 2 2 (4),
    # then 3 5 (2 × 5 = 10), then 9. At most 9 tokens: 3 and 5 part.
    lengths = [5, 2, 9, 2, 3]
    assert batches_by_length(lengths, batch_size=2, batch_tokens=10) == [[1, 3], [4, 0], [2]]
    assert batches_by_length(lengths, batch_size=2, batch_tokens=9) == [[1, 3], [4], [0], [2]]
    assert batches_by_length(lengths, batch_size=3, batch_tokens=99) == [[1, 3, 4], [0, 2]]
    assert batches_by_length([7, 8], batch_size=4, batch_tokens=5) == [[0], [1]], "longer than allowed: alone"
    assert batches_by_length([], batch_size=4, batch_tokens=99) == []


def test_a_repeated_row_is_read_once_and_scored_everywhere():
    class Counting:
        tokenizer = SimpleNamespace(pad_token_id=0)
        device = torch.device("cpu")
        read = 0

        def scores(self, role, ids, mask):
            self.read += len(ids)
            return ids.sum(dim=1).float()

    roles = Counting()
    rows = [[1, 2], [4], [1, 2], [3, 3, 3], [4]]
    assert score_rows(roles, "reward", rows, batch_size=2).tolist() == [3, 4, 3, 9, 4]
    assert roles.read == 3
    assert score_rows(roles, "reward", [], batch_size=2).tolist() == []
