"""Why an answer gets its score: shares that add up, neighbours by hand, one page that fetches nothing."""

import json
import re

import pytest
import torch

from annotate.intake.priorities import read_priorities
from reward.__main__ import main
from reward.verbs import explain_tokens
from reward.verbs.explain import Neighbour, cosines, last_states, nearest_pairs, relabel_rows, tints
from reward.verbs.explain_tokens import TokenShares, mean_shares, token_shares
from tests.conftest import BAD, GOOD, QUESTIONS
from workbench.data.readers import read_preferences
from workbench.data.records import Message
from workbench.data.tokenise import encode_prompt, encode_response
from workbench.model.open import open_runs
from workbench.run.errors import WorkbenchError


@pytest.fixture(scope="module")
def roles(reward_run):
    return open_runs({"reward": reward_run})


def encoded(roles, response):
    messages = (Message(role="user", content=QUESTIONS[0].format("order")),)
    return encode_prompt(roles.tokenizer, messages), encode_response(roles.tokenizer, messages, response)


def score(roles, ids):
    rows = torch.tensor([ids])
    return float(roles.scores("reward", rows, torch.ones_like(rows).bool()))


def test_the_parts_add_up_to_the_score_of_an_nf4_model_with_an_adapter(roles):
    prompt, response = encoded(roles, GOOD.format("order"))
    found = token_shares(roles, "reward", prompt, response)
    nothing = [roles.tokenizer.unk_token_id] * (len(response) - 1)
    assert found.score == pytest.approx(score(roles, [*prompt, *response]), abs=1e-5)
    assert found.baseline_score == pytest.approx(score(roles, [*prompt, *nothing, response[-1]]), abs=1e-5)
    assert abs(found.score - found.baseline_score) > 0.1
    assert sum(found.shares) == pytest.approx(found.score - found.baseline_score, abs=0.01)
    assert found.complete
    assert len(found.shares) == len(found.tokens) == len(response)
    assert found.shares[-1] == pytest.approx(0, abs=1e-6), "the end is the same in the baseline"
    assert "".join(found.tokens[:-1]).strip() == GOOD.format("order")
    # No gradient remains, and the role can be used again.
    assert not any(p.grad is not None or p.requires_grad for p in roles.model.parameters())


def test_parts_of_a_linear_score_by_hand():
    # Embeddings e_a = 3, e_b = −1, e_unk = 1 in one dimension; score = sum over the row. Each token adds e − e_unk.
    embedding = torch.nn.Embedding.from_pretrained(torch.tensor([[1.0], [3.0], [-1.0], [0.5]]))

    class Fake:
        device = torch.device("cpu")

        class tokenizer:
            unk_token_id, pad_token_id = 0, 3
            decode = staticmethod(lambda ids: "?ab."[ids[0]])

        class causal_model:
            get_input_embeddings = staticmethod(lambda: embedding)

        def scores(self, role, ids, mask):
            return embedding(ids).sum(dim=(1, 2))

    found = token_shares(Fake(), "r", [1, 1], [1, 2, 3])
    assert found.shares == pytest.approx([3 - 1, -1 - 1, 0])
    assert (found.score, found.baseline_score) == (8.5, 8.5)
    assert found.tokens == ["a", "b", "."]
    assert (found.orders, found.uncertainty) == (16, 0), "every order says the same"


def test_a_share_is_the_mean_over_orders(monkeypatch):
    # Score = 1 if both tokens are in place, else 0: each adds ½ on average, 0 or 1 in one order.
    class Both:
        device = torch.device("cpu")

        class tokenizer:
            unk_token_id, pad_token_id = 0, 3
            decode = staticmethod(lambda ids: "?ab."[ids[0]])

        def scores(self, role, ids, mask):
            return (ids[:, -3:-1] > 0).all(dim=1).float()

    monkeypatch.setattr(explain_tokens, "ORDERS", (4, 4000))
    monkeypatch.setattr(explain_tokens, "PRECISION", 0.02)
    found = token_shares(Both(), "r", [1], [1, 2, 3])
    assert found.complete
    assert found.shares == pytest.approx([0.5, 0.5, 0], abs=0.06)
    # A coin's standard deviation is ½, so 0.02 needs about (0.5 / 0.02)² = 625 orders.
    assert 550 < found.orders < 700
    assert found.uncertainty == pytest.approx(0.02, abs=1e-4)
    monkeypatch.setattr(explain_tokens, "ORDERS", (4, 8))
    rough = token_shares(Both(), "r", [1], [1, 2, 3])
    assert rough.orders == 8
    assert rough.uncertainty > 0.1


def test_the_parts_of_an_ensemble_are_the_means_of_its_members():
    one, two = (
        TokenShares(["a", "b"], [1.0, 2.0], 4.0, 1.0, 64, 0.3),
        TokenShares(["a", "b"], [3.0, -2.0], 2.0, 1.0, 128, 0.4),
    )
    assert mean_shares([one]) is one
    both = mean_shares([one, two])
    assert (both.shares, both.score, both.baseline_score, both.orders) == ([2.0, 0.0], 3.0, 1.0, 64)
    assert both.uncertainty == pytest.approx(0.25)
    assert both.member_scores == (4.0, 2.0)
    assert both.complete


def test_parts_that_do_not_add_up_are_not_called_complete():
    assert TokenShares(["a"], [2.0], 3.0, 1.0, 64, 0.0).complete
    assert TokenShares(["a"], [2.019], 3.0, 1.0, 64, 0.0).complete
    assert not TokenShares(["a"], [2.03], 3.0, 1.0, 64, 0.0).complete
    assert not TokenShares(["a"], [-2.0], 3.0, 1.0, 64, 0.0).complete


def test_colours_by_hand():
    shown = tints(TokenShares(["a", "b", "c"], [0.5, -2.0, 0.0], 0.0, 0.0, 64, 0.0))
    assert [(tint.text, tint.strength) for tint in shown] == [("a", 0.25), ("b", 1.0), ("c", 0.0)]


def test_cosines_by_hand():
    # The others' mean is (1, 1); subtracted: (1, 0), (−1, 0), (0, 0). One − mean = (2, 2): cosines √½, −√½, 0.
    others = torch.tensor([[2.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
    torch.testing.assert_close(cosines(torch.tensor([3.0, 3.0]), others), torch.tensor([0.5**0.5, -(0.5**0.5), 0.0]))


def test_the_nearest_pair_is_the_one_that_holds_the_answer(roles, preference_file):
    records = read_preferences(preference_file)
    for response, side in ((records[5].chosen_text, "chosen"), (records[5].rejected_text, "rejected")):
        ids = encode_prompt(roles.tokenizer, records[5].prompt)
        row = [*ids, *encode_response(roles.tokenizer, records[5].prompt, response)]
        found = nearest_pairs(roles, ("reward",), row, records, number=3, batch_size=7)
        assert found[0].record == records[5]
        assert found[0].side == side
        assert found[0].similarity == pytest.approx(1, abs=1e-4)
        assert found[0].similarity >= found[1].similarity >= found[2].similarity
        assert found[0].scores[side == "rejected"] == pytest.approx(score(roles, row), abs=1e-4)


def test_representations_do_not_depend_on_the_batch(roles):
    rows = [[*encoded(roles, text)[0], *encoded(roles, text)[1]] for text in ("a", "much longer than that", "b c")]
    together = last_states(roles, "reward", rows, batch_size=3)
    alone = torch.cat([last_states(roles, "reward", [row], batch_size=1) for row in rows])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_the_page_and_the_pairs_to_label_again(reward_run, preference_file, tmp_path, capsys):
    page, relabel = tmp_path / "why.html", tmp_path / "again.jsonl"
    response = BAD.format("<b>order</b>")
    words = ["explain", str(reward_run), "--prompt", QUESTIONS[0].format("order"), "--response", response]
    assert main([*words, "--out", str(page), "--nearest", "4", "--relabel", str(relabel)]) == 0
    assert str(page) in capsys.readouterr().out
    text = page.read_text(encoding="utf-8")
    assert "Completeness check passed" in text
    assert f"4 of the 24 pairs of {preference_file}" in text
    assert "<b>" not in text
    assert not re.search(r"(src|href)=|https?://|<script", text), "nothing is fetched"
    assert text.count("<article>") == 4
    shown = re.findall(r'title="([+-][0-9.]+)"', text)
    assert len(shown) > 5
    assert {entry.item_id for entry in read_priorities(str(relabel))} <= {f"pair{n}" for n in range(24)}
    rows = [json.loads(line) for line in relabel.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 4
    assert all(row["again"] is True for row in rows)


def test_judgements_of_one_item_send_it_back_once_and_edits_never(preference_file):
    record = read_preferences(preference_file)[0]

    def neighbour(**changes):
        return Neighbour(record.model_copy(update=changes), 0.5, "chosen", (0.0, 0.0))

    found = relabel_rows([neighbour(id="i#0"), neighbour(id="i#1"), neighbour(id="e-1", resolution="edited")])
    assert [row["id"] for row in found] == ["i"]


def test_an_empty_answer_is_refused(reward_run, tmp_path):
    with pytest.raises(WorkbenchError, match="--response: it is empty"):
        main(["explain", str(reward_run), "--prompt", "a", "--response", " ", "--out", str(tmp_path / "x.html")])
