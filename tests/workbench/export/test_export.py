"""Whole exports of small runs, read by other libraries alone: transformers, peft, TRL, datasets, gguf, lm-eval.

What the tests compare with is computed by peft on the NF4 base or from the run's files, not by the workbench.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.export import sabotaged
from benchmarks.export_sabotages import SABOTAGES
from tests.conftest import load_phase, sft_values, write_jsonl
from tests.sft.classify.conftest import classify_values, labelled_rows
from workbench.export.run_export import Request, export, open_request
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder

pytestmark = pytest.mark.slow
pytest.importorskip("gguf")
QUESTION = [{"role": "user", "content": "Where is my parcel?"}]


@pytest.fixture(scope="module")
def exported(tmp_path_factory, sft_run, prompt_file):
    """Target and dtype or type → an exported folder; each is made once."""
    root, made = tmp_path_factory.mktemp("exported"), {}

    def one(to: str, **options: str) -> Path:
        key = "-".join([to, *options.values()])
        if key not in made:
            export(Request(RunFolder(sft_run), to, heldout=str(prompt_file), **options), root / key, quiet=True)
            made[key] = root / key
        return made[key]

    return one


def in_float32(model):
    """The model without bitsandbytes' bfloat16 kernel, which some CPUs have."""
    for layer in model.modules():
        layer.support_avx512bf16_for_cpu = False
    return model


@pytest.fixture(scope="module")
def by_peft(sft_run):
    """Logits of a prompt by the adapter on the NF4 base, with transformers and peft alone."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    tokenizer = AutoTokenizer.from_pretrained(sft_run / "adapter")
    nf4 = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.float32,
        bnb_4bit_use_double_quant=True,
    )
    base = json.loads((sft_run / "run.json").read_text())["base"]["name"]
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, quantization_config=nf4)
    model = in_float32(PeftModel.from_pretrained(model, str(sft_run / "adapter")).eval())
    ids = torch.tensor([tokenizer.apply_chat_template(QUESTION, return_dict=False)])
    with torch.no_grad():
        return ids, model(input_ids=ids).logits


@pytest.mark.parametrize(
    ("to", "options", "tolerance"),
    [
        ("merged", {}, 1e-4),
        ("merged", {"dtype": "bfloat16"}, 0.1),
        ("gguf", {}, 5e-3),
        ("gguf", {"storage": "q8_0"}, 0.1),
    ],
)
def test_transformers_gets_the_logits_of_the_adapter_on_nf4(exported, by_peft, to, options, tolerance):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, (ids, expected) = exported(to, **options), by_peft
    file = {"gguf_file": "model.gguf"} if to == "gguf" else {}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **file).eval()
    with torch.no_grad():
        logits = model(input_ids=ids).logits
    torch.testing.assert_close(logits, expected, atol=tolerance, rtol=0)
    tokenizer = AutoTokenizer.from_pretrained(folder, **file)
    assert tokenizer.apply_chat_template(QUESTION, return_dict=False) == ids[0].tolist()
    assert 2 in torch.tensor(model.config.eos_token_id).flatten().tolist()


@pytest.mark.parametrize(("to", "options"), [("adapter", {}), ("merged", {}), ("gguf", {})])
def test_the_snippet_of_the_card_runs(exported, to, options, capsys):
    folder = exported(to, **options)
    names = run_card(folder)
    assert names["answer"].shape[1] > names["inputs"]["input_ids"].shape[1]
    assert "Where is it?" in capsys.readouterr().out


def run_card(folder: Path) -> dict:
    """The names that the code in a card defines."""
    names: dict = {}
    exec(
        re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL).group(1), names
    )
    return names


def test_the_scores_of_a_reward_model_by_transformers_alone(tmp_path, reward_run):
    """The stored probe: the scores that the reward run recorded, gain and offset included."""
    from safetensors.torch import load_file
    from transformers import AutoModelForSequenceClassification

    out = tmp_path / "classifier"
    export(Request(RunFolder(reward_run), "classifier"), out, quiet=True)
    probe = load_file(reward_run / "head.safetensors")
    model = AutoModelForSequenceClassification.from_pretrained(out).eval()
    with torch.no_grad():
        scores = model(input_ids=probe["probe_ids"], attention_mask=probe["probe_mask"].long()).logits[:, 0]
    torch.testing.assert_close(scores, probe["probe_scores"], atol=2e-3, rtol=0)
    assert float(probe["offset"].abs()) > 0.1, "an offset that would be missed"
    assert isinstance(run_card(out)["logits"], torch.Tensor)


def test_a_classifier_of_labels_by_transformers_alone(tmp_path, tiny_base):
    """W h + b of its own head on the states that peft gives, for a row of the text alone."""
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, BitsAndBytesConfig

    from sft.classify.config import ClassifyConfig
    from sft.classify.train import train

    texts = write_jsonl(tmp_path / "texts.jsonl", labelled_rows())
    config = load_phase(ClassifyConfig, tmp_path / "c.yaml", classify_values(tmp_path / "run", tiny_base, texts))
    run, out = train(config, resume=False), tmp_path / "classifier"
    export(Request(run, "classifier"), out, quiet=True)
    model = AutoModelForSequenceClassification.from_pretrained(out).eval()
    nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    base = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32, quantization_config=nf4)
    trained = in_float32(PeftModel.from_pretrained(base, str(run.adapter)).eval())
    head, ids = load_file(run.head_path), torch.tensor([[1, 40, 50, 60, 2]])
    with torch.no_grad():
        states = trained.base_model.model.model(input_ids=ids).last_hidden_state[:, -1]
        expected = states @ head["weight"].T + head["bias"]
        torch.testing.assert_close(model(input_ids=ids).logits, expected, atol=1e-3, rtol=0)
    assert list(model.config.id2label.values()) == run.record()["labels"]
    assert isinstance(run_card(out)["logits"], torch.Tensor)


def test_trl_trains_on_the_merged_model_and_datasets_reads_its_rows(tmp_path, exported, preference_file):
    """DPOTrainer on what was written, with the pairs of the project as `datasets` reads them."""
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    folder = exported("merged")
    rows = load_dataset("json", data_files=str(preference_file), split="train", cache_dir=str(tmp_path / "cache"))
    rows = rows.select_columns(["prompt", "chosen", "rejected"]).select(range(4))
    settings = DPOConfig(
        output_dir=str(tmp_path / "dpo"), max_steps=1, per_device_train_batch_size=2, report_to="none", use_cpu=True,
        disable_tqdm=True,
    )  # fmt: skip
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    trainer = DPOTrainer(model=model, args=settings, train_dataset=rows, processing_class=tokenizer)
    assert trainer.train().training_loss == pytest.approx(0.693, abs=0.01), "the policy starts as its own reference"


def test_gguf_reads_names_and_metadata(exported):
    import gguf

    reader = gguf.GGUFReader(exported("gguf", storage="q8_0") / "model.gguf")
    kinds = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert kinds["blk.0.attn_q.weight"] == "Q8_0"
    assert kinds["output_norm.weight"] == "F32"
    assert "output.weight" not in kinds, "the embeddings are tied"
    assert reader.get_field("llama.attention.head_count").contents() == 2
    assert "generation" not in reader.get_field("tokenizer.chat_template").contents().replace(
        "add_generation_prompt", ""
    )


TASK = """\
task: parcels
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "User: {{{{question}}}}\\nAssistant:"
doc_to_choice: "{{{{[good, bad]}}}}"
doc_to_target: 0
target_delimiter: ""
metric_list: [{{metric: acc}}]
"""


def test_lm_eval_runs_offline_on_a_local_task(tmp_path, exported):
    """Its log-likelihoods of both choices are those of transformers."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    lm_eval = pytest.importorskip("lm_eval")
    tasks = pytest.importorskip("lm_eval.tasks")
    row = {"question": "Where is my parcel?", "good": " Your parcel is safe.", "bad": " No idea about any parcel."}
    write_jsonl(tmp_path / "rows.jsonl", [row])
    (tmp_path / "parcels.yaml").write_text(TASK.format(file=tmp_path / "rows.jsonl"))
    manager = tasks.TaskManager(include_path=str(tmp_path), include_defaults=False)
    folder = exported("merged")
    arguments = f"pretrained={folder},dtype=float32"
    found = lm_eval.simple_evaluate("hf", model_args=arguments, tasks=["parcels"], task_manager=manager, device="cpu")
    theirs = [choice[0] for choice in found["samples"]["parcels"][0]["filtered_resps"]]
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).eval()
    for choice, likelihood in zip((row["good"], row["bad"]), theirs, strict=True):
        prompt = f"User: {row['question']}\nAssistant:"
        start, ids = len(tokenizer(prompt)["input_ids"]), tokenizer(prompt + choice, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            table = model(input_ids=ids).logits[0].log_softmax(-1)
        expected = table[start - 1 : -1].gather(1, ids[0, start:, None]).sum()
        assert float(likelihood) == pytest.approx(float(expected), abs=1e-3)


@pytest.fixture(scope="module")
def opened(sft_run, reward_run, prompt_file):
    """The trained models to compare with, opened once per target."""
    found = {}

    def one(to: str):
        if to not in found:
            run, heldout = (reward_run, None) if to == "classifier" else (sft_run, str(prompt_file))
            request = Request(RunFolder(run), to, heldout=heldout)
            found[to] = request, open_request(request)
        return found[to]

    return one


@pytest.mark.parametrize("one", SABOTAGES, ids=lambda one: f"{one.to}-{one.name}".replace(" ", "_"))
def test_a_sabotaged_export_is_refused(tmp_path, opened, one):
    assert sabotaged(one, *opened(one.to), tmp_path / "export") is not None


def test_dora_is_folded_with_its_magnitudes(tmp_path, tiny_base, demonstration_file, prompt_file):
    from sft.config import SftConfig
    from sft.train import train

    values = sft_values(tmp_path / "run", tiny_base, demonstration_file)
    folder = train(load_phase(SftConfig, tmp_path / "sft.yaml", values, "lora.variant=dora"), resume=False)
    report = export(Request(folder, "merged", heldout=str(prompt_file)), tmp_path / "out", quiet=True)
    assert report["effect"] > 1e-3


def test_a_refused_export_leaves_no_folder(tmp_path, sft_run, prompt_file, monkeypatch):
    from workbench.export import run_export

    right = run_export.merged_state

    def scaled(roles, *, quiet):
        return {name: 1.1 * weight for name, weight in right(roles, quiet=quiet).items()}

    monkeypatch.setattr(run_export, "merged_state", scaled)
    with pytest.raises(WorkbenchError, match="not the trained model"):
        export(Request(RunFolder(sft_run), "merged", heldout=str(prompt_file)), tmp_path / "out", quiet=True)
    assert list(tmp_path.iterdir()) == []


def test_the_command(tmp_path, sft_run, prompt_file):
    words = ["export", str(sft_run), "--to", "merged", "--heldout", str(prompt_file), "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-m", "workbench", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "of the adapter's effect" in done.stdout
    again = subprocess.run([sys.executable, "-m", "workbench", *words], capture_output=True, text=True, check=False)
    assert (again.returncode, "exists already" in again.stderr) == (2, True)


def test_what_cannot_be_exported_says_why(tmp_path, sft_run, reward_run):
    from workbench.export.run_export import check_request

    with pytest.raises(WorkbenchError, match="--to classifier"):
        check_request(Request(RunFolder(reward_run), "merged"))
    with pytest.raises(WorkbenchError, match="trained no head"):
        export(Request(RunFolder(sft_run), "classifier"), tmp_path / "out")
    soft = tmp_path / "soft"
    (soft / "adapter").mkdir(parents=True)
    (soft / "run.json").write_text((sft_run / "run.json").read_text())
    (soft / "adapter" / "adapter_config.json").write_text(json.dumps({"peft_type": "PROMPT_TUNING"}))
    with pytest.raises(WorkbenchError, match="PROMPT_TUNING"):
        check_request(Request(RunFolder(soft), "merged"))
