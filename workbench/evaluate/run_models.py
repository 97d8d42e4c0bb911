"""Evaluating a finished run with its real models: the one file of this room that opens them.

Knows neither the truth (it is passed in) nor how any number is computed.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from workbench.data.batching import check_prompts
from workbench.data.readers import read_demonstrations, read_prompts
from workbench.data.records import Prompt
from workbench.data.rules import RowRules
from workbench.evaluate.evaluation import Answer, Evaluation, read_evaluation
from workbench.evaluate.heldout_pairs import PairsWithin, foreign_pairs, own_heldout_pairs
from workbench.evaluate.metrics import correctness
from workbench.evaluate.policy import Gold, evaluate_policy, trace
from workbench.evaluate.reward_model import evaluate_reward_model
from workbench.evaluate.role_models import MeanScore, RolePolicy, RowScore, Sampling, reward_roles
from workbench.evaluate.statistics import share_interval
from workbench.model.open import open_runs
from workbench.model.roles import Roles
from workbench.run.folder import RunFolder


def evaluate_policy_run(
    run: Path,
    *,
    prompts: Path,
    demonstrations: Path | None = None,
    reward_run: Path | None = None,
    against: Path | None = None,
    gold: Gold | None = None,
    sampling: Sampling | None = None,
    base: str | None = None,
    rules: RowRules | None = None,
) -> Evaluation:
    """Evaluate a policy run on held-out prompts, and write its evaluation.json.

    Args:
        run: a finished sft or ppo run.
        prompts: held-out prompts.
        demonstrations: held-out demonstrations, for the perplexity.
        reward_run: scores the answers; None: the one that the run was trained against, if any.
        against: run to compare with; None: the run it started from, if any.
        gold: the truth, or None where it is not known.
        sampling: how prompts are answered.
        base: where the base is now, when not where the run says.
        rules: how rows of the files are taken.

    Raises:
        WorkbenchError: a run or file is missing or bad, or they do not belong together.
    """
    sampling = sampling or Sampling()
    folder = RunFolder.open(run, phase=("sft", "ppo")).require_finished()
    parent, judge = folder.parent("start"), None if reward_run else folder.parent("reward_1")
    start, reward_run = parent.path if parent else None, reward_run or (judge.path if judge else None)
    against = against or start
    records = read_prompts(prompts, rules)
    judges = reward_roles(reward_run) if reward_run else {}
    opened = {"policy": folder.path, "reference": start, **judges}
    known = None if against is None else _known_answers(against, prompts, records, sampling)
    if against is not None and known is None and against != start:
        opened["opponent"] = against
    roles = open_runs({role: path for role, path in opened.items() if path is not None}, base=base)
    check_prompts(roles.tokenizer, records, max_new_tokens=sampling.max_new_tokens, key="--max-new-tokens")
    policy = RolePolicy(roles, "policy", "reference" if start else None, sampling)
    if against is not None and known is None:
        known = _sampled_answers(roles, "opponent" if "opponent" in opened else "reference", records, sampling)
    evaluated = evaluate_policy(
        policy,
        records,
        demonstrations=read_demonstrations(demonstrations, rules) if demonstrations else (),
        gold=gold,
        score=MeanScore(roles, tuple(judges), sampling.batch_size) if judges else None,
        opponent=known or (),
        opponent_name=str(against) if against else None,
        trajectory=trace(folder.read_samples(), folder.read_metrics(), gold=gold),
        samples_per_prompt=sampling.samples_per_prompt,
        temperature=sampling.temperature,
        seed=sampling.seed,
    )
    named = {"prompts": prompts, "demonstrations": demonstrations, "reward_run": reward_run, "against": against}
    sources = {role: str(path) for role, path in named.items() if path is not None} | sampling.as_sources()
    result = Evaluation(str(run), folder.record()["phase"], sampling.seed, sources, policy=evaluated)
    result.save(folder.evaluation_path)
    return result


def evaluate_reward_run(
    run: Path,
    *,
    preferences: Path | None = None,
    gold: Gold | None = None,
    batch_size: int = 64,
    seed: int = 0,
    base: str | None = None,
    rules: RowRules | None = None,
) -> Evaluation:
    """Evaluate a reward run on held-out pairs, and write its evaluation.json.

    Args:
        run: a finished reward run.
        preferences: pairs that it was not trained on; those marked `train` are left out. None: the pairs that the run
            itself held out.
        gold: the truth, or None where it is not known.
        batch_size: rows in one forward pass.
        seed: of the bootstraps.
        base: where the base is now, when not where the run says.
        rules: how rows of the file are taken.

    Raises:
        WorkbenchError: the run or file is missing or bad, or nothing is held out.
    """
    folder = RunFolder.open(run, phase="reward").require_finished()
    pairs = own_heldout_pairs(folder) if preferences is None else foreign_pairs(preferences, rules)
    judges = reward_roles(folder.path)
    roles = open_runs(judges, base=base)
    within = PairsWithin.of(folder, roles, pairs)
    evaluated = evaluate_reward_model(
        RowScore(roles, tuple(judges), within.rows, batch_size),
        within.pairs,
        gold=gold,
        gain=float(np.mean([float(roles.heads[name].gain) for name in judges])),
        seed=seed,
    )
    longer = None
    if within.longer:
        gaps = np.subtract(*np.split(RowScore(roles, tuple(judges), within.longer_rows, batch_size)(), 2))
        longer = share_interval(correctness(gaps), [pair.group for pair in within.longer])
    evaluated = dataclasses.replace(
        evaluated, max_length=within.max_length, longer_pairs=within.beyond, longer_accuracy=longer
    )
    sources = {"preferences": str(preferences) if preferences else "the run's own held-out pairs"}
    result = Evaluation(str(run), "reward", seed, sources, reward_model=evaluated)
    result.save(folder.evaluation_path)
    return result


def _known_answers(run: Path, prompts: Path, records: Sequence[Prompt], sampling: Sampling) -> list[Answer] | None:
    """The opponent's answers from its own evaluation, where that was made under the same conditions."""
    if not RunFolder.open(run).evaluation_path.is_file():
        return None
    evaluation = read_evaluation(run)
    policy = evaluation.policy
    wanted = {"prompts": str(prompts)} | sampling.as_sources()
    if policy is None or {name: evaluation.sources.get(name) for name in wanted} != wanted:
        return None
    conditions = (policy.samples_per_prompt, policy.temperature, evaluation.seed)
    if conditions != (sampling.samples_per_prompt, sampling.temperature, sampling.seed):
        return None
    same = list(dict.fromkeys(answer.prompt_id for answer in policy.answers)) == [record.id for record in records]
    return policy.answers if same else None


def _sampled_answers(roles: Roles, role: str, records: Sequence[Prompt], sampling: Sampling) -> list[Answer]:
    drawn = RolePolicy(roles, role, None, sampling).sample(
        records,
        samples_per_prompt=sampling.samples_per_prompt,
        temperature=sampling.temperature,
        seed=sampling.seed,
    )
    return [
        Answer(
            prompt_id=record.id,
            prompt=[message.model_dump() for message in record.prompt],
            response=answer.text,
            ended=answer.ended,
            tokens=len(answer.ids),
            ids=answer.ids,
        )
        for record, answers in zip(records, drawn, strict=True)
        for answer in answers
    ]
