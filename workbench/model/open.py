"""Finished runs opened together as roles of one base, after checking that they belong together."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from workbench.data.base_files import base_folder
from workbench.model.base import BaseSpec, load_base, load_tokenizer
from workbench.model.heads import Probe, ScalarHead, load_head
from workbench.model.precision import SCORE_TOLERANCE
from workbench.model.roles import Roles
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.sections import Kernels


def base_of(folder: RunFolder, override: str | None = None) -> BaseSpec:
    """The base that a run was trained on, optionally found at another place.

    Raises:
        WorkbenchError: the base at that place is another one than the run was trained on.
    """
    spec = BaseSpec.from_record(folder.record(), folder.record_path)
    if override is not None and override != spec.name:
        moved = replace(spec, name=override, revision=None).identified()
        if spec.fingerprint and moved.fingerprint and moved.fingerprint != spec.fingerprint:
            raise WorkbenchError(
                "model.base",
                f"{override} is not the base that {folder.path} was trained on",
                expected=f"{spec.name} (weights {spec.fingerprint}; found {moved.fingerprint})",
                remedy="leave model.base out, or give a run that was trained on this base",
            )
        spec = replace(spec, name=override, revision=None)
    elif spec.fingerprint and base_folder(spec.name, spec.revision):
        now = spec.identified().fingerprint
        if now != spec.fingerprint:
            raise WorkbenchError(
                folder.path,
                f"was trained on another version of base {spec.name}",
                expected=f"weights {spec.fingerprint}, found {now}",
                remedy="restore that base (model.base=…), or train the run again",
            )
    return spec


def open_runs(
    runs: Mapping[str, str | Path],
    *,
    base: str | None = None,
    kernels: Kernels | None = None,
    check_probes: bool = True,
) -> Roles:
    """Load several runs as roles of one base.

    Args:
        runs: role name → run folder (finished). A reward run brings its head.
        base: where the base is now, when not where the first run says.
        kernels: as in `model.kernels`; None: `modules` if the first run was configured so, else `auto`.
        check_probes: prove for each reward run that it scores its stored probe batch as it did when it was trained.

    Raises:
        WorkbenchError: a run is missing, unfinished, or on another base; a probe score differs.
    """
    folders = {role: RunFolder.open(path).require_finished() for role, path in runs.items()}
    specs = {role: base_of(folder, base) for role, folder in folders.items()}
    first_role, first_spec = next(iter(specs.items()))
    for role, spec in specs.items():
        if (spec.fingerprint, spec.quantise) != (first_spec.fingerprint, first_spec.quantise):
            raise WorkbenchError(
                folders[role].path,
                f"its base is {spec.name} ({spec.quantise}), that of {folders[first_role].path} is "
                f"{first_spec.name} ({first_spec.quantise})",
                expected="runs on one base: adapters share it",
            )
    tokenizer = load_tokenizer(first_spec.name, first_spec.revision, first_spec.pad_token)
    if kernels is None:
        kernels = "modules" if first_spec.kernels == "modules" else "auto"
    model = load_base(replace(first_spec, kernels=kernels), tokenizer)
    without_dropout(model)
    roles = Roles.of(model, tokenizer, first_role, folders[first_role].adapter)
    for role, folder in folders.items():
        if role != first_role:
            roles.add(role, folder.adapter)
        if folder.record()["phase"] == "reward":
            head, probe = load_head(folder.head_path)
            roles.heads[role] = head.to(roles.device)
            for parameter in head.parameters():
                parameter.requires_grad_(False)
            if check_probes and probe is not None:
                check_probe(roles, role, probe, folder.path)
    return roles


def without_dropout(model: torch.nn.Module) -> None:
    """Switch off a base's own dropout: log-probabilities and scores of roles must be the same in every pass."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "attention_dropout"):
            vars(module)["attention_dropout"] = 0.0  # a number in attention modules, which read it in train mode
    config: Any = model.config
    config.attention_dropout = 0.0


def check_probe(roles: Roles, role: str, probe: Probe, place: Path) -> float:
    """Score the stored probe batch again and compare.

    Returns:
        The largest absolute difference, in standard deviations of the reward model's scores.

    Raises:
        WorkbenchError: the scores are not those that the reward run recorded.
    """
    scores = roles.scores(role, probe.ids.to(roles.device), probe.mask.to(roles.device)).cpu()
    worst = float((scores - probe.scores).abs().max())
    tolerance = SCORE_TOLERANCE[roles.dtype]
    if not worst <= tolerance:
        raise WorkbenchError(
            place,
            f"the reward model scores its probe batch differently than when it was trained (by up to {worst:.3g})",
            expected=f"differences up to {tolerance:g}",
            remedy="its adapter, head or base has changed: check the files, or train the reward model again",
        )
    return worst


def new_value_head(reward_head: ScalarHead) -> ScalarHead:
    """A trainable copy of a reward head with its normalisation folded into weight and bias."""
    head = ScalarHead(reward_head.weight.numel())
    with torch.no_grad():
        head.weight.copy_(reward_head.gain * reward_head.weight)
        head.bias.copy_(reward_head.gain * reward_head.bias + reward_head.offset)
    return head.to(reward_head.weight.device)
