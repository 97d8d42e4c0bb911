"""Bases of other people from the first phase to the report, by overrides of the shipped configurations alone."""

import json
from pathlib import Path

import pytest
import torch

from annotate.__main__ import main as annotate
from ppo.__main__ import main as ppo
from reward.__main__ import main as reward
from sft.__main__ import main as sft
from tests.bases import with_files, write_base
from tests.conftest import write_jsonl
from workbench.__main__ import main as workbench
from workbench.data.readers import read_items
from workbench.model.open import open_runs
from workbench.run.folder import RunFolder

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs/tiny"
STORIES = (ROOT / "../shared/data/models/stories260K").resolve()
QUIET = ["tracking.wandb=disabled", "run.threads=1"]

pytestmark = pytest.mark.slow


@pytest.fixture(params=["llama3", "mistral", "qwen2", "granite", "stories260K"])
def base(request, tiny_base, tmp_path):
    """A base in a folder with a space and an accent; Llama 3's has several end tokens and a sampling file."""
    kind, folder = request.param, tmp_path / "my bäses" / request.param
    if kind == "stories260K":
        if not STORIES.is_dir():
            pytest.skip("no real material beside the project")
        return STORIES
    write_base(folder, kind, tiny_base)
    ends = {"eos_token_id": [2, 1], "repetition_penalty": 1.5, "top_k": 3}
    return with_files(folder, folder.with_name("ends"), generation_config=ends) if kind == "llama3" else folder


def labelled(items: Path, out: Path) -> Path:
    """Preferences for the longer of two answers."""
    rows = []
    for item in read_items(items):
        short, long = sorted((response.text for response in item.responses), key=lambda text: (len(text), text))
        prompt = [message.model_dump(mode="json") for message in item.prompt]
        rows.append({"prompt": prompt, "chosen": long or "x", "rejected": short or "y"})
    return write_jsonl(out, [row for row in rows if row["chosen"] != row["rejected"]])


def test_a_base_goes_through_every_phase(base, tmp_path, demonstration_file, prompt_file, capfd):
    runs = {name: tmp_path / "runs" / name for name in ("sft", "reward", "ppo", "dpo")}

    def phase(main, name, *words, config=None):
        command = [str(CONFIGS / f"{config or name}.yaml"), f"run.dir={runs[name]}", *words, *QUIET]
        assert main(command) == 0
        assert RunFolder.open(runs[name]).finished

    quantise = "nf4" if base.name in ("mistral", "stories260K") else "none"
    short, train = ["data.max_length=200"], ["train.batch_size=8", "train.micro_batch_size=8", "train.max_steps=3"]
    words = [f"model.base={base}", f"model.quantise={quantise}", f"data.train={demonstration_file}"]
    sampling = ["data.validation=null", "data.validation_share=0.2", "sample.prompts=2", "sample.max_new_tokens=16"]
    phase(sft, "sft", *words, *sampling, *short, *train)
    record = RunFolder.open(runs["sft"]).record()
    assert record["opened"]["dtype"] == "float32"
    assert "positions" in record["opened"]["description"]

    items = tmp_path / "items.jsonl"
    pairs = [f"pairs.run={runs['sft']}", f"pairs.prompts={prompt_file}", f"pairs.out={items}", "pairs.number=16"]
    annotate(
        ["pairs", str(CONFIGS / "annotate.yaml"), *pairs, "pairs.responses_per_prompt=2", "pairs.max_new_tokens=16"]
    )
    preferences = labelled(items, tmp_path / "preferences.jsonl")

    start = [f"model.start={runs['sft']}", f"data.train={preferences}"]
    normalise = ["normalise.answers=16", "normalise.max_new_tokens=16", "normalise.batch_size=16"]
    phase(reward, "reward", *start, *short, *train, *normalise, "data.heldout_share=0.3", "passport.at_end=false")

    rollout = ["rollout.batch_size=8", "rollout.micro_batch_size=8", "rollout.max_new_tokens=16"]
    update = [
        "train.minibatch_size=8",
        "train.micro_batch_size=8",
        "train.iterations=1",
        "train.value_only_iterations=0",
    ]
    prompts = [f"data.train={prompt_file}", "data.heldout=null", "data.heldout_share=0.3", "data.max_prompt_length=100"]
    models = [start[0], f"model.reward={runs['reward']}", "model.force=true", "evaluation.prompts=4"]
    phase(ppo, "ppo", *models, *prompts, *rollout, *update)
    phase(ppo, "dpo", *start, *short, *train, "data.heldout_share=0.3")

    against = ["--prompts", str(prompt_file), "--reward", str(runs["reward"]), "--max-new-tokens", "16"]
    assert workbench(["evaluate", str(runs["ppo"]), str(runs["dpo"]), *against]) == 0
    assert workbench(["report", str(runs["ppo"]), str(runs["sft"]), "--out", str(tmp_path / "report.html")]) == 0
    assert (tmp_path / "report.html").stat().st_size > 1000
    said = capfd.readouterr()
    assert "Traceback" not in said.err
    if quantise == "none":
        assert_plain_peft_gives_the_same(base, runs["ppo"])


def assert_plain_peft_gives_the_same(base: Path, run: Path) -> None:
    """The published adapter on the base as transformers loads it: its own logits, the LM head's scale included."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    ids = torch.tensor([[1, 5, 9, 100, 200]])
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(run / "adapter")).eval()
    roles = open_runs({"policy": run})
    with roles.use("policy") as forward, torch.no_grad():
        ours = forward(ids, torch.ones_like(ids)) @ roles.lm_head.T
        torch.testing.assert_close(ours, plain(input_ids=ids).logits, rtol=1e-4, atol=1e-4)
    assert json.loads((run / "adapter/adapter_config.json").read_text())["peft_type"] == "LORA"
