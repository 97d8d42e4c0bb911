"""Log-probabilities, entropy and KL: against the definition, in chunks, with gradients, and without N×V tensors."""

import math

import pytest
import torch

from tests.allocator import peak_of
from tests.reference.language_model import kl_divergence, logprob_and_entropy
from tests.reference.tolerances import EXACT, FLOAT32
from workbench.model.logprobs import token_kl, token_logprobs

N, D, V = 13, 8, 50


@pytest.fixture
def states():
    """Hidden states h and g (N, D), LM head (V, D), targets (N,)."""
    g = torch.Generator().manual_seed(0)
    hidden, other = (torch.randn(N, D, generator=g) for _ in range(2))
    return hidden, other, torch.randn(V, D, generator=g), torch.randint(V, (N,), generator=g)


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    """Cores that share the tokens."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def test_two_tokens_of_vocabulary_by_hand():
    # logits h·w = [ln 3, 0] → p = [3/4, 1/4]; entropy = −¾ ln ¾ − ¼ ln ¼. At T = ½: p = [9/10, 1/10].
    hidden, head = torch.tensor([[math.log(3.0)]]), torch.tensor([[1.0], [0.0]])
    logprobs, entropy = token_logprobs(hidden, head, torch.tensor([1]))
    assert logprobs.item() == pytest.approx(math.log(0.25))
    assert entropy.item() == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    logprobs, _ = token_logprobs(hidden, head, torch.tensor([0]), temperature=0.5)
    assert logprobs.item() == pytest.approx(math.log(0.9))
    # KL([¾, ¼] ‖ [½, ½]) = ¾ ln(3/2) + ¼ ln(1/2)
    kl = token_kl(hidden, torch.zeros(1, 1), head)
    assert kl.item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))


@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.0])
@pytest.mark.parametrize("chunk", [1, 4, N, 100])
@pytest.mark.usefixtures("threads")
def test_against_the_definition(states, temperature, chunk):
    hidden, other, head, targets = states
    logprobs, entropy = token_logprobs(hidden, head, targets, temperature=temperature, chunk=chunk)
    kl = token_kl(hidden, other, head, temperature=temperature, chunk=chunk)
    rows, others, weights = (x.double().tolist() for x in (hidden, other, head))
    expected = [logprob_and_entropy(h, weights, t, temperature) for h, t in zip(rows, targets.tolist(), strict=True)]
    divergence = [kl_divergence(h, g, weights, temperature) for h, g in zip(rows, others, strict=True)]
    torch.testing.assert_close(logprobs, torch.tensor([e[0] for e in expected]), **FLOAT32)
    torch.testing.assert_close(entropy, torch.tensor([e[1] for e in expected]), **FLOAT32)
    torch.testing.assert_close(kl, torch.tensor(divergence), **FLOAT32)


def test_a_row_does_not_depend_on_its_neighbours(states):
    hidden, _, head, targets = states
    together, _ = token_logprobs(hidden, head, targets)
    for n in range(N):
        alone, _ = token_logprobs(hidden[n : n + 1], head, targets[n : n + 1])
        torch.testing.assert_close(alone[0], together[n], **FLOAT32)


@pytest.mark.parametrize("chunk", [1, 5, 100])
def test_gradient_in_chunks_is_that_of_the_whole(states, chunk):
    hidden, _, head, targets = states
    weights = torch.linspace(-1, 2, N)
    mine, whole = (hidden.clone().requires_grad_() for _ in range(2))
    logprobs, entropy = token_logprobs(mine, head, targets, temperature=0.8, chunk=chunk)
    (weights * logprobs + 0.3 * entropy).sum().backward()
    log_p = torch.log_softmax(whole.double() @ head.double().T / 0.8, dim=-1)
    picked, spread = log_p[torch.arange(N), targets], -(log_p.exp() * log_p).sum(dim=-1)
    (weights.double() * picked + 0.3 * spread).sum().backward()
    torch.testing.assert_close(mine.grad, whole.grad, **FLOAT32)


@pytest.mark.parametrize("used", ["logprobs", "entropy", "both", "neither"])
def test_gradient_is_exact_in_float64(states, used):
    hidden, _, head, targets = (x.double() if x.is_floating_point() else x for x in states)
    weights = torch.linspace(-1, 2, N, dtype=torch.float64)
    share = {"logprobs": (1.0, 0.0), "entropy": (0.0, 0.3), "both": (1.0, 0.3), "neither": (0.0, 0.0)}[used]

    def loss(logprobs, entropy):
        terms = [a * (weights * x).sum() for a, x in zip(share, (logprobs, entropy), strict=True) if a]
        return sum(terms) if terms else 0.0 * logprobs.sum()

    mine, whole = (hidden.clone().requires_grad_() for _ in range(2))
    loss(*token_logprobs(mine, head, targets, temperature=0.8, chunk=4)).backward()
    log_p = torch.log_softmax(whole @ head.T / 0.8, dim=-1)
    loss(log_p[torch.arange(N), targets], -(log_p.exp() * log_p).sum(dim=-1)).backward()
    torch.testing.assert_close(mine.grad, whole.grad, **EXACT)


def test_kl_is_at_least_zero_and_zero_for_equals(states):
    hidden, other, head, _ = states
    assert (token_kl(hidden, other, head) > 0).all()
    assert (token_kl(hidden, hidden, head) == 0).all()
    nearly = token_kl(hidden, hidden + 1e-4, head)
    assert (nearly > -1e-6).all()
    assert (nearly < 1e-4).all()


def test_kl_is_not_symmetric_policy_first(states):
    hidden, other, head, _ = states
    torch.testing.assert_close(token_kl(hidden, other, head), token_kl(hidden, other, head, chunk=3), **FLOAT32)
    assert not torch.allclose(token_kl(hidden, other, head), token_kl(other, hidden, head))


def test_extreme_logits_stay_finite():
    head = torch.tensor([[1.0], [-1.0]])
    logprobs, entropy = token_logprobs(torch.tensor([[500.0]]), head, torch.tensor([1]))
    assert logprobs.item() == -1000.0
    assert entropy.item() == 0.0
    assert token_kl(torch.tensor([[500.0]]), torch.tensor([[-500.0]]), head).isfinite().all()


def test_no_tokens():
    empty = torch.zeros(0, D, requires_grad=True)
    logprobs, entropy = token_logprobs(empty, torch.zeros(V, D), torch.zeros(0, dtype=torch.long))
    assert logprobs.shape == entropy.shape == token_kl(empty, empty, torch.zeros(V, D)).shape == (0,)


def test_logits_of_bfloat16_states_are_float32(states):
    """Logits near 20, which bfloat16 rounds by up to 0.06: the results are those of the same numbers in float32."""
    hidden, other, head, targets = (x.bfloat16() if x.is_floating_point() else x for x in states)
    hidden, other = 4 * hidden, 4 * other
    wide = hidden.float(), other.float(), head.float()
    logprobs, entropy = token_logprobs(hidden, head, targets)
    assert logprobs.dtype == entropy.dtype == token_kl(hidden, other, head).dtype == torch.float32
    for ours, exact in zip((logprobs, entropy), token_logprobs(wide[0], wide[2], targets), strict=True):
        torch.testing.assert_close(ours, exact, **FLOAT32)
    torch.testing.assert_close(token_kl(hidden, other, head), token_kl(*wide), **FLOAT32)
    rounded = torch.log_softmax((hidden @ head.T).float(), dim=-1).gather(1, targets.unsqueeze(1)).squeeze(1)
    assert float((logprobs - rounded).abs().max()) > 0.01  # the rounding is there to be avoided


def test_the_gradient_of_bfloat16_states_is_rounded_once(states):
    hidden, _, head, targets = (x.bfloat16() if x.is_floating_point() else x for x in states)
    gradients = []
    for each in (hidden.detach(), hidden.detach().float()):
        each.requires_grad_()
        logprobs, entropy = token_logprobs(each, head, targets)
        (logprobs.sum() + 0.5 * entropy.sum()).backward()
        gradients.append(each.grad)
    assert gradients[0].dtype == torch.bfloat16
    torch.testing.assert_close(gradients[0], gradients[1].bfloat16(), rtol=2**-8, atol=1e-6)


def saved_shapes(compute) -> list[torch.Size]:
    """Shapes of all tensors that autograd keeps for the backward pass."""
    shapes = []

    def pack(tensor):
        shapes.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        compute()
    return shapes


def test_nothing_of_the_size_of_the_vocabulary_is_kept_for_the_backward_pass(states):
    hidden, _, head, targets = states
    hidden = hidden.clone().requires_grad_()
    kept = saved_shapes(lambda: token_logprobs(hidden, head, targets, chunk=4))
    assert not [shape for shape in kept if len(shape) == 2 and shape[-1] == V]
    # The measurement sees such a tensor where there is one.
    whole = saved_shapes(lambda: torch.log_softmax(hidden @ head.T, dim=-1))
    assert torch.Size([N, V]) in whole


def test_without_gradients_only_one_chunk_of_logits_exists_at_a_time(monkeypatch, states):
    hidden, _, head, targets = states
    import workbench.model.logprobs as module

    sizes, real = [], module._log_softmax

    def watch(rows, *rest):
        sizes.append(len(rows))
        return real(rows, *rest)

    monkeypatch.setattr(module, "_log_softmax", watch)
    token_logprobs(hidden, head, targets, chunk=4)
    token_kl(hidden, hidden, head, chunk=4)
    assert sizes == [4, 4, 4, 1, 4, 4, 4, 4, 4, 4, 1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("used", ["logprobs", "entropy", "both"])
def test_peak_memory_does_not_grow_with_vocabulary_times_tokens(used):
    """Forward and backward, by torch's allocator: one chunk's logits, and what is proportional to tokens alone."""

    def peak(tokens, vocabulary, whole=False):
        hidden, head = torch.randn(tokens, D, requires_grad=True), torch.randn(vocabulary, D)
        targets = torch.randint(vocabulary, (tokens,))

        def work():
            if whole:
                torch.log_softmax(hidden @ head.T, dim=-1)[torch.arange(tokens), targets].sum().backward()
                return
            logprobs, entropy = token_logprobs(hidden, head, targets, chunk=32)
            {"logprobs": logprobs, "entropy": entropy, "both": logprobs + entropy}[used].sum().backward()

        work()
        return peak_of(work)

    chunk = 32 * 2000 * 4
    small, large = peak(256, 2000), peak(1024, 2000)
    assert small < 5 * chunk
    assert large - small < 768 * (D + 16) * 4 * 4  # a few tensors of (tokens, D): no (tokens, vocabulary)
    assert peak(1024, 2000, whole=True) - peak(256, 2000, whole=True) > 768 * 2000 * 4  # the measurement sees one
