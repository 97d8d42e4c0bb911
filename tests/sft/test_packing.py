"""Packed rows: every document is computed as if it were alone, with the model and the batches that training uses.

The base is loaded with `sdpa` on a CPU and on a GPU; the trainer passes positions that restart at each document and no
mask, from which transformers builds the same block-diagonal mask on both.
"""

import pytest
import torch

import sft.train as phase
from sft.config import SftConfig
from tests.conftest import load_phase, sft_values
from tests.sft.test_train import read_data
from workbench.model.adapters import adapter_weights, lora_config, start_training_adapter
from workbench.model.base import BaseSpec, load_base, load_tokenizer
from workbench.model.processes import Processes
from workbench.model.session import Session
from workbench.run.folder import RunFolder
from workbench.run.tracking import NoTracker


@pytest.fixture(params=["sdpa", "eager"])
def packed(request, tmp_path, tiny_base, demonstration_file):
    """A trainer with packing, its first batch, and the documents."""
    values = sft_values(tmp_path / "run", tiny_base, demonstration_file)
    config = load_phase(SftConfig, tmp_path / "c.yaml", values, "data.packing=true", "train.batch_size=2")
    config = config.model_copy(update={"train": config.train.model_copy(update={"micro_batch_size": 2})})
    tokenizer = load_tokenizer(str(tiny_base))
    base = load_base(BaseSpec(str(tiny_base), None, "nf4", "auto"), tokenizer)
    assert base.config._attn_implementation == "sdpa", "what a run uses"
    base.set_attn_implementation(request.param)
    model = start_training_adapter(base, lora_config(4, 8, 0.0))
    with torch.no_grad():
        for name, weight in adapter_weights(model, "default").items():
            if "lora_B" in name:
                weight.normal_(0, 0.2)
    session = Session(RunFolder(tmp_path / "run"), Processes(), NoTracker())
    trainer = phase._trainer(config, session, model, tokenizer, read_data(tokenizer, demonstration_file))
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    return trainer, batch


def documents(batch):
    """(start, end) of each document in the row, whose positions restart."""
    positions = batch["position_ids"][0].tolist()
    starts = [index for index, position in enumerate(positions) if position == 0]
    return list(zip(starts, [*starts[1:], len(positions)], strict=True))


def test_the_logits_of_a_packed_row_are_those_of_each_document_alone(packed):
    trainer, batch = packed
    model = trainer.model.eval()
    assert len(documents(batch)) >= 4
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    with torch.no_grad():
        together = model(**inputs, use_cache=False).logits[0]
        for start, end in documents(batch):
            alone = model(input_ids=batch["input_ids"][:, start:end], use_cache=False).logits[0]
            torch.testing.assert_close(together[start:end], alone, rtol=1e-4, atol=1e-4)
        one_row = {**inputs, "position_ids": torch.arange(together.shape[0]).unsqueeze(0)}
        leaking = model(**one_row, use_cache=False).logits[0]
    start, end = documents(batch)[1]
    assert (leaking[start:end] - together[start:end]).abs().max() > 1e-2, "documents that see each other differ"


def test_the_first_token_of_a_document_is_not_predicted_from_the_one_before(packed):
    _, batch = packed
    for start, _ in documents(batch):
        assert batch["labels"][0, start] == -100
