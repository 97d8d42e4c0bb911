"""Opens a finished reward run, examines it, and writes passport.json and passport.html into its folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reward.inputs import read_facts
from reward.passport.checks import Limits, failed_names, verdict
from reward.passport.content import PAGE, Passport
from reward.passport.examination import examine
from reward.passport.integrity import head_check, integrity, reload_check
from reward.passport.judge import judge
from reward.passport.measures import Floats
from reward.passport.page import render
from reward.passport.subject import MemberScores, Subject
from workbench.data.readers import read_preferences
from workbench.data.records import Message, Preference
from workbench.data.rules import RowRules
from workbench.data.tokenise import encode_prompt, encode_response
from workbench.evaluate.heldout_pairs import own_heldout_pairs
from workbench.evaluate.role_models import RoleScore, reward_roles
from workbench.model.heads import load_head
from workbench.model.open import open_runs
from workbench.model.roles import Roles
from workbench.run.checkpoints import write_text_atomically
from workbench.run.folder import RunFolder
from workbench.run.lineage import data_fingerprint, file_fingerprint, git_commit, package_versions


def issue_passport(
    folder: RunFolder,
    *,
    limits: Limits,
    origins: Mapping[str, str],
    answers: int,
    facts: str | None,
    max_length: int,
    batch_size: int,
    seed: int,
    base: str | None = None,
) -> Passport:
    """Examine a reward run as PPO would load it.

    Args:
        folder: of a finished reward run, an ensemble or one model.
        limits: what findings are held against.
        origins: where each limit comes from.
        answers: see `examine`.
        facts: file of right and wrong statements, or None.
        max_length: tokens; longer held-out pairs are left out, and counted.
        batch_size: rows in one forward pass.
        seed: of everything drawn.
        base: where the base is now, when not where the run says.

    Raises:
        WorkbenchError: the run or its data are missing or broken.
    """
    members = {role: RunFolder(path) for role, path in reward_roles(folder.require_finished().path).items()}
    known = read_facts(Path(facts)) if facts is not None else {}
    pairs, records = own_heldout_pairs(folder), _records(folder)
    roles = open_runs({role: member.path for role, member in members.items()}, base=base, check_probes=False)
    chosen = [_row(roles, pair, pair.chosen_text) for pair in pairs]
    rejected = [_row(roles, pair, pair.rejected_text) for pair in pairs]
    fit = [max(len(c), len(r)) <= max_length for c, r in zip(chosen, rejected, strict=True)]
    kept = [pair for pair, fits in zip(pairs, fit, strict=True) if fits]
    gain = float(np.mean([float(roles.heads[role].gain) for role in members]))
    subject = Subject(_member_scores(roles, list(members), batch_size), gain)
    findings = examine(subject, kept, records, answers=answers, facts=known, seed=seed)
    probes = {role: load_head(member.head_path)[1] for role, member in members.items()}
    sides = ([row for row, fits in zip(rows, fit, strict=True) if fits] for rows in (chosen, rejected))
    checks = [
        *judge(findings, limits),
        *integrity(roles, next(iter(members)), *sides, same_score=limits.same_score),
        reload_check(roles, probes, same_score=limits.same_score),
        head_check(roles, {role: member.adapter for role, member in members.items()}),
    ]
    passport = Passport(
        run=folder.path.name,
        outcome=verdict(checks),
        failed=failed_names(checks),
        checks=checks,
        findings=findings,
        limits=vars(limits).copy(),
        origins=dict(origins),
        files=examined_files(folder),
        facts=_facts(folder, len(kept), len(pairs) - len(kept), len(members), seed),
    )
    write_text_atomically(folder.path / PAGE, render(passport))
    passport.save(folder.path)
    return passport


def summary(passport: Passport) -> str:
    """The outcome in a line or two, for the terminal."""
    accuracy, few = passport.findings.accuracy, passport.limits["fewest"]
    counts = dict.fromkeys(("passed", "failed", "undefined", "not applicable"), 0)
    reasons = []
    for check in passport.checks:
        fails = check.name in passport.failed
        counts["failed" if fails else "passed" if check.outcome == "pass" else check.outcome] += 1
        if fails:
            lacking = f" (undefined: on {check.count}, at least {few} are needed)" if check.outcome != "fail" else ""
            reasons.append(check.name + lacking)
    tally = ", ".join(f"{count} {name}" for name, count in counts.items() if count or name in ("passed", "failed"))
    failed = f": {', '.join(reasons)}" if reasons else ""
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


def _records(folder: RunFolder) -> list[Preference]:
    """All labels of the run's files."""
    files = folder.record().get("data", {})
    rules = RowRules.of_run(folder.config_path)
    return [
        record
        for name in ("train", "heldout")
        if name in files
        for record in read_preferences(Path(files[name]["path"]), rules)
    ]


def _row(roles: Roles, pair: Preference, response: str) -> list[int]:
    tokenizer = roles.tokenizer
    return [*encode_prompt(tokenizer, pair.prompt), *encode_response(tokenizer, pair.prompt, response)]


def _member_scores(roles: Roles, names: Sequence[str], batch_size: int) -> MemberScores:
    scorers = [RoleScore(roles, (name,), batch_size, cut=True) for name in names]  # a damage may lengthen an answer

    def score(prompts: Sequence[Sequence[Message]], responses: Sequence[str]) -> Floats:
        ended = [True] * len(responses)
        return np.stack([scorer(prompts, responses, ended) for scorer in scorers], axis=1)

    return score


def _facts(folder: RunFolder, pairs: int, too_long: int, members: int, seed: int) -> dict[str, Any]:
    files = folder.record().get("data", {})
    changed = [
        name for name, file in files.items() if data_fingerprint(Path(file["path"]))["sha256"] != file.get("sha256")
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
