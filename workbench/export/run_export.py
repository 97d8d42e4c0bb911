"""One export: written under a hidden name, read back, compared with the trained model, and only then published."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import BitsAndBytesConfig

from workbench.data.base_files import base_folder
from workbench.export import readback
from workbench.export.agreement import LIMITS, Agreement, agreement, breaches
from workbench.export.card import write_card
from workbench.export.classifier import with_head
from workbench.export.heldout import Head, head_logits, head_of, heldout_rows
from workbench.export.llama_gguf import Storage, gguf_content, plain_text_specials, stored_in, write_gguf
from workbench.export.merge import State, merged_state, plain_config, write_model
from workbench.export.trained import States, Weights, check_lora, open_trained, states_of
from workbench.model.open import base_of
from workbench.model.precision import SCORE_TOLERANCE
from workbench.model.roles import Roles
from workbench.run.checkpoints import publish_folder
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.lineage import base_fingerprint, run_fingerprint

Target = Literal["adapter", "merged", "gguf", "classifier"]
REPORT, GGUF = "export.json", "model.gguf"
GAP = 0.2
"""Nats per token: the most that a merge into the original weights may differ from what was trained on NF4 ones."""


@dataclass(frozen=True)
class Request:
    """What to export, and how."""

    folder: RunFolder
    to: Target
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the weights of `merged` and `classifier`."""
    storage: Storage = "f16"
    """Of the weights of `gguf`."""
    weights: Weights = "trained"
    """Which base the adapter is folded into."""
    heldout: str | None = None
    """File of held-out prompts, pairs or texts. Default: the run's own."""
    base: str | None = None
    """Where the base is now, if not where the run says."""

    @property
    def stored(self) -> str:
        """How the weights are stored, a key of `LIMITS`."""
        return {"adapter": "float32", "gguf": self.storage}.get(self.to, self.dtype)

    @property
    def out(self) -> Path:
        """The default folder, within the run's."""
        parts = [
            self.to,
            *([self.stored] if self.to != "adapter" else []),
            *([self.weights] * (self.weights != "trained")),
        ]
        return self.folder.path / "export" / "-".join(parts)


@dataclass(frozen=True)
class Trained:
    """Everything that an export is compared with."""

    roles: Roles
    """The base that the adapter is folded into, with the adapter."""
    rows: list[list[int]]
    states: States
    head: Head | None
    on_trained_base: States | None
    """The states on the base of training, if the export is folded into another one."""


def open_request(request: Request) -> Trained:
    """Load the trained model and compute what the export has to give.

    Raises:
        WorkbenchError: the run cannot be exported in this way.
    """
    check_request(request)
    trained = open_trained(request.folder, base=request.base)
    head = head_of(request.folder, trained) if request.to == "classifier" else None
    rows = heldout_rows(request.folder, trained, request.heldout)
    states = states_of(trained, rows)
    if request.weights == "trained":
        return Trained(trained, rows, states, head, None)
    original = open_trained(request.folder, "original", base=request.base)
    return Trained(original, rows, states_of(original, rows), head, states)


def check_request(request: Request) -> None:
    """Refuse what cannot be exported, before a model is loaded.

    Raises:
        WorkbenchError: the run or the combination of options does not allow it.
    """
    check_lora(request.folder.require_finished())
    if request.folder.has_head and request.to != "classifier":
        raise WorkbenchError(
            request.folder.path,
            f"is a {request.folder.record()['phase']} run: its head is not part of a language model",
            remedy="--to classifier",
        )
    if request.to == "adapter" and request.weights == "original":
        raise WorkbenchError("--base-weights", "original: an adapter is not folded into weights", remedy="--to merged")


def export(
    request: Request, out: Path | None = None, *, opened: Trained | None = None, quiet: bool = False
) -> dict[str, Any]:
    """Write, verify and publish.

    Args:
        request: what to export.
        out: folder to write; None: `request.out`.
        opened: from `open_request`, if several forms of one run are written.
        quiet: show no progress bars.

    Returns:
        The content of export.json: what was written, from what, and how well it agrees.

    Raises:
        WorkbenchError: it cannot be exported, the folder exists, or the written files do not give what was trained.
    """
    out = out or request.out
    if out.exists():
        raise WorkbenchError(out, "exists already", remedy="--out ANOTHER, or delete it")
    trained, report = opened or open_request(request), {}

    def write(folder: Path) -> None:
        write_files(request, trained, folder, quiet=quiet)
        report.update(described(request, trained) | verify(request, trained, folder))
        (folder / REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        write_card(folder, out, report)

    publish_folder(out, write)
    return report


def result_line(out: Path, report: dict[str, Any]) -> str:
    """What the command prints."""
    if "kl" not in report:
        return f"{out}: {report['rows']} rows, logits within {report['largest_difference']:.2g} of the trained model"
    share = "" if report["survival"] is None else f", {report['survival']:.1%} of the adapter's effect"
    return f"{out}: KL {report['kl']:.2g} nats per token, top-1 {report['top1']:.2%}{share}"


def described(request: Request, trained: Trained) -> dict[str, Any]:
    """What was exported, from what."""
    spec = base_of(request.folder, request.base)
    quantised = spec.quantise == "nf4" and request.weights == "trained"
    return {
        "to": request.to,
        "stored": request.stored,
        "run": str(request.folder.path),
        "phase": request.folder.record()["phase"],
        "adapter_sha256": run_fingerprint(request.folder.path),
        "base": {"name": spec.name, "weights": spec.fingerprint},
        "base_weights": "dequantised NF4" if quantised else "as in its files",
        "labels": trained.head.labels if trained.head else None,
        "multi_label": bool(trained.head and trained.head.multi_label),
    }


def write_files(request: Request, trained: Trained, folder: Path, *, quiet: bool = False) -> None:
    """Write the model into an empty folder, unverified."""
    if request.to == "adapter":
        _write_adapter(request, trained.roles, folder)
    else:
        write_state(request, trained, folder, merged_state(trained.roles, quiet=quiet), quiet=quiet)


def write_state(request: Request, trained: Trained, folder: Path, state: State, *, quiet: bool = False) -> None:
    """Write merged weights as a model, a classifier or a GGUF file."""
    tokenizer, config = trained.roles.tokenizer, plain_config(trained.roles, getattr(torch, request.dtype))
    if request.to == "gguf":
        content = gguf_content(state, config, tokenizer, request.folder.path.name)
        write_gguf(folder / GGUF, content, request.storage, quiet=quiet)
        return
    if trained.head is not None:
        state, config = with_head(state, config, trained.head)
    write_model(folder, state, config, tokenizer)


def _write_adapter(request: Request, roles: Roles, folder: Path) -> None:
    for file in sorted(request.folder.adapter.iterdir()):
        if file.name != "README.md":
            shutil.copyfile(file, folder / file.name)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"base_model_name_or_path": _base_path(request)}
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    roles.tokenizer.save_pretrained(folder)


def _base_path(request: Request) -> str:
    spec = base_of(request.folder, request.base)
    return str(base_folder(spec.name, spec.revision) or spec.name)


def verify(request: Request, trained: Trained, folder: Path) -> dict[str, Any]:
    """Read a written folder with transformers alone and compare it with the trained model.

    Returns:
        The agreement, and the limits that it is within.

    Raises:
        WorkbenchError: it is not the trained model.
    """
    checks: dict[Target, Callable[[Request, Trained, Path], Any]] = {
        "adapter": _read_adapter,
        "merged": _read_model,
        "gguf": _read_gguf,
        "classifier": _read_model,
    }
    model = checks[request.to](request, trained, folder)
    if trained.head is not None:
        return _verify_scores(request, trained, folder, model)
    found, limits = _agreement(trained, trained.states, model), LIMITS[request.stored]
    wrong = breaches(found, limits)
    report: dict[str, Any] = asdict(found) | {"limits": asdict(limits)}
    if trained.on_trained_base is not None:
        gap = _agreement(trained, trained.on_trained_base, model)
        report["against_the_base_of_training"] = {"kl": gap.kl, "top1": gap.top1, "kl_limit": GAP}
        wrong += breaches(gap, replace(limits, kl=GAP, top1=0.0, survival=float("inf")))
    if wrong:
        raise readback.refusal(folder, "; ".join(wrong))
    if request.to != "adapter":
        readback.same_weights(folder, model, _expected_weights(request, trained))
    return report


def _expected_weights(request: Request, trained: Trained) -> dict[str, tuple[Tensor, float]]:
    state = merged_state(trained.roles, quiet=True)
    if request.to == "gguf":
        return {name: stored_in(name, weight, request.storage) for name, weight in state.items()}
    return {name: (weight.to(getattr(torch, request.dtype)).float(), 0.0) for name, weight in state.items()}


def _agreement(trained: Trained, states: States, model: Any) -> Agreement:
    pad = trained.roles.tokenizer.pad_token_id
    logits = readback.token_logits(model, trained.rows, pad)
    return agreement(states.trained, states.base, states.lm_head, logits)


def _verify_scores(request: Request, trained: Trained, folder: Path, model: Any) -> dict[str, Any]:
    assert trained.head is not None
    expected = head_logits(trained.roles, trained.head, trained.rows)
    found = readback.row_logits(model, trained.rows, trained.roles.tokenizer.pad_token_id)
    worst = float((found - expected).abs().max())
    spread = float(expected.std(dim=0).mean()) if len(expected) > 1 else 1.0
    limit = SCORE_TOLERANCE[getattr(torch, request.dtype)] * max(spread, 1e-3)
    if not worst <= limit:
        raise readback.refusal(folder, f"its scores differ by up to {worst:.3g}", f"at most {limit:.3g}")
    return {"rows": len(expected), "largest_difference": worst, "limit": limit}


def _texts(trained: Trained) -> list[str]:
    tokenizer = trained.roles.tokenizer
    return [" ".join(str(tokenizer.decode(row, skip_special_tokens=True)).split()) for row in trained.rows[:16]]


def _read_model(request: Request, trained: Trained, folder: Path) -> Any:
    dtype = getattr(torch, request.dtype)
    config = plain_config(trained.roles, dtype)
    if trained.head is not None:
        _, config = with_head({}, config, trained.head)
    readback.check_weights(folder, dtype)
    readback.check_config(folder, config)
    readback.check_tokenizer(folder, trained.roles.tokenizer, _texts(trained))
    return readback.load(folder, "causal" if trained.head is None else "classifier")


def _read_gguf(request: Request, trained: Trained, folder: Path) -> Any:
    model = readback.load(folder, "causal", gguf_file=GGUF)
    if cut := plain_text_specials(folder / GGUF, trained.roles.tokenizer):
        raise readback.refusal(folder, f"it marks special tokens as text: {', '.join(cut)}")
    expected = plain_config(trained.roles, torch.float32).to_dict()
    readback.differences(folder, model.config.to_dict(), expected, readback.IN_GGUF)
    readback.check_ends(folder, model.config, trained.roles.tokenizer)
    options: dict[str, Any] = {"with_specials": False, "gguf_file": GGUF}
    readback.check_tokenizer(folder, trained.roles.tokenizer, _texts(trained), **options)
    return model


def _read_adapter(request: Request, trained: Trained, folder: Path) -> Any:
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    ours = json.loads((request.folder.adapter / "adapter_config.json").read_text(encoding="utf-8"))
    readback.differences(folder, config, ours, sorted((config.keys() | ours.keys()) - {"base_model_name_or_path"}))
    spec, path = base_of(request.folder, request.base), Path(str(config["base_model_name_or_path"]))
    if path.is_dir() and spec.fingerprint and base_fingerprint(path) != spec.fingerprint:
        raise readback.refusal(folder, f"its base {path} is another one", f"weights {spec.fingerprint}")
    readback.check_tokenizer(folder, trained.roles.tokenizer, _texts(trained))
    options: dict[str, Any] = {}
    if spec.opened()["stored"] == "unquantised" and spec.quantise == "nf4":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=torch.float32,
            bnb_4bit_use_double_quant=True,
        )
    return readback.load(folder, "causal", **options)
