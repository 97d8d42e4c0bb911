"""Evaluating a finished run with its real models: the one file of this room that opens them.

Knows neither the truth (it is passed in) nor how any number is computed.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from workbench.data.batching import check_prompts, encode_pairs
from workbench.data.preferences import load_pairs
from workbench.data.readers import read_demonstrations, read_preferences, read_prompts
from workbench.data.records import Message, Preference, Prompt
from workbench.data.rules import RowRules
from workbench.data.tokenise import encode_prompt, encode_response
from workbench.evaluate.evaluation import Answer, Evaluation, read_evaluation
from workbench.evaluate.metrics import correctness
from workbench.evaluate.policy import Floats, Gold, SampledAnswer, evaluate_policy, trace
from workbench.evaluate.reward_model import evaluate_reward_model
from workbench.evaluate.statistics import share_interval
from workbench.model.generate import sample
from workbench.model.open import open_runs
from workbench.model.roles import Roles
from workbench.model.score import compare_roles, response_nll, score_rows
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder


@dataclass(frozen=True)
class Sampling:
    """How held-out prompts are answered: the same for all runs that are compared."""

    samples_per_prompt: int = 1
    temperature: float = 1.0
    max_new_tokens: int = 64
    batch_size: int = 64
    """Rows in one forward pass; sampled answers depend on it."""
    seed: int = 0

    def as_sources(self) -> dict[str, str]:
        """For evaluation.json."""
        return {"max_new_tokens": str(self.max_new_tokens), "batch_size": str(self.batch_size)}


@dataclass(frozen=True)
class RolePolicy:
    """One role of opened runs, as evaluation sees a policy."""

    roles: Roles
    role: str
    reference: str | None
    sampling: Sampling

    def sample(
        self, prompts: Sequence[Prompt], *, samples_per_prompt: int, temperature: float, seed: int
    ) -> list[list[SampledAnswer]]:
        """(len(prompts), samples_per_prompt) answers."""
        answers = sample(
            self.roles,
            self.role,
            prompts,
            temperatures=[temperature],
            responses_per_prompt=samples_per_prompt,
            max_new_tokens=self.sampling.max_new_tokens,
            batch_size=self.sampling.batch_size,
            seed=seed,
        )
        return [[SampledAnswer(one.text, one.ids, one.ended) for one in drawn] for _, drawn in answers]

    def divergence(
        self, prompts: Sequence[Sequence[Message]], responses: Sequence[SampledAnswer]
    ) -> tuple[Floats, Floats] | None:
        """(N,) sampled and (N,) exact KL to the reference, nats; None without a reference."""
        if self.reference is None:
            return None
        compared = compare_roles(
            self.roles,
            self.role,
            self.reference,
            [encode_prompt(self.roles.tokenizer, prompt) for prompt in prompts],
            [list(answer.ids) for answer in responses],
            temperature=self.sampling.temperature,
            batch_size=self.sampling.batch_size,
        )
        return (
            np.array([row.policy - row.reference for row in compared]),
            np.array([row.kl_exact for row in compared]),
        )

    def negative_log_likelihood(
        self, prompts: Sequence[Sequence[Message]], responses: Sequence[str]
    ) -> tuple[Floats, Floats]:
        """(N,) nats of each response with its EOS, and (N,) its tokens."""
        tokenizer = self.roles.tokenizer
        nats, tokens = response_nll(
            self.roles,
            self.role,
            [encode_prompt(tokenizer, prompt) for prompt in prompts],
            [encode_response(tokenizer, p, r) for p, r in zip(prompts, responses, strict=True)],
            batch_size=self.sampling.batch_size,
        )
        return nats.numpy(), tokens.double().numpy()


@dataclass(frozen=True)
class RoleScore:
    """One reward role of opened runs, as a scorer. An answer that did not end is scored without an EOS."""

    roles: Roles
    role: str
    batch_size: int
    cut: bool = False
    """Longer rows than the base has positions lose tokens before the last one, instead of being an error."""

    def __call__(
        self,
        prompts: Sequence[Sequence[Message]],
        responses: Sequence[str],
        ended: Sequence[bool],
        ids: Sequence[Sequence[int]] | None = None,
    ) -> Floats:
        """(N,) scores; a response with ids is scored as it was sampled."""
        rows = []
        for place, (prompt, response, done) in enumerate(zip(prompts, responses, ended, strict=True)):
            sampled = list(ids[place]) if ids is not None else []
            if not sampled:
                encoded = encode_response(self.roles.tokenizer, prompt, response)
                sampled = encoded if done else encoded[:-1]
            row = encode_prompt(self.roles.tokenizer, prompt) + sampled
            most = self.roles.positions
            rows.append([*row[: most - 1], row[-1]] if self.cut and len(row) > most else row)
        scores: Floats = score_rows(self.roles, self.role, rows, batch_size=self.batch_size).double().numpy()
        return scores


@dataclass(frozen=True)
class MeanScore:
    """The mean score of one or several reward roles."""

    roles: Roles
    names: tuple[str, ...]
    batch_size: int

    def __call__(
        self,
        prompts: Sequence[Sequence[Message]],
        responses: Sequence[str],
        ended: Sequence[bool],
        ids: Sequence[Sequence[int]] | None = None,
    ) -> Floats:
        """(N,) scores."""
        scores = [RoleScore(self.roles, name, self.batch_size)(prompts, responses, ended, ids) for name in self.names]
        mean: Floats = np.mean(scores, axis=0)
        return mean


def reward_roles(run: Path) -> dict[str, Path]:
    """Role → folder of a reward run: `reward`, or of an ensemble `reward_1` … `reward_K`."""
    folder = RunFolder.open(run, phase="reward")
    if folder.members == [folder]:
        return {"reward": folder.path}
    return {f"reward_{n}": member.path for n, member in enumerate(folder.members, start=1)}


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
    pairs = own_heldout_pairs(folder) if preferences is None else _foreign_pairs(preferences, rules)
    judges = reward_roles(folder.path)
    roles = open_runs(judges, base=base)
    within = _PairsWithin.of(folder, roles, pairs)
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


@dataclass(frozen=True)
class RowScore:
    """The mean score of reward roles on fixed token rows, whatever texts they came from."""

    roles: Roles
    names: tuple[str, ...]
    rows: Sequence[Sequence[int]]
    batch_size: int

    def __call__(self, *_: object, **__: object) -> Floats:
        """(len(rows),) scores."""
        scores = [score_rows(self.roles, name, self.rows, batch_size=self.batch_size) for name in self.names]
        mean: Floats = torch.stack(scores).double().mean(dim=0).numpy()
        return mean


@dataclass(frozen=True)
class _PairsWithin:
    """Pairs as the run itself measures them, and those beyond its `data.max_length`."""

    pairs: list[Preference]
    """Ties, and pairs within the limit (prompts cut, where the run cuts them)."""
    rows: list[list[int]]
    """Of the pairs that are no ties: chosen, then rejected."""
    longer: list[Preference]
    """Beyond the limit, but within the base's positions."""
    longer_rows: list[list[int]]
    beyond: int
    """All beyond the limit."""
    max_length: int

    @classmethod
    def of(cls, folder: RunFolder, roles: Roles, pairs: Sequence[Preference]) -> "_PairsWithin":
        """Sort the pairs by the run's own limits.

        Raises:
            WorkbenchError: every pair is too long.
        """
        data = yaml.safe_load(folder.config_path.read_text(encoding="utf-8"))["data"]
        most = min(int(data.get("max_length", roles.positions)), roles.positions)
        decided = [pair for pair in pairs if pair.strength > 0]
        ties = [pair for pair in pairs if pair.strength <= 0]
        if not decided:
            return cls(ties, [], [], [], 0, most)
        cut = bool(data.get("truncate_prompt", False))
        own = encode_pairs(roles.tokenizer, decided, max_length=most, truncate_prompt=cut, place="held-out pairs")
        beyond = [pair for place, pair in enumerate(decided) if place not in set(own.kept)]
        whole = [_pair_row(roles.tokenizer, pair) for pair in beyond]
        fits = [max(map(len, row.values())) <= roles.positions for row in whole]
        longer = [pair for pair, fit in zip(beyond, fits, strict=True) if fit]
        rows = [row for row, fit in zip(whole, fits, strict=True) if fit]
        kept = [decided[place] for place in own.kept]
        return cls([*kept, *ties], _both_sides(own.rows), longer, _both_sides(rows), len(beyond), most)


def _pair_row(tokenizer: Any, pair: Preference) -> dict[str, list[int]]:
    prompt = encode_prompt(tokenizer, pair.prompt)
    sides = {"chosen_ids": pair.chosen_text, "rejected_ids": pair.rejected_text}
    return {name: prompt + encode_response(tokenizer, pair.prompt, text) for name, text in sides.items()}


def _both_sides(rows: Sequence[dict[str, list[int]]]) -> list[list[int]]:
    return [row[side] for side in ("chosen_ids", "rejected_ids") for row in rows]


def own_heldout_pairs(folder: RunFolder) -> list[Preference]:
    """The pairs that a reward run kept out of its training, split again as it was then.

    Raises:
        WorkbenchError: its data file is gone.
    """
    config = yaml.safe_load(folder.config_path.read_text(encoding="utf-8"))
    data = folder.record().get("data", {})
    if "train" not in data:
        raise WorkbenchError(folder.record_path, "names no training data", remedy="give the pairs: --preferences FILE")
    return load_pairs(
        Path(data["train"]["path"]),
        Path(data["heldout"]["path"]) if "heldout" in data else None,
        heldout_share=float(config["data"]["heldout_share"]),
        seed=int(config["run"]["seed"]),
        rules=RowRules.of(config["data"]),
    ).heldout


def _foreign_pairs(path: Path, rules: RowRules | None) -> list[Preference]:
    return [record for record in read_preferences(path, rules) if record.split != "train"]


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
