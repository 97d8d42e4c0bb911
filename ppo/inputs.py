"""Checks of configuration, files, parent runs and passports, before any model library is loaded."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ppo.config import ContrastiveConfig, LossSection, PpoConfig
from ppo.guard.sources import check_enough, check_guard, labels_of
from ppo.ladder.config import PairsConfig
from ppo.people.inputs import check_spot_checks, planned
from workbench.data.inputs import (
    check_answers,
    check_base,
    check_divides,
    check_micro_batch,
    check_pairs,
    check_run_folder,
    check_sides,
    check_weights,
    data_files,
    left_out_line,
    parents,
    sha_of_labels,
    start_base,
    usable_run,
)
from workbench.data.readers import read_demonstrations, read_preferences, read_prompts, read_rated_answers
from workbench.data.records import Prompt
from workbench.data.rules import RowRules
from workbench.data.splits import from_mix, split_by_group
from workbench.run.config import load_config
from workbench.run.errors import Problems, WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.lineage import data_fingerprint, file_fingerprint
from workbench.run.outputs import check_outputs

BETA_HOLDS = ("dpo", "hinge", "ipo", "kto")
"""Methods whose β weighs the distance from the reference."""
OF_THE_PENALTY = ("label_smoothing", "unbiased", "margin", "length_coef")
UNREAD: dict[str, tuple[str, ...]] = {
    "kto": (*OF_THE_PENALTY, "soft_labels", "sft_coef"),
    "sft": (*OF_THE_PENALTY, "desirable_weight", "undesirable_weight"),
}
"""Method → keys of `loss` that it does not read."""
UNREAD_BY_OTHERS = ("desirable_weight", "undesirable_weight")
"""The same for the other methods."""
PASSPORT_VERSION = 1
"""The version of passport.json that is understood."""


def check_inputs(config: PpoConfig, problems: Problems, resume: bool = False) -> list[str]:
    """Collect every problem of values, runs, passports, files and folder; returns one line per thing that was found."""
    check_values(config, problems)
    lengths = {
        "data.max_prompt_length": config.data.max_prompt_length,
        "rollout.max_new_tokens": config.rollout.max_new_tokens,
    }
    files_of_base = start_base(problems, config.model.start, config.model.base)
    base = check_base(problems, files_of_base, lengths)
    if config.model.reference is not None:
        start_base(problems, config.model.reference, config.model.base)
    rewards = parents(problems, config.model.reward, "reward", config.model.base)
    for reward in rewards:
        problems.attempt(check_passports, [reward], force=config.model.force)
    check_guard(problems, config.guard, [sha_of_labels(reward) for reward in rewards], config.model.base)
    check_spot_checks(problems, config)
    if config.guard.judge and rewards:
        problems.attempt(labels_of, rewards[0])
    problems.attempt(check_run_folder, config.run, "ppo", config, resume=resume)
    section = config.data
    names = {"train": section.train, "heldout": section.heldout}
    if config.train.ptx_coef > 0:
        names["demonstrations"] = section.demonstrations
    files = data_files(names, problems)
    if files is None:
        return base
    rules = RowRules(section.ignore, section.bad_rows)
    found = []
    if "demonstrations" in files:
        records = problems.attempt(read_demonstrations, files["demonstrations"], rules) or []
        check_sides(problems, files_of_base, [(files["demonstrations"], records)], rules)
        found.append(f"data.demonstrations: {files['demonstrations']}: {len(records):,} demonstrations")
    sides = problems.attempt(
        read_sides, files["train"], files.get("heldout"), share=section.heldout_share, seed=config.run.seed, rules=rules
    )
    if sides is not None:
        places = files["train"], files.get("heldout", files["train"])
        check_sides(problems, files_of_base, list(zip(places, sides, strict=True)), rules)
        found[:0] = [
            f"data.train: {files['train']}: {len(sides[0]):,} prompts to train on",
            f"data.heldout: {files.get('heldout', files['train'])}: {len(sides[1]):,} prompts held out",
        ]
    return [*base, *found, *left_out_line(rules)]


def check_contrastive_inputs(config: ContrastiveConfig, problems: Problems, resume: bool = False) -> list[str]:
    """The same for the contrastive methods."""
    section = config.data
    check_contrastive_values(config, problems)
    problems.attempt(check_micro_batch, config.train)
    files_of_base = start_base(problems, config.model.start, config.model.base)
    base = check_base(problems, files_of_base, {"data.max_length": section.max_length})
    problems.attempt(check_run_folder, config.run, "ppo", config, resume=resume)
    rules = RowRules(section.ignore, section.bad_rows)
    mixed, records = (None if section.mix is None else data_files({"mix": section.mix}, problems)), None
    if mixed is not None:
        read: Any = read_rated_answers if config.method == "kto" else read_preferences
        records = problems.attempt(read, mixed["mix"], rules)
        check_sides(problems, files_of_base, [(mixed["mix"], records or [])], rules)
    sides: dict[str, Any] = {
        "train": section.train,
        "heldout": section.heldout,
        "heldout_share": section.heldout_share,
        "seed": config.run.seed,
        "limit": section.limit,
        "rules": rules,
    }
    if section.refresh is not None and (ladder := problems.attempt(load_config, PairsConfig, Path(section.refresh))):
        check_ladder_inputs(ladder[0], problems)
    if config.evaluation.reward is not None:
        parents(problems, [config.evaluation.reward], "reward", config.model.base)
    sources = data_files({"train": section.train}, Problems()) or {}
    learnt = [str(data_fingerprint(path)["sha256"]) for path in sources.values() if path.exists()]
    check_guard(problems, config.guard, learnt, config.model.base)
    check = check_answers if config.method == "kto" else check_pairs
    split, found = check(problems, files_of_base, **sides)
    if split is not None:
        more = from_mix(records or [], split.heldout)
        if mixed and records:
            base.append(_mix_line(mixed["mix"], len(more), len(records), section.mix_weight, problems))
        check_weights(problems, section.train, [*split.train, *more], soft=config.loss.soft_labels)
    return [*base, *found]


def _mix_line(path: Path, used: int, records: int, weight: float, problems: Problems) -> str:
    """How many records of `data.mix` are trained on; that none is, is a problem."""
    if not used:
        problems.add(
            path,
            f"none of its {records:,} records can be mixed in: they are ties or held out",
            expected="records with a judgement, of prompts that are not held out",
            remedy="another data.mix, or leave it out",
        )
    left_out = f"; {records - used:,} left out as ties or held out" if used < records else ""
    return f"data.mix: {path}: {used:,} records at weight {weight:g}{left_out}"


def check_contrastive_values(config: ContrastiveConfig, problems: Problems) -> None:
    """Collect problems of values that must fit each other."""
    for name in UNREAD.get(config.method, UNREAD_BY_OTHERS):
        value, default = getattr(config.loss, name), LossSection.model_fields[name].default
        if value != default:
            shown = str(default).lower()
            problems.add(
                f"loss.{name}",
                f"is {str(value).lower()}, which method={config.method} does not read",
                expected=f"the default, {shown}",
                remedy=f"loss.{name}={shown}, or another method (docs/contrastive.md)",
            )
    if config.data.mix is None and config.data.mix_weight != 1:
        problems.add(
            "data.mix_weight",
            f"is {config.data.mix_weight:g}, but without data.mix there is nothing to weigh",
            expected="1, or a file in data.mix",
            remedy="data.mix=FILE, or data.mix_weight=1",
        )
    if config.guard.judge:
        problems.attempt(check_enough, "evaluation.prompts", config.evaluation.prompts)
    if config.guard.judge and not config.evaluation.every:
        problems.add(
            "evaluation.every",
            "is 0, but the guard reads the answers of evaluations",
            expected="optimizer steps between two evaluations",
            remedy="evaluation.every=20, or guard.judge=[]",
        )
    if config.guard.judge and config.guard.act == "beta" and config.method not in BETA_HOLDS:
        problems.add(
            "guard.act",
            f"is beta, but a larger loss.beta does not hold the policy of {config.method} nearer to its reference",
            expected=f"say or stop, or one of the methods {', '.join(BETA_HOLDS)}",
            remedy="guard.act=stop",
        )
    if config.method == "sft" and config.loss.sft_coef == 0:
        problems.add(
            "loss.sft_coef", "is 0, but method sft trains on nothing else", expected="above 0", remedy="loss.sft_coef=1"
        )
    if config.method == "kto" and config.curriculum.schedule != "mixed":
        problems.add(
            "curriculum.schedule",
            f"is {config.curriculum.schedule}, but kto reads single answers, which have no difficulty",
            expected="mixed",
        )
    if config.data.refresh is not None and not _refreshes(config):
        problems.add(
            "data.refresh",
            "replaces the pairs of later epochs, but this run has one epoch, a curriculum over all pairs, or no pairs",
            expected="train.epochs above 1, train.max_steps=0, curriculum.schedule=mixed, and another method than kto",
        )


def _refreshes(config: ContrastiveConfig) -> bool:
    """Whether the run has a second epoch, of pairs that are not drawn beforehand."""
    train = config.train
    epochs = train.epochs > 1 and train.max_steps == 0
    return epochs and config.curriculum.schedule == "mixed" and config.method != "kto"


def read_sides(
    train: Path, heldout: Path | None, *, share: float, seed: int, rules: RowRules | None = None
) -> tuple[list[Prompt], list[Prompt]]:
    """Prompts to train on and held-out prompts, from two files or from one file that is split by prompt.

    Raises:
        WorkbenchError: from the readers, of both files; one side is empty; a held-out prompt is also a training prompt.
    """
    apart = heldout is not None and heldout != train
    problems = Problems()
    records = problems.attempt(read_prompts, train, rules) or []
    held_out = problems.attempt(read_prompts, heldout, rules) or [] if apart else []
    problems.raise_if_any()
    if not apart:
        records, held_out = split_by_group(records, share, seed)
    elif both := {p.prompt for p in records} & {p.prompt for p in held_out}:
        raise WorkbenchError(
            heldout,
            f"{len(both)} of its prompts are also in {train}",
            expected="held-out prompts that are never trained on",
            remedy="leave data.heldout out to split the training prompts",
        )
    if not records or not held_out:
        raise WorkbenchError(
            train,
            f"{len(records)} prompts to train on and {len(held_out)} held out",
            expected="at least one of each",
            remedy="data.heldout=FILE, or another data.heldout_share",
        )
    return records, held_out


def check_ladder_inputs(config: PairsConfig, problems: Problems, resume: bool = False) -> list[str]:
    """Collect every problem of runs, base and prompts; returns one line per thing that was found."""
    section = config.ladder
    lengths = {"ladder.max_new_tokens": section.max_new_tokens}
    found = check_base(problems, start_base(problems, section.start, None), lengths)
    for rung in section.rungs:
        if rung.run is not None:
            problems.attempt(usable_run, rung.run, ("sft", "ppo"))
        if rung.best_of > 1 and section.reward is None:
            problems.add(
                "ladder.reward",
                f"has no value, but rung {rung.name} takes the best of {rung.best_of}",
                expected="a reward run that chooses",
            )
    if section.reward is not None:
        problems.attempt(usable_run, section.reward, "reward")
    files = data_files({"ladder.prompts": section.prompts}, problems)
    if files is not None:
        rules = RowRules(config.data.ignore, config.data.bad_rows)
        outputs = {"ladder.out": Path(section.out) / "preferences.jsonl"}
        problems.attempt(check_outputs, outputs, files.values(), remedy="another ladder.out")
        prompts = problems.attempt(read_prompts, files["ladder.prompts"], rules) or []
        found += [f"ladder.prompts: {files['ladder.prompts']}: {len(prompts):,} prompts", *left_out_line(rules)]
    return found


def check_values(config: PpoConfig, problems: Problems) -> None:
    """Collect problems of values that must fit each other."""
    rollout, section = config.rollout, config.train
    for key, small, large_key, large in (
        ("train.minibatch_size", section.minibatch_size, "rollout.batch_size", rollout.batch_size),
        ("train.micro_batch_size", section.micro_batch_size, "train.minibatch_size", section.minibatch_size),
        ("rollout.responses_per_prompt", rollout.responses_per_prompt, "rollout.batch_size", rollout.batch_size),
    ):
        problems.attempt(check_divides, key, small, large_key, large)
    if section.advantage != "gae" and rollout.responses_per_prompt < 2:
        problems.add(
            "rollout.responses_per_prompt",
            f"is {rollout.responses_per_prompt}, but train.advantage={section.advantage} compares responses",
            expected="2 or more",
            remedy="rollout.responses_per_prompt=4, or train.advantage=gae",
        )
    if rollout.importance_cap > 0 and rollout.engine != "vllm":
        problems.add(
            "rollout.importance_cap",
            f"needs the probabilities that the engine sampled from, which {rollout.engine} does not report",
            expected="0, or rollout.engine=vllm",
            remedy="rollout.importance_cap=0",
        )
    if config.reward.kl_in == "loss" and config.reward.kl_estimator == "k1":
        problems.add(
            "reward.kl_estimator",
            "k1 has no gradient on average, so as a loss it would not limit the KL",
            expected="k2 or k3 with reward.kl_in=loss",
            remedy="reward.kl_estimator=k2",
        )
    if config.guard.judge:
        problems.attempt(check_enough, "rollout.batch_size", rollout.batch_size)
    if config.guard.judge and not planned(section.iterations, config.guard.every):
        problems.add(
            "guard.every",
            f"is {config.guard.every}, so that a run of {section.iterations} iterations is only observed at its start",
            expected="less than train.iterations: an alarm needs two observations",
        )
    if config.guard.judge and config.guard.act == "beta" and config.reward.kl_target > 0:
        problems.add(
            "reward.kl_target",
            f"is {config.reward.kl_target:g}, and would undo what guard.act=beta does to the coefficient",
            expected="0, or guard.act=stop or say",
            remedy="reward.kl_target=0",
        )
    if section.ptx_coef > 0 and config.data.demonstrations is None:
        problems.add(
            "data.demonstrations",
            "is missing, but train.ptx_coef > 0 needs demonstrations",
            expected="a file of demonstrations",
            remedy="data.demonstrations=FILE, or train.ptx_coef=0",
        )


def check_passports(rewards: Sequence[RunFolder], *, force: bool) -> dict[str, list[str]]:
    """Check that every reward run, with its present files, has a passport that passes.

    Args:
        rewards: the reward runs, as named in `model.reward`.
        force: train anyway.

    Returns:
        Run → objections to its passport; empty unless forced.

    Raises:
        WorkbenchError: a passport is missing, fails, or belongs to other weights, and `force` is not set.
    """
    every = {str(reward.path): objections(reward) for reward in rewards}
    refused = {run: reasons for run, reasons in every.items() if reasons}
    if refused and not force:
        run, reasons = next(iter(refused.items()))
        raise WorkbenchError(
            run,
            f"PPO is refused against this reward model: {', '.join(reasons)}",
            expected=f"a passport that passes (see {Path(run) / 'passport.html'})",
            remedy=f"python -m reward passport {shlex.quote(run)} examines it; --force (model.force=true) overrides it",
        )
    return refused


def objections(reward: RunFolder) -> list[str]:
    """Objections to a run's passport: the checks that fail, or one sentence; empty if it passes.

    Raises:
        WorkbenchError: the file is broken.
    """
    path = reward.path / "passport.json"
    if not path.is_file():
        return ["it has no passport"]
    try:
        passport: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version, outcome = passport["version"], passport["outcome"]
        failed, files = list(passport["failed"]), dict(passport["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise WorkbenchError(
            path, f"is not a passport ({error})", remedy=f"python -m reward passport {shlex.quote(str(reward.path))}"
        ) from None
    if version != PASSPORT_VERSION:
        return [f"its passport has version {version}, not {PASSPORT_VERSION}"]
    changed = [name for name, digest in files.items() if _digest(reward.path / name) != digest]
    if changed or not files:
        return [f"its passport belongs to other weights ({', '.join(changed) or 'none'})"]
    if outcome == "pass":
        return []
    return [f"check {name} fails" for name in failed] or ["its passport fails"]


def forced_text(forced: dict[str, list[str]]) -> str:
    """For the model card."""
    return "; ".join(f"`{run}`: {', '.join(reasons)}" for run, reasons in forced.items())


def _digest(path: Path) -> str | None:
    return str(file_fingerprint(path)["sha256"]) if path.is_file() else None
