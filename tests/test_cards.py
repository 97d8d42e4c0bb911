"""What a model card says under "Load it" is run, and gives what the run measured."""

import re
import sys

import pytest
import torch
from peft import LoraConfig, get_peft_model

from workbench.data.records import Message
from workbench.data.tokenise import encode_prompt
from workbench.model.base import BaseSpec, load_base, load_tokenizer
from workbench.model.heads import load_head
from workbench.model.open import open_runs
from workbench.model.score import response_nll
from workbench.run.card import write_card
from workbench.run.folder import RunFolder


def loaded(run):
    """The names that the code in a run's card defines."""
    text = (run / "README.md").read_text(encoding="utf-8")
    names: dict = {}
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1), names)
    return names


def test_the_card_of_a_reward_run_gives_the_stored_probe_scores(reward_run):
    _, probe = load_head(reward_run / "head.safetensors")
    scores = loaded(reward_run)["score"](probe.ids, probe.mask.long())
    torch.testing.assert_close(scores, probe.scores, atol=1e-3, rtol=0)
    assert "ordinal loss" in (reward_run / "README.md").read_text(encoding="utf-8")


def test_the_card_of_a_policy_gives_its_log_probabilities(sft_run):
    names = loaded(sft_run)
    tokenizer = names["tokenizer"]
    prompt = encode_prompt(tokenizer, (Message(role="user", content="Where is the key?"),))
    response = [40, 50, 60, tokenizer.eos_token_id]
    with torch.no_grad():
        logits = names["model"](input_ids=torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
    theirs = -float(logits.float().log_softmax(-1).gather(1, torch.tensor(response).unsqueeze(1)).sum())
    ours, _ = response_nll(open_runs({"policy": sft_run}), "policy", [prompt], [response])
    assert theirs == pytest.approx(float(ours[0]), abs=1e-3)
    assert RunFolder(sft_run).record()["base"]["quantise"] == "nf4"  # which the card must say: .1 nats a token


@pytest.mark.slow
def test_the_card_of_a_run_on_the_embedded_base_needs_no_code_of_the_workbench(tmp_path, monkeypatch):
    spec = BaseSpec("tiny", None, "nf4", "float32")
    folder = RunFolder(tmp_path)
    record = {"name": "run", "phase": "sft", "status": "finished", "parents": {}, "data": {}, "versions": {}}
    folder.write_record(record | {"base": spec.as_record(), "opened": spec.opened()})
    tokenizer = load_tokenizer("tiny")
    adapted = get_peft_model(load_base(spec, tokenizer), LoraConfig(r=2, target_modules=["q_proj"]))
    adapted.save_pretrained(tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")
    write_card(folder, about="A test.", results={})
    monkeypatch.setitem(sys.modules, "workbench", None)  # the snippet may not import it
    model = loaded(tmp_path)["model"]
    with torch.no_grad():
        ids = torch.tensor([[40, 50, 60]])
        torch.testing.assert_close(model(input_ids=ids).logits, adapted.eval()(input_ids=ids).logits)
