"""The suite from its configuration to suite.json and suite.html: checks, models, measurements, gates."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from workbench.data.batching import prompts_with_room
from workbench.data.embedded import resolve_data
from workbench.data.inputs import base_of_run, usable_run
from workbench.data.readers import read_demonstrations
from workbench.data.records import Demonstration, Prompt
from workbench.evaluate.evaluation import read_evaluation
from workbench.evaluate.heldout_pairs import PairsWithin, foreign_pairs, own_heldout_pairs
from workbench.evaluate.inference import FewShot
from workbench.evaluate.inputs import POLICIES, EvaluationInputs
from workbench.evaluate.policy import Gold, Sampling
from workbench.evaluate.statistics import Estimate
from workbench.model.roles import Roles
from workbench.run.errors import Problems, WorkbenchError, did_you_mean
from workbench.run.folder import RunFolder
from workbench.run.lineage import data_fingerprint, run_fingerprint
from workbench.run.out_of_memory import memory_hint
from workbench.run.parents import find_parent
from workbench.suite.answers import Answers
from workbench.suite.columns import Column, Measured, columns_of, kind_of, open_columns
from workbench.suite.config import SuiteConfig
from workbench.suite.gates import CLASSIFIER_METRICS, Verdict, applies, gate_metrics, judge, kind_of_metric, plain
from workbench.suite.policies import PLAIN, Task, measure_policies
from workbench.suite.rewards import Choice, measure_reward, read_choices


@dataclass(frozen=True)
class SuiteResult:
    """What a suite measured and decided."""

    measured: list[Measured]
    estimates: dict[str, dict[str, Estimate]]
    """Column → metric → value with its interval."""
    verdicts: list[Verdict]
    prompts: int
    """Prompts that every policy answered."""
    seed: int

    @property
    def passed(self) -> bool:
        """Whether every run passed every gate that applies to it."""
        return all(verdict.passed for verdict in self.verdicts)


def with_defaults(inputs: EvaluationInputs, config: SuiteConfig) -> EvaluationInputs:
    """The inputs of the plain evaluation, with the suite's references for files that are not given."""
    own = config.data.references
    return replace(inputs, prompts=inputs.prompts or own, demonstrations=inputs.demonstrations or own)


def check_suite(config: SuiteConfig, runs: Sequence[str], inputs: EvaluationInputs) -> list[RunFolder]:
    """The runs, after checking that everything the suite reads exists and that its gates name metrics.

    Raises:
        WorkbenchError: everything that is wrong, at once.
    """
    problems = Problems()
    folders = [found for run in runs if (found := problems.attempt(usable_run, run, (*POLICIES, "reward", "classify")))]
    for folder in folders:
        problems.attempt(base_of_run, folder, inputs.base)
    for name in (config.data.references, config.few_shot.examples if config.few_shot.shots else None):
        if name is not None and (path := problems.attempt(resolve_data, name)) is not None:
            problems.attempt(read_demonstrations, path, inputs.rules)
    choices = problems.attempt(read_choices, config.data.choices) if config.data.choices is not None else []
    kinds = {kind_of(folder) for folder in folders}
    subsets = list(dict.fromkeys(choice.subset for choice in choices or ()))
    known = gate_metrics(config.stress.perturbations, config.stress.dimensions, subsets)
    for gate in config.gates if len(folders) == len(runs) else ():
        if gate.metric.startswith("reward/choices") and choices is None:
            continue  # the file itself is reported
        if gate.metric not in known and gate.metric.startswith("reward/choices"):
            measured = [metric for metric in known if metric.startswith("reward/choices")]
            problems.add(
                f"gates: {gate.metric}",
                "is no subset of data.choices" if subsets else "needs data.choices, which the suite leaves out",
                expected=f"one of {', '.join(measured)}" if measured else "data.choices: FILE with that subset",
                remedy=did_you_mean(gate.metric, measured) or "fix data.choices, or remove the gate",
            )
        elif gate.metric not in known:
            problems.add(
                f"gates: {gate.metric}",
                "is no metric that this suite measures with an interval",
                remedy=did_you_mean(gate.metric, known),
            )
        elif not any(applies(gate.metric, kind) for kind in kinds):
            problems.add(
                f"gates: {gate.metric}",
                f"is for {kind_of_metric(gate.metric)} runs, and none is evaluated",
                remedy="name such a run too, fix the metric, or move the gate to a suite of its own",
            )
    problems.raise_if_any()
    return folders


@memory_hint("while evaluating", "a smaller --batch-size or --max-new-tokens")
def measure(
    config: SuiteConfig,
    folders: Sequence[RunFolder],
    inputs: EvaluationInputs,
    *,
    gold: Gold | None,
    sampling: Sampling,
) -> SuiteResult:
    """Measure the runs and judge the gates.

    Raises:
        WorkbenchError: the runs do not share a base, a file does not fit, or a gate names no metric of its runs.
    """
    columns = columns_of(folders, config.few_shot.shots)
    models = [column for column in columns if column.kind != "classifier"]
    measured, prompts = [], 0
    if models:
        judge_run = _judge(folders, inputs)
        roles, judges = open_columns(models, judge_run, inputs.base)
        policies = [column for column in models if column.kind == "policy"]
        if policies:
            task = _task(config, roles, inputs, gold, sampling, judges)
            prompts = len(task.records)
            total = sum(len(task.kinds(column)) for column in policies)
            made_from = _made_from(config, policies, task)
            with Answers(Path(config.report.dir) / "answers.jsonl", made_from, total) as answers:
                measured += measure_policies(roles, policies, task, answers)
        choices = read_choices(config.data.choices) if config.data.choices else []
        measured += [_reward(config, roles, c, inputs, choices, sampling) for c in models if c.kind == "reward"]
    measured += [Measured(column) for column in columns if column.kind == "classifier"]
    estimates = {
        one.column.name: {name: found.estimate(sampling.seed) for name, found in one.measures.items()}
        for one in measured
    }
    estimates |= {c.name: _classifier(c.run) for c in columns if c.kind == "classifier" and c.run is not None}
    return SuiteResult(measured, estimates, _verdicts(config, measured, estimates), prompts, sampling.seed)


def _judge(folders: Sequence[RunFolder], inputs: EvaluationInputs) -> Path | None:
    """The reward run that scores answers: the given one, else the one that a policy was trained against."""
    if inputs.reward:
        return Path(inputs.reward)
    for folder in folders:
        parent = find_parent(folder, "reward_1") if folder.record()["phase"] in POLICIES else None
        if parent is not None:
            return parent.path
    return None


def _task(
    config: SuiteConfig,
    roles: Roles,
    inputs: EvaluationInputs,
    gold: Gold | None,
    sampling: Sampling,
    judges: tuple[str, ...],
) -> Task:
    """The prompts whose every form leaves room for an answer, at most `data.limit` of them."""
    records = read_demonstrations(resolve_data(config.data.references), inputs.rules)
    records = records[: config.data.limit or None]
    examples: list[Demonstration] = []
    if config.few_shot.shots and config.few_shot.examples:
        shown = read_demonstrations(resolve_data(config.few_shot.examples), inputs.rules)
        examples = shown[: config.few_shot.shots]
    task = Task(records, examples, sampling, config.lexicon, config.stress, gold, judges)
    forms: list[list[Prompt]] = [[*task.prompts(kind)] for kind in (PLAIN, *config.stress.perturbations)]
    if examples:
        forms.append([FewShot.shown(examples, record) for record in records])
    kept = {record.id for record in records}
    for form in forms:
        fits = prompts_with_room(roles.tokenizer, form, max_new_tokens=sampling.max_new_tokens, key="--max-new-tokens")
        kept &= {record.id for record in fits}
    if not kept:
        raise WorkbenchError(
            config.data.references,
            "no prompt leaves room for an answer in all its changed forms",
            remedy="a smaller --max-new-tokens, or fewer few_shot.shots",
        )
    if len(kept) < len(records):
        print(f"{config.data.references}: left out {len(records) - len(kept)} of {len(records)} prompts: too long")
    return replace(task, records=[record for record in records if record.id in kept])


def _made_from(config: SuiteConfig, columns: Sequence[Column], task: Task) -> list[str]:
    """Fingerprints of everything that sampled answers depend on."""
    adapters = [run_fingerprint(column.run) if column.run else column.name for column in columns]
    files = [data_fingerprint(resolve_data(config.data.references))]
    names = [column.name for column in columns]
    return [*map(str, (task.sampling, config.stress, config.few_shot, len(task.records), adapters, files, names))]


def _reward(
    config: SuiteConfig,
    roles: Roles,
    column: Column,
    inputs: EvaluationInputs,
    choices: Sequence[Choice],
    sampling: Sampling,
) -> Measured:
    assert column.run is not None
    folder = RunFolder.open(column.run)
    given = resolve_data(inputs.preferences) if inputs.preferences else None
    pairs = own_heldout_pairs(folder) if given is None else foreign_pairs(given, inputs.rules)
    within = [pair for pair in PairsWithin.of(folder, roles.tokenizer, pairs).pairs if pair.strength > 0]
    options = {"batch_size": sampling.batch_size, "seed": sampling.seed}
    return measure_reward(roles, column, within[: config.data.limit or None], choices, config.stress, **options)


def _classifier(run: Path) -> dict[str, Estimate]:
    """The main numbers of the trained classifier, which its training measured on held-out texts."""
    found = read_evaluation(run).classifier
    if found is None:
        raise WorkbenchError(run, "its evaluation has no classifier", remedy="train it again: python -m sft CONFIG")
    scores = found.methods[found.trained]
    return {
        f"classifier/{name}": found.gain if name == "gain" else getattr(scores, name) for name in CLASSIFIER_METRICS
    }


def _verdicts(
    config: SuiteConfig, measured: Sequence[Measured], estimates: dict[str, dict[str, Estimate]]
) -> list[Verdict]:
    """Every gate for every run that it applies to.

    Raises:
        WorkbenchError: no run of a gate's kind has its metric, so the gate would pass silently.
    """
    verdicts = []
    for gate in config.gates:
        runs = [one for one in measured if one.column.gated and applies(gate.metric, one.column.kind)]
        found = [judge(one.column.name, gate, estimates[one.column.name].get(gate.metric)) for one in runs]
        if found and all(verdict.estimate is None for verdict in found):
            known = sorted({name for one in runs for name in estimates[one.column.name]})
            raise WorkbenchError(
                f"gates: {gate.metric}",
                "no run has this metric",
                expected=f"one of {', '.join(name for name in known if plain(name))}",
                remedy="give what it needs (--reward RUN, data.choices, a gold reward), or remove the gate",
            )
        verdicts += found
    return verdicts
