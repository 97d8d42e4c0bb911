"""Scalar heads: their formula, their normalisation, and their file."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from workbench.model.heads import LabelHead, Probe, ScalarHead, load_head, load_label_head, save_head, save_label_head
from workbench.run.errors import WorkbenchError


def test_by_hand():
    head = ScalarHead(2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([1.0, -2.0]))
        head.bias.fill_(0.5)
        head.gain.fill_(3.0)
        head.offset.fill_(-1.0)
    # 3·(1·2 − 2·1 + .5) − 1 = .5;  3·(1·0 − 2·(−1) + .5) − 1 = 6.5
    assert head(torch.tensor([[2.0, 1.0], [0.0, -1.0]])).tolist() == [0.5, 6.5]


def test_normalised_scores_have_mean_0_and_deviation_1():
    torch.manual_seed(0)
    head, hidden = ScalarHead(16), 3 * torch.randn(500, 16) + 2
    raw = head(hidden).detach()
    assert raw.std() != pytest.approx(1, abs=0.05)
    head.normalise(float(raw.mean()), float(raw.std()))
    scores = head(hidden).detach()
    assert scores.mean().item() == pytest.approx(0, abs=1e-5)
    assert scores.std().item() == pytest.approx(1, abs=1e-5)
    assert torch.equal(scores.argsort(), raw.argsort())


@pytest.mark.parametrize("deviation", [0.0, -1.0, float("nan")])
def test_equal_scores_cannot_be_normalised(deviation):
    with pytest.raises(WorkbenchError, match="get the same score"):
        ScalarHead(4).normalise(0.0, deviation)


def test_initial_weights_have_the_published_scale():
    torch.manual_seed(0)
    weights = torch.stack([ScalarHead(63).weight.detach() for _ in range(200)])
    assert weights.std().item() == pytest.approx(1 / 8, rel=0.03)  # 1/√(63 + 1)


def test_only_weight_and_bias_are_trained():
    head = ScalarHead(4)
    head(torch.ones(3, 4)).sum().backward()
    assert {name for name, p in head.named_parameters() if p.grad is not None} == {"weight", "bias"}
    assert not head.gain.requires_grad


def test_half_precision_states_are_scored_in_float32():
    assert ScalarHead(4)(torch.ones(2, 4, dtype=torch.bfloat16)).dtype == torch.float32


def test_file_keeps_head_and_probe_exactly(tmp_path):
    head = ScalarHead(5)
    head.normalise(0.3, 1.7)
    probe = Probe(torch.tensor([[1, 5, 2], [1, 2, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]]).bool(), torch.randn(2))
    save_head(tmp_path / "run/head.safetensors", head, probe)
    again, read = load_head(tmp_path / "run/head.safetensors")
    for name, tensor in head.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    assert torch.equal(read.ids, probe.ids)
    assert torch.equal(read.mask, probe.mask)
    assert torch.equal(read.scores, probe.scores)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["head.safetensors"]


def test_a_head_without_probe(tmp_path):
    save_head(tmp_path / "head.safetensors", ScalarHead(5))
    assert load_head(tmp_path / "head.safetensors")[1] is None


def test_missing_or_foreign_file_is_said(tmp_path):
    path = tmp_path / "head.safetensors"
    with pytest.raises(WorkbenchError, match="no scalar head here"):
        load_head(path)
    save_head(path, ScalarHead(5))
    tensors = load_file(path)
    del tensors["gain"]
    save_file(tensors, path)
    with pytest.raises(WorkbenchError, match="lacks gain"):
        load_head(path)
    path.write_bytes(b"not safetensors")
    with pytest.raises(WorkbenchError, match="cannot be read"):
        load_head(path)


def test_a_head_of_labels_is_linear_float32_and_kept_to_the_bit(tmp_path):
    head = LabelHead(["no", "yes ✓"], 3)
    assert head(torch.ones(1, 3)).tolist() == [[0, 0]], "it starts uniform"
    with torch.no_grad():
        head.weight.copy_(torch.randn(2, 3))
        head.bias.copy_(torch.randn(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = head(torch.ones(4, 3, dtype=torch.bfloat16))
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits[0], head.weight.sum(dim=1) + head.bias)
    save_label_head(tmp_path / "head.safetensors", head)
    loaded = load_label_head(tmp_path / "head.safetensors")
    assert loaded.labels == ("no", "yes ✓")
    assert torch.equal(loaded.weight, head.weight)
    assert torch.equal(loaded.bias, head.bias)


def test_what_is_not_a_head_of_labels_is_refused(tmp_path):
    with pytest.raises(WorkbenchError, match="no head here"):
        load_label_head(tmp_path / "absent")
    save_head(tmp_path / "scalar", ScalarHead(3))
    with pytest.raises(WorkbenchError, match="is not a head of labels"):
        load_label_head(tmp_path / "scalar")
    (tmp_path / "broken").write_bytes(b"1234567890")
    with pytest.raises(WorkbenchError, match="cannot be read"):
        load_label_head(tmp_path / "broken")
