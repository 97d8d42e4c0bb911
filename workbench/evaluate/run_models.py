"""Evaluation of a finished run with its real models. The only file of this room that opens models."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from workbench.data.batching import check_prompts
from workbench.data.embedded import resolve_data
from workbench.data.readers import read_demonstrations, read_prompts
from workbench.data.records import Prompt
from workbench.evaluate.evaluation import Answer, Evaluation, Forgetting, read_evaluation
from workbench.evaluate.heldout_pairs import PairsWithin, foreign_pairs, own_heldout_pairs
from workbench.evaluate.inference import BestOf, FewShot, Inference, best_of_curve, widened
from workbench.evaluate.inputs import POLICIES, EvaluationInputs
from workbench.evaluate.metrics import correctness
from workbench.evaluate.policy import (
    Gold,
    Opponent,
    Policy,
    Sampling,
    evaluate_policy,
    judge_answers,
    sampled_answers,
    trace,
)
from workbench.evaluate.reward_model import evaluate_reward_model
from workbench.evaluate.role_models import RolePolicy, RoleScore, reward_roles
from workbench.evaluate.statistics import share_interval
from workbench.model.open import open_runs
from workbench.run.folder import RunFolder
from workbench.run.lineage import run_fingerprint
from workbench.run.out_of_memory import memory_hint
from workbench.run.parents import find_parent


@memory_hint("while evaluating", "a smaller --batch-size or --max-new-tokens")
def evaluate_run(
    run: Path,
    inputs: EvaluationInputs,
    *,
    gold: Gold | None,
    sampling: Sampling,
    inference: Inference | None = None,
) -> Evaluation:
    """Evaluate a finished run of any phase, and write its evaluation.json."""
    if RunFolder.open(run).record()["phase"] == "reward":
        return evaluate_reward_run(run, inputs, gold=gold, sampling=sampling)
    return evaluate_policy_run(run, inputs, gold=gold, sampling=sampling, inference=inference)


def evaluate_policy_run(
    run: Path,
    inputs: EvaluationInputs,
    *,
    gold: Gold | None = None,
    sampling: Sampling | None = None,
    inference: Inference | None = None,
) -> Evaluation:
    """Evaluate a policy run on held-out prompts, and write its evaluation.json.

    Args:
        run: a finished sft or ppo run.
        inputs: files and other runs.
        gold: the gold reward, if it is known.
        sampling: how prompts are answered.
        inference: what improves the answers at sampling time, and where the evaluation goes.

    Raises:
        WorkbenchError: a run or file is missing or broken, or they do not fit together.
    """
    sampling, inference = sampling or Sampling(), inference or Inference()
    folder = RunFolder.open(run, phase=POLICIES).require_finished()
    start = _parent(folder, "start")
    reference = _parent(folder, "reference") or start
    reward_run = Path(inputs.reward) if inputs.reward else _parent(folder, "reward_1")
    against = inputs.opponent_of(folder) or start
    prompts, demonstrations = resolve_data(inputs.prompts_of(folder)), inputs.demonstrations_of(folder)
    records = read_prompts(prompts, inputs.rules)
    known = None if against is None else _known_answers(against, prompts, records, sampling)
    rewards = reward_roles(reward_run) if reward_run else {}
    pickers = {f"picking_{role}": path for role, path in _pickers(inference).items()}
    opened = {"policy": folder.path, "reference": reference, **rewards, **pickers}
    if known is None and against != reference:
        opened["opponent"] = against
    roles = open_runs({role: path for role, path in opened.items() if path is not None}, base=inputs.base)
    check_prompts(roles.tokenizer, records, max_new_tokens=sampling.max_new_tokens, key="--max-new-tokens")
    if against is not None and known is None:
        opponent_role = "opponent" if "opponent" in opened else "reference"
        known = sampled_answers(RolePolicy(roles, opponent_role, None, sampling), records)
    policy: Policy = RolePolicy(roles, "policy", "reference" if reference else None, sampling)
    trajectory = trace(folder.read_samples(), folder.read_metrics(), gold=gold)
    if inference.shots and inference.examples:
        examples = read_demonstrations(resolve_data(inference.examples), inputs.rules)
        policy = FewShot(policy, examples[: inference.shots])
    if pickers:
        wide = RolePolicy(roles, "policy", None, widened(sampling, inference.best_of))
        picking = RoleScore(roles, tuple(pickers), sampling.batch_size)
        pool = judge_answers(sampled_answers(wide, records), gold=gold, score=picking)
        policy, trajectory = BestOf(policy, pool, inference.best_of), best_of_curve(pool, len(records))
    evaluated = evaluate_policy(
        policy,
        records,
        demonstrations=read_demonstrations(demonstrations, inputs.rules) if demonstrations else (),
        gold=gold,
        score=RoleScore(roles, tuple(rewards), sampling.batch_size) if rewards else None,
        opponent=None if known is None else Opponent(str(against), known),
        trajectory=trajectory,
    )
    forgetting = folder.record().get("forgetting")
    evaluated = dataclasses.replace(evaluated, forgetting=Forgetting(**forgetting) if forgetting else None)
    named = {"prompts": prompts, "demonstrations": demonstrations, "reward_run": reward_run, "against": against}
    sources = {role: str(path) for role, path in named.items() if path is not None}
    sources |= sampling.as_sources() | _weights(folder.path)
    result = Evaluation(str(run), folder.record()["phase"], sampling.seed, sources, policy=evaluated)
    result.save(inference.out or folder.evaluation_path)
    return result


def _pickers(inference: Inference) -> dict[str, Path]:
    """Role → folder of the reward run that picks the best of several answers; nothing if none has to be picked."""
    return reward_roles(Path(inference.picked_by)) if inference.picked_by and inference.best_of > 1 else {}


def _parent(folder: RunFolder, role: str) -> Path | None:
    parent = find_parent(folder, role)
    return parent.path if parent else None


def _known_answers(run: Path, prompts: Path, records: Sequence[Prompt], sampling: Sampling) -> list[Answer] | None:
    """The opponent's answers from its own evaluation, if the same weights answered the same prompts in the same way.

    An evaluation that does not say which weights answered is no proof, so its answers are sampled again.
    """
    if not RunFolder.open(run).evaluation_path.is_file():
        return None
    evaluation = read_evaluation(run)
    policy = evaluation.policy
    wanted = {"prompts": str(prompts)} | sampling.as_sources() | _weights(run)
    if policy is None or {name: evaluation.sources.get(name) for name in wanted} != wanted:
        return None
    conditions = (policy.samples_per_prompt, policy.temperature, evaluation.seed)
    if conditions != (sampling.samples_per_prompt, sampling.temperature, sampling.seed):
        return None
    asked = [(record.id, [message.model_dump() for message in record.prompt]) for record in records]
    answered = [(answer.prompt_id, answer.prompt) for answer in policy.answers]
    return policy.answers if answered == [one for one in asked for _ in range(sampling.samples_per_prompt)] else None


def _weights(run: Path) -> dict[str, str]:
    """For `sources`: the fingerprint of the adapter that answered. A run trained again in its folder has another."""
    found = run_fingerprint(run)
    return {} if found is None else {"weights": found}


def evaluate_reward_run(
    run: Path,
    inputs: EvaluationInputs | None = None,
    *,
    gold: Gold | None = None,
    sampling: Sampling | None = None,
) -> Evaluation:
    """Evaluate a reward run on held-out pairs, and write its evaluation.json.

    Args:
        run: a finished reward run.
        inputs: its `preferences` are pairs that the run was not trained on; those marked `train` are left out. None:
            the pairs that the run held out itself.
        gold: the gold reward, if it is known.
        sampling: its batch size and seed are used.

    Raises:
        WorkbenchError: the run or file is missing or broken, or nothing is held out.
    """
    inputs, sampling = inputs or EvaluationInputs(), sampling or Sampling()
    folder = RunFolder.open(run, phase="reward").require_finished()
    given = resolve_data(inputs.preferences) if inputs.preferences else None
    pairs = own_heldout_pairs(folder) if given is None else foreign_pairs(given, inputs.rules)
    rewards = reward_roles(folder.path)
    roles = open_runs(rewards, base=inputs.base)
    score = RoleScore(roles, tuple(rewards), sampling.batch_size)
    within = PairsWithin.of(folder, roles.tokenizer, pairs)
    evaluated = evaluate_reward_model(
        lambda *_: score.of_rows(within.rows),  # the run's own rows: prompts may be cut in them
        within.pairs,
        gold=gold,
        gain=float(np.mean([float(roles.heads[name].gain) for name in rewards])),
        seed=sampling.seed,
    )
    longer = None
    if within.longer:
        gaps = np.subtract(*np.split(score.of_rows(within.longer_rows), 2))
        longer = share_interval(correctness(gaps), [pair.group for pair in within.longer])
    evaluated = dataclasses.replace(
        evaluated, max_length=within.max_length, longer_pairs=within.beyond, longer_accuracy=longer
    )
    sources = {"preferences": str(given) if given else "the run's own held-out pairs"}
    result = Evaluation(str(run), "reward", sampling.seed, sources, reward_model=evaluated)
    result.save(folder.evaluation_path)
    return result
