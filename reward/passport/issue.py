"""Opens a finished reward run, examines it, and writes passport.json and passport.html into its folder."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from reward.config import RewardConfig
from reward.inputs import read_facts
from reward.passport.document import PAGE, Passport, render
from reward.passport.examination import MemberScores, Subject, examine
from reward.passport.integrity import head_check, integrity, reload_check
from reward.passport.judge import failed_names, judge, verdict, warnings
from reward.passport.sampling import NOT_ASKED, sample_runs, sample_scores
from workbench.data.readers import read_preferences
from workbench.data.records import Message, Preference
from workbench.data.rules import RowRules
from workbench.data.tokenise import encode_rows
from workbench.evaluate.heldout_pairs import own_heldout_pairs
from workbench.evaluate.role_models import RoleScore, reward_roles
from workbench.evaluate.statistics import Floats
from workbench.model.heads import load_head
from workbench.model.open import open_runs
from workbench.model.roles import Roles
from workbench.run.checkpoints import write_text_atomically
from workbench.run.folder import RunFolder
from workbench.run.lineage import data_fingerprint, file_fingerprint, git_commit, package_versions
from workbench.run.parents import find_data


def issue_passport(config: RewardConfig, folder: RunFolder, *, given: Collection[str] = ()) -> Passport:
    """Examine a reward run as PPO would load it, and write its passport.

    Args:
        config: the run's, with other limits if they were asked for.
        folder: of a finished reward run, an ensemble or one model.
        given: keys of `passport` that come from the command line.

    Raises:
        WorkbenchError: the run or its data are missing or broken.
    """
    limits, batch_size, seed = config.passport, config.normalise.batch_size, config.run.seed
    members = {role: RunFolder(path) for role, path in reward_roles(folder.require_finished().path).items()}
    facts = read_facts(Path(limits.facts)) if limits.facts is not None else {}
    pairs, records = own_heldout_pairs(folder), _all_records(folder)
    # The stored probe batches are a check of the passport here, not a reason to refuse the run.
    others, why_not = sample_runs(config, folder)
    roles = open_runs(
        {role: run.path for role, run in (members | others).items()}, base=config.model.base, check_probes=False
    )
    chosen = [_row(roles, pair, pair.chosen_text) for pair in pairs]
    rejected = [_row(roles, pair, pair.rejected_text) for pair in pairs]
    longest = [max(len(row), len(other)) for row, other in zip(chosen, rejected, strict=True)]
    kept = [index for index, length in enumerate(longest) if length <= config.data.max_length]
    gain = float(np.mean([float(roles.heads[role].gain) for role in members]))
    subject = Subject(_member_scores(roles, list(members), batch_size), gain)
    findings = examine(
        subject, [pairs[index] for index in kept], records, answers=limits.answers, facts=facts, seed=seed
    )
    findings = replace(findings, samples=sample_scores(config, roles, pairs, list(members), list(others)))
    if findings.samples is None and not why_not:
        why_not = f"no held-out prompt leaves room for normalise.max_new_tokens={config.normalise.max_new_tokens}"
    sides = ([rows[index] for index in kept] for rows in (chosen, rejected))
    checks = [
        *judge(findings, limits),
        *integrity(roles, next(iter(members)), *sides),
        reload_check(roles, {role: load_head(member.head_path)[1] for role, member in members.items()}),
        head_check(roles, {role: member.adapter for role, member in members.items()}),
    ]
    passport = Passport(
        run=folder.path.name,
        outcome=verdict(checks),
        failed=failed_names(checks),
        checks=checks,
        findings=findings,
        limits=limits.limits,
        origins={name: origin for name, origin in limits.origins(given).items() if name in limits.limits},
        files=examined_files(folder),
        facts=_facts(folder, len(kept), len(pairs) - len(kept), len(members), seed) | {"not_sampled": why_not},
        warnings=warnings(checks),
    )
    write_text_atomically(folder.path / PAGE, render(passport))
    passport.save(folder.path)
    return passport


def summary(passport: Passport) -> str:
    """The outcome in one line, for the terminal."""
    accuracy, few = passport.findings.accuracy, passport.limits["fewest"]
    counts = dict.fromkeys(("passed", "failed", "warnings", "undefined", "not applicable"), 0)
    words = {"pass": "passed", "fail": "warnings"}
    reasons = []
    for check in passport.checks:
        fails = check.name in passport.failed
        counts["failed" if fails else words.get(check.outcome, check.outcome)] += 1
        if fails:
            lacking = f" (undefined: on {check.count}, at least {few} are needed)" if check.outcome != "fail" else ""
            reasons.append(check.name + lacking)
    tally = ", ".join(f"{count} {name}" for name, count in counts.items() if count or name in ("passed", "failed"))
    failed = f": {', '.join(reasons)}" if reasons else ""
    if passport.warnings:
        failed += f"; warnings, since a judge decides: {', '.join(passport.warnings)}"
    if (why_not := passport.facts.get("not_sampled")) and why_not != NOT_ASKED:
        failed += f"; the start run was not sampled: {why_not}"
    return (
        f"passport of {passport.run}: {passport.outcome}{failed} ({tally}; held-out accuracy {accuracy.mean:.3f}, "
        f"95 % {accuracy.low:.3f} to {accuracy.high:.3f})"
    )


def examined_files(folder: RunFolder) -> dict[str, str]:
    """SHA-256 of the adapter and the head of every member, by path within the run."""
    files = [
        path for member in folder.members for path in (member.adapter / "adapter_model.safetensors", member.head_path)
    ]
    return {path.relative_to(folder.path).as_posix(): str(file_fingerprint(path)["sha256"]) for path in files}


def _all_records(folder: RunFolder) -> list[Preference]:
    """All labels of the run's files."""
    files = folder.record().get("data", {})
    rules = RowRules.of_run(folder.config_path)
    return [
        record
        for name in ("train", "heldout")
        if name in files
        for record in read_preferences(find_data(folder, name), rules)
    ]


def _row(roles: Roles, pair: Preference, response: str) -> list[int]:
    (row,) = encode_rows(roles.tokenizer, pair.prompt, response)
    return row


def _member_scores(roles: Roles, names: Sequence[str], batch_size: int) -> MemberScores:
    scorers = [RoleScore(roles, (name,), batch_size, cut=True) for name in names]  # a damage may lengthen an answer

    def score(prompts: Sequence[Sequence[Message]], responses: Sequence[str]) -> Floats:
        ended = [True] * len(responses)
        return np.stack([scorer(prompts, responses, ended) for scorer in scorers], axis=1)

    return score


def _facts(folder: RunFolder, pairs: int, too_long: int, members: int, seed: int) -> dict[str, Any]:
    files = folder.record().get("data", {})
    changed = [
        name for name, file in files.items() if data_fingerprint(find_data(folder, name))["sha256"] != file["sha256"]
    ]
    return {
        "pairs": pairs,
        "too_long": too_long,
        "members": members,
        "seed": seed,
        "data_changed": changed,
        "git_commit": git_commit(),
        "versions": package_versions(),
    }
