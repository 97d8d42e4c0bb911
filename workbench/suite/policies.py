"""Measurements of policies on the same prompts: as they are, with changed prompts, and with another person asking."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from workbench.data.perturb import CANARY, PERTURBATIONS, counterfactual
from workbench.data.records import Demonstration, Prompt, with_last
from workbench.evaluate.evaluation import Answer
from workbench.evaluate.inference import FewShot
from workbench.evaluate.metrics import distinct_n, unique_share
from workbench.evaluate.policy import Gold, Policy, Sampling, judge_answers, sampled_answers
from workbench.evaluate.role_models import RolePolicy, RoleScore
from workbench.evaluate.win_rate import compare, length_controlled_win_rate
from workbench.model.roles import Roles
from workbench.suite import texts
from workbench.suite.answers import Answers
from workbench.suite.columns import Column, Measured
from workbench.suite.config import LexiconSection, StressSection
from workbench.suite.gates import ATTACKS
from workbench.suite.measures import Difference, Measure, exp_ratio, sign_test

PLAIN = "plain"


@dataclass(frozen=True)
class Task:
    """What all policies are measured on, and how."""

    records: Sequence[Demonstration]
    """G prompts with reference responses."""
    examples: Sequence[Demonstration]
    """For columns with shots."""
    sampling: Sampling
    lexicon: LexiconSection
    stress: StressSection
    gold: Gold | None
    judges: tuple[str, ...]
    """Roles of the reward run that scores the answers; none: no scores."""

    def kinds(self, column: Column) -> tuple[str, ...]:
        """The prompts that a column answers: the untuned base only the plain ones."""
        return (PLAIN, *self.stress.perturbations) if column.run is not None else (PLAIN,)

    def prompts(self, kind: str) -> list[Demonstration]:
        """The records with their prompts changed."""
        change = PERTURBATIONS.get(kind)
        if change is None:
            return list(self.records)
        return [with_prompt(record, change(record.prompt[-1].content, self.sampling.seed)) for record in self.records]


def with_prompt(record: Demonstration, text: str) -> Demonstration:
    """The record with another text in its last message."""
    return record.model_copy(update={"prompt": with_last(record.prompt, text)})


def measure_policies(roles: Roles, columns: Sequence[Column], task: Task, answers: Answers) -> list[Measured]:
    """Measure policies in the order of the columns; each may refer to one before it.

    Args:
        roles: with every column's adapter.
        columns: policies.
        task: what they are measured on.
        answers: where sampled answers are kept.
    """
    score = RoleScore(roles, task.judges, task.sampling.batch_size, cut=True) if task.judges else None
    known: dict[str, tuple[Measured, list[Answer]]] = {}
    for column in columns:
        policy = policy_of(roles, column, task)
        judged = {}
        for kind in task.kinds(column):
            sampled = answers.of(column.name, kind, partial(_answers, policy, task.prompts(kind), task.records))
            judged[kind] = judge_answers(sampled, gold=task.gold, score=score)
        plain = answer_measures(judged[PLAIN], task.records, task.lexicon)
        plain["perplexity"] = _perplexity(policy, task.records)
        before = known[column.before] if column.before is not None else None
        found: dict[str, Measure | Difference] = {**plain}
        points = _diversity(judged[PLAIN])
        if before is not None:
            found["kl"] = _kl(roles, column, before[0].column, task, judged[PLAIN])
            points |= _wins(found, judged[PLAIN], before[1])
            found |= _differences("change", plain, before[0].measures)
        for kind in task.kinds(column)[1:]:
            found |= _under(kind, plain, judged[kind], task)
        measured = Measured(column, found, points)
        if column.run is not None:
            _add_gaps(measured, policy, task)
        known[column.name] = (measured, judged[PLAIN])
    return [measured for measured, _ in known.values()]


def policy_of(roles: Roles, column: Column, task: Task) -> Policy:
    """A column as a policy."""
    policy: Policy = RolePolicy(roles, column.roles[0], None, task.sampling)
    return FewShot(policy, task.examples) if column.shots else policy


def _answers(policy: Policy, asked: Sequence[Prompt], records: Sequence[Prompt]) -> list[Answer]:
    """Answers to the changed prompts, each under the prompt as it was: that is what judges see."""
    prompts = [[message.model_dump() for message in record.prompt] for record in records]
    each = policy.sampling.samples_per_prompt
    return [
        dataclasses.replace(answer, prompt=prompts[number // each])
        for number, answer in enumerate(sampled_answers(policy, asked))
    ]


def answer_measures(
    answers: Sequence[Answer], records: Sequence[Demonstration], lexicon: LexiconSection
) -> dict[str, Measure]:
    """Metrics of judged answers, equally many to each of the records, prompt by prompt."""
    each = len(answers) // len(records)
    place = [number // each for number in range(len(answers))]
    responses = [answer.response for answer in answers]
    references = [records[number].response for number in place]
    prompts = ["\n".join(message["content"] for message in answer.prompt) for answer in answers]
    mean, rate = partial(Measure.mean, prompts=place), partial(Measure.mean, prompts=place, share=True)
    bleu = texts.bleu_rows(responses, references).reshape(len(records), each, -1).sum(axis=1)
    found = {
        "length": mean([float(answer.tokens) for answer in answers]),
        "eos_rate": rate([float(answer.ended) for answer in answers]),
        "bleu": Measure(bleu, texts.bleu_of),
        "chrf": mean(texts.chrf(responses, references)),
        **{name: mean(values) for name, values in texts.rouge(responses, references).items()},
        "exact_match": rate(texts.exact_match(responses, references)),
        "refusal_rate": rate(texts.refusals(responses, lexicon.refusal)),
        "toxic_rate": rate(texts.toxic(responses, lexicon.toxic)),
        "leak_rate": rate(texts.leaks(responses, prompts, lexicon.leak)),
    }
    for name in ("gold", "score"):
        values = [getattr(answer, name) for answer in answers]
        if all(value is not None for value in values):
            found[name] = mean(values)
    return found


def _perplexity(policy: Policy, records: Sequence[Demonstration]) -> Measure:
    nats, tokens = policy.negative_log_likelihood([r.prompt for r in records], [r.response for r in records])
    return Measure(np.stack([nats, tokens], axis=1), exp_ratio)


def _diversity(answers: Sequence[Answer]) -> dict[str, float]:
    responses = [answer.response for answer in answers]
    shares = {f"distinct_{n}": distinct_n(responses, n) for n in (1, 2)}
    known = {name: share for name, share in shares.items() if share is not None}
    return {**known, "unique_share": unique_share(responses)}


def _kl(roles: Roles, column: Column, before: Column, task: Task, answers: Sequence[Answer]) -> Measure:
    """Exact KL to the model before the phase, nats per answer."""
    policy = RolePolicy(roles, column.roles[0], before.roles[0], task.sampling)
    each = task.sampling.samples_per_prompt
    place = [number // each for number in range(len(answers))]
    divergence = policy.divergence([task.records[n].prompt for n in place], [answer.ids for answer in answers])
    assert divergence is not None
    return Measure.mean(divergence[1], place)


def _wins(found: dict[str, Measure | Difference], own: Sequence[Answer], other: Sequence[Answer]) -> dict[str, float]:
    """Add the win rate against the model before the phase; returns it at equal length."""
    for points in ("gold", "score"):
        sides = [[(a.prompt_id, getattr(a, points), float(a.tokens)) for a in side] for side in (own, other)]
        if all(value is not None for side in sides for _, value, _ in side):
            compared = compare(*sides)
            found["win_rate"] = Measure.mean(compared.outcomes, compared.prompts, share=True)
            controlled = length_controlled_win_rate(
                compared.outcomes, compared.length_differences, weights=compared.weights
            )
            return {"win_rate_length_controlled": controlled}
    return {}


def _differences(
    name: str, first: Mapping[str, Measure], second: Mapping[str, Measure | Difference]
) -> dict[str, Difference]:
    return {
        f"{name}/{metric}": Difference(measure, other)
        for metric, measure in first.items()
        if isinstance(other := second.get(metric), Measure)
    }


def _under(
    kind: str, plain: Mapping[str, Measure], answers: Sequence[Answer], task: Task
) -> dict[str, Measure | Difference]:
    """How far each metric drops when the prompts are changed, and how often an attack is obeyed."""
    changed = answer_measures(answers, task.records, task.lexicon)
    found: dict[str, Measure | Difference] = {**_differences(f"drop/{kind}", plain, changed)}
    if kind in ATTACKS:
        each = len(answers) // len(task.records)
        obeyed = [float(CANARY.lower() in answer.response.lower()) for answer in answers]
        found[f"obeyed/{kind}"] = Measure.mean(obeyed, [n // each for n in range(len(answers))], share=True)
    return found


def _add_gaps(measured: Measured, policy: Policy, task: Task) -> None:
    """Log-probability of the reference responses if a person of side A asks, minus that for side B."""
    for dimension in task.stress.dimensions:
        sides = [
            counterfactual(record.prompt[-1].content, dimension, seed=task.sampling.seed) for record in task.records
        ]
        nats = [
            policy.negative_log_likelihood(
                [with_prompt(r, side[number]).prompt for r, side in zip(task.records, sides, strict=True)],
                [r.response for r in task.records],
            )[0]
            for number in (0, 1)
        ]
        gaps = nats[1] - nats[0]
        measured.measures[f"gap/{dimension}/logprob"] = Measure.mean(gaps)
        measured.signs[f"gap/{dimension}/logprob"] = sign_test(gaps)
