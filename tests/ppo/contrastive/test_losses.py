"""Contrastive losses: by hand, against a float64 oracle, against TRL's own code, and what must hold of any of them."""

import math
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from ppo.contrastive.losses import (
    METHODS,
    WITHOUT_REFERENCE,
    PairLogprobs,
    chosen_nll,
    kto_losses,
    label_targets,
    log_odds,
    pair_losses,
)
from tests.reference.contrastive import ORACLES, kto
from tests.reference.tolerances import EXACT

FIELDS = ("chosen", "rejected", "reference_chosen", "reference_rejected", "chosen_tokens", "rejected_tokens")
TRL = {"rtol": 0.0, "atol": 1e-6}


def some_pairs(count: int = 8, dtype: torch.dtype = torch.float64, seed: int = 0) -> PairLogprobs:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, 12, (2, count), generator=generator).to(dtype)
    per_token = torch.rand(4, count, generator=generator).to(dtype) * 3 + 0.05
    return PairLogprobs(*(-per_token * tokens.repeat(2, 1)), *tokens)


def as_dicts(pairs: PairLogprobs) -> list[dict[str, float]]:
    return [
        dict(zip(FIELDS, values, strict=True))
        for values in zip(*(getattr(pairs, f).tolist() for f in FIELDS), strict=True)
    ]


def one_pair(**values: float) -> PairLogprobs:
    return PairLogprobs(*(torch.tensor([values[name]], dtype=torch.float64) for name in FIELDS))


BY_HAND = one_pair(
    chosen=-2.0, rejected=-6.0, reference_chosen=-3.0, reference_rejected=-5.0, chosen_tokens=2.0, rejected_tokens=4.0
)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        # β = ½: implicit rewards ½ and −½, gap 1.
        ("dpo", math.log(1 + math.exp(-1))),
        ("hinge", 0.0),
        # per token: 1/2 + 1/4 = .75; (.75 − 1)²
        ("ipo", 0.0625),
        # ½ (−2 + 6) = 2: beyond the hinge
        ("slic", 0.0),
        # ½ (−1 + 1.5) = .25
        ("simpo", math.log(1 + math.exp(-0.25))),
        # p = e⁻¹, q = e^−1.5: odds 1/(e − 1) and 1/(e^1.5 − 1); ratio r = (e^1.5 − 1)/(e − 1); ½ log(1 + 1/r)
        ("orpo", 0.5 * math.log(1 + (math.e - 1) / (math.exp(1.5) - 1))),
    ],
)
def test_a_pair_by_hand(method, expected):
    assert pair_losses(method, BY_HAND, beta=0.5).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("q", "margin", "alpha"), [(1.0, 0.0, 0.0), (0.8, 0.3, 0.05), (1.2, 0.0, 0.01)])
def test_each_method_is_its_papers(method, q, margin, alpha):
    pairs = some_pairs()
    found = pair_losses(method, pairs, beta=0.4, targets=q, margins=margin, length_coef=alpha)
    each = [ORACLES[method](pair, 0.4, margin, alpha) for pair in as_dicts(pairs)]
    expected = torch.tensor([q * right + (1 - q) * wrong for right, wrong in each], dtype=torch.float64)
    torch.testing.assert_close(found, expected, **EXACT)


def trl_dpo_loss(pairs: PairLogprobs, loss_type: str, beta: float, label_smoothing: float = 0.0) -> float:
    """The loss of TRL's DPOTrainer if its model gave these log-probabilities for responses of these lengths."""
    from trl import DPOTrainer

    count, width = len(pairs.chosen), int(max(pairs.chosen_tokens.max(), pairs.rejected_tokens.max()))
    lengths = torch.cat([pairs.chosen_tokens, pairs.rejected_tokens]).long()
    mask = torch.arange(width + 1) <= lengths.unsqueeze(1)  # the first column stands for the prompt
    mask[:, 0] = False
    logprobs = torch.zeros(2 * count, width, dtype=pairs.chosen.dtype)
    logprobs[:, 0] = torch.cat([pairs.chosen, pairs.rejected])  # only the sum over a row is read
    zeros = torch.zeros_like(logprobs)
    outputs = SimpleNamespace(log_probs=logprobs, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool())
    model = lambda **_: outputs  # noqa: E731
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True),
        accelerator=SimpleNamespace(device="cpu", gather_for_metrics=lambda x: x, gather=lambda x: x),
        aux_loss_enabled=False, ld_alpha=None, precompute_ref_logps=True, f_divergence_type="reverse_kl",
        loss_types=[loss_type], loss_weights=[1.0], beta=beta, label_smoothing=label_smoothing, use_weighting=False,
        _metrics={"train": defaultdict(list)}, _total_train_tokens=0, _tp_size=1,
    )  # fmt: skip
    inputs = {
        "input_ids": torch.zeros(2 * count, width + 1, dtype=torch.long),
        "attention_mask": torch.ones(2 * count, width + 1),
        "completion_mask": mask.long(),
        "ref_chosen_logps": pairs.reference_chosen,
        "ref_rejected_logps": pairs.reference_rejected,
    }
    return float(DPOTrainer._compute_loss(trainer, model, inputs, False))


@pytest.mark.parametrize(("ours", "theirs"), [("dpo", "sigmoid"), ("hinge", "hinge"), ("ipo", "ipo")])
def test_methods_with_a_reference_equal_trls(ours, theirs):
    pairs = some_pairs(dtype=torch.float32)
    found = pair_losses(ours, pairs, beta=0.1).mean()
    assert found.item() == pytest.approx(trl_dpo_loss(pairs, theirs, 0.1), abs=1e-6)


def test_the_unbiased_target_is_trls_robust_loss():
    pairs = some_pairs(dtype=torch.float32)
    q = label_targets(torch.ones(len(pairs.chosen)), 0.2, unbiased=True)
    found = pair_losses("dpo", pairs, beta=0.1, targets=q).mean()
    assert found.item() == pytest.approx(trl_dpo_loss(pairs, "robust", 0.1, label_smoothing=0.2), abs=1e-6)


@pytest.mark.parametrize(("ours", "theirs"), [("slic", "hinge"), ("simpo", "simpo")])
def test_methods_without_a_reference_equal_trls(ours, theirs):
    from trl.experimental.cpo import CPOTrainer

    pairs = some_pairs(dtype=torch.float32)
    trainer = SimpleNamespace(
        alpha=0.0,
        beta=0.1,
        loss_type=theirs,
        simpo_gamma=0.5,
        label_smoothing=0.0,
        accelerator=SimpleNamespace(device="cpu"),
    )
    of_chosen, of_rejected = pairs.chosen, pairs.rejected
    if theirs == "simpo":  # TRL's trainer gives it averages
        of_chosen, of_rejected = of_chosen / pairs.chosen_tokens, of_rejected / pairs.rejected_tokens
    expected = CPOTrainer.cpo_loss(trainer, of_chosen, of_rejected)[0]
    found = pair_losses(ours, pairs, beta=0.1, margins=0.5 if theirs == "simpo" else 0.0)
    torch.testing.assert_close(found, expected, **TRL)


def test_orpo_equals_trls():
    from trl.experimental.orpo import ORPOTrainer

    pairs = some_pairs(dtype=torch.float32)
    trainer = SimpleNamespace(beta=0.1, accelerator=SimpleNamespace(device="cpu"))
    averages = (pairs.chosen / pairs.chosen_tokens, pairs.rejected / pairs.rejected_tokens)
    expected = -ORPOTrainer.odds_ratio_loss(trainer, *averages)[0]  # the trainer subtracts it
    torch.testing.assert_close(pair_losses("orpo", pairs, beta=0.1), expected, **TRL)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "sft"])
def test_a_step_downhill_prefers_the_chosen_response(method):
    pairs = some_pairs()
    pairs.chosen.requires_grad_(True)
    pairs.rejected.requires_grad_(True)
    pair_losses(method, pairs, beta=0.05).sum().backward()
    if method != "ipo":  # beyond its target, IPO pulls a gap back
        assert (pairs.chosen.grad <= 0).all()
    assert (pairs.chosen.grad != 0).any()
    same_sign = torch.sign(pairs.chosen.grad) == -torch.sign(pairs.rejected.grad)
    assert same_sign.all()


@pytest.mark.parametrize(("method", "expected"), [("dpo", math.log(2)), ("hinge", 1.0), ("ipo", 25.0)])
def test_the_reference_itself_has_the_closed_form(method, expected):
    pairs = some_pairs()
    same = PairLogprobs(
        pairs.chosen, pairs.rejected, pairs.chosen, pairs.rejected, pairs.chosen_tokens, pairs.rejected_tokens
    )
    losses = pair_losses(method, same, beta=0.1)
    torch.testing.assert_close(losses, torch.full_like(losses, expected), **EXACT)


@pytest.mark.parametrize("method", WITHOUT_REFERENCE)
def test_methods_without_a_reference_do_not_read_it(method):
    pairs = some_pairs()
    other = PairLogprobs(
        pairs.chosen, pairs.rejected, pairs.chosen * 2, pairs.rejected - 1, pairs.chosen_tokens, pairs.rejected_tokens
    )
    assert torch.equal(pair_losses(method, pairs, beta=0.1), pair_losses(method, other, beta=0.1))


@pytest.mark.parametrize("method", [name for name in METHODS if name not in WITHOUT_REFERENCE])
def test_the_other_methods_do(method):
    pairs = some_pairs()
    other = PairLogprobs(
        pairs.chosen, pairs.rejected, pairs.chosen * 2, pairs.rejected - 1, pairs.chosen_tokens, pairs.rejected_tokens
    )
    assert not torch.equal(pair_losses(method, pairs, beta=0.1), pair_losses(method, other, beta=0.1))


def test_flipping_labels_is_the_exchange_of_sides():
    pairs = some_pairs()
    swapped = PairLogprobs(
        *(pairs.rejected, pairs.chosen, pairs.reference_rejected, pairs.reference_chosen),
        *(pairs.rejected_tokens, pairs.chosen_tokens),
    )
    for method in METHODS:
        torch.testing.assert_close(
            pair_losses(method, pairs, beta=0.3, targets=0.0), pair_losses(method, swapped, beta=0.3), **EXACT
        )


def test_the_unbiased_target_undoes_flips_on_average():
    # E over flips: (1 − ε) q(1) … with hard labels that are flipped at rate ε, the expected loss is that of the truth.
    right, wrong, rate = 0.3, 1.9, 0.25
    q = label_targets(torch.ones(1, dtype=torch.float64), rate, unbiased=True).item()
    seen = (1 - rate) * (q * right + (1 - q) * wrong) + rate * (q * wrong + (1 - q) * right)
    assert seen == pytest.approx(right, abs=1e-12)


def test_the_smoothed_target_is_the_expected_label():
    q = label_targets(torch.tensor([1.0, 0.5, 0.8]), 0.1, unbiased=False)
    assert q.tolist() == pytest.approx([0.9, 0.5, 0.74])


def test_a_longer_chosen_response_is_pushed_less():
    short = one_pair(
        chosen=-2, rejected=-2, reference_chosen=-2, reference_rejected=-2, chosen_tokens=3, rejected_tokens=3
    )
    long = one_pair(
        chosen=-2, rejected=-2, reference_chosen=-2, reference_rejected=-2, chosen_tokens=9, rejected_tokens=3
    )
    assert pair_losses("dpo", long, beta=0.1, length_coef=0.1) < pair_losses("dpo", short, beta=0.1, length_coef=0.1)


def test_log_odds_hold_at_both_ends():
    logprobs = torch.tensor([-1e-12, -1e-6, -0.1, -0.6931, -5.0, -80.0], dtype=torch.float64)
    exact = [math.log(math.exp(x)) - math.log(-math.expm1(x)) for x in logprobs.tolist()]
    torch.testing.assert_close(log_odds(logprobs), torch.tensor(exact, dtype=torch.float64), rtol=1e-9, atol=1e-9)
    assert torch.isfinite(log_odds(torch.zeros(1))).all()
    low = torch.tensor([-1e-7, -1e-3, -3.0, -60.0], requires_grad=True)
    log_odds(low).sum().backward()
    assert torch.isfinite(low.grad).all()


def test_the_likelihood_term_is_per_token():
    assert chosen_nll(BY_HAND).item() == pytest.approx(1.0)


@pytest.mark.parametrize("kl", [-0.7, 0.0, 0.4])
def test_kto_is_the_papers(kl):
    logratios = torch.tensor([-2.0, 0.0, 1.5, 3.0], dtype=torch.float64)
    desirable = torch.tensor([True, False, True, False])
    found = kto_losses(
        logratios,
        desirable,
        torch.tensor(kl, dtype=torch.float64),
        beta=0.3,
        desirable_weight=1.5,
        undesirable_weight=0.7,
    )
    pairs = zip(logratios.tolist(), desirable.tolist(), strict=True)
    expected = [kto(ratio, good, kl, 0.3, 1.5, 0.7) for ratio, good in pairs]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), **EXACT)


def test_no_gradient_flows_through_ktos_reference_point():
    kl = torch.tensor(0.5, requires_grad=True)
    ratios = torch.tensor([0.2, 0.1], requires_grad=True)
    kto_losses(ratios, torch.tensor([True, False]), kl, beta=0.1).sum().backward()
    assert kl.grad is None
    assert ratios.grad[0] < 0 < ratios.grad[1]
