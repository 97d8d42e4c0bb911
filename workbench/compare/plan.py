"""The commands of a comparison, in order. Knows no phase but by its command line.

Each seed: the supervised run → labels → the reward model → each method, trained and measured on held-out prompts.
"""

from dataclasses import dataclass
from pathlib import Path

from workbench.compare.config import BASELINE, CompareConfig, MethodSection
from workbench.data.inputs import check_records, check_source, parents
from workbench.data.readers import read_demonstrations, read_prompts
from workbench.run.config import read_values
from workbench.run.errors import Problems
from workbench.run.sections import SourceSection
from workbench.run.steps import Step, check_values


@dataclass(frozen=True)
class Shared:
    """Where the parts that all methods of a seed share are."""

    folder: Path
    """Of the seed."""
    sft: Path
    labels: Path
    reward: Path

    @classmethod
    def of(cls, config: CompareConfig, seed: int) -> "Shared":
        """The paths for one seed: in its folder if the part is made here."""
        section, folder = config.compare, Path(config.compare.out) / f"seed-{seed}"

        def place(source: SourceSection, own: str) -> Path:
            return folder / own if source.is_config else Path(source.use)

        return cls(
            folder,
            place(section.sft, "sft"),
            place(section.labels, "annotate/preferences.jsonl"),
            place(section.reward, "reward"),
        )

    def evaluation(self, name: str) -> Path:
        """The file of a method's evaluation.

        Of a supervised run made here it is the run's own, where the evaluations of the others find its answers.
        """
        own = name == BASELINE and self.folder in self.sft.parents
        return self.sft / "evaluation.json" if own else self.folder / "evaluations" / f"{name}.json"


def all_methods(config: CompareConfig) -> list[MethodSection]:
    """The supervised model itself, then the rows of the configuration."""
    return [MethodSection(name=BASELINE), *config.compare.methods]


def method_of(row: MethodSection) -> str | None:
    """The `method` that a row trains with; None if it trains nothing."""
    if row.config is None:
        return None
    return str(read_values(Path(row.config), row.set).get("method", "ppo"))


def plan(config: CompareConfig) -> list[Step]:
    """All commands, seed by seed."""
    return [step for seed in config.compare.seeds for step in _of_seed(config, seed)]


def _of_seed(config: CompareConfig, seed: int) -> list[Step]:
    section, shared, steps = config.compare, Shared.of(config, seed), list[Step]()
    if section.sft.is_config:
        words = _phase("sft", section.sft, shared.sft, seed)
        steps.append(Step(seed, "sft", words, section.sft.use, resumable=True))
    if section.labels.is_config:
        steps += _label_steps(section.labels, shared, seed)
    if section.reward.is_config:
        words = (*_phase("reward", section.reward, shared.reward, seed), *_paths(start=shared.sft))
        steps.append(Step(seed, "reward", (*words, f"data.train={shared.labels}"), section.reward.use, resumable=True))
    for row in all_methods(config):
        if row.config is not None:
            steps.append(Step(seed, f"train {row.name}", _training(row, shared, seed), row.config, resumable=True))
        steps.append(Step(seed, f"measure {row.name}", _measuring(config, row, shared, seed)))
    return steps


def _phase(module: str, source: SourceSection, run: Path, seed: int) -> tuple[str, ...]:
    return (module, source.use, *source.set, f"run.dir={run}", f"run.seed={seed}")


def _paths(**runs: Path) -> tuple[str, ...]:
    return tuple(f"model.{role}={path}" for role, path in runs.items())


def _label_steps(source: SourceSection, shared: Shared, seed: int) -> list[Step]:
    """Sample pairs from the supervised run, let simulated annotators label them, export the preferences."""
    folder = shared.labels.parent
    values = (
        f"pairs.run={shared.sft}",
        f"pairs.out={folder / 'items.jsonl'}",
        f"store.url={folder / 'labels.sqlite'}",
        f"export.out={shared.labels}",
        *(f"{section}.seed={seed + 1}" for section in ("pairs", "simulate", "queue")),
    )
    return [
        Step(seed, f"labels-{number}", ("annotate", verb, source.use, *source.set, *values), source.use)
        for number, verb in enumerate(("pairs", "simulate", "export"), start=1)
    ]


def _training(row: MethodSection, shared: Shared, seed: int) -> tuple[str, ...]:
    """PPO and its relatives read the reward model, contrastive methods the labels."""
    assert row.config is not None
    words = ("ppo", row.config, *row.set, f"run.dir={shared.folder / row.name}", f"run.seed={seed}")
    source = _paths(reward=shared.reward) if method_of(row) == "ppo" else (f"data.train={shared.labels}",)
    return (*words, *_paths(start=shared.sft), *source)


def _measuring(config: CompareConfig, row: MethodSection, shared: Shared, seed: int) -> tuple[str, ...]:
    section = config.measure
    words = ["workbench", "evaluate", str(shared.sft if row.config is None else shared.folder / row.name)]
    words += ["--reward", section.judge or str(shared.reward)]
    out = shared.evaluation(row.name)
    if shared.sft not in out.parents:
        words += ["--out", str(out)]
    words += ["--prompts", section.prompts, "--demonstrations", section.demonstrations]
    words += ["--samples", str(section.answers)]
    words += ["--max-new-tokens", str(section.max_new_tokens), "--batch-size", str(section.batch_size)]
    words += ["--seed", str(seed)]
    if row.best_of > 1:
        words += ["--best-of", str(row.best_of), "--picked-by", str(shared.reward)]
    if row.shots:
        words += ["--shots", str(row.shots), "--examples", str(section.examples)]
    return tuple(words)


def check_compare_inputs(config: CompareConfig, problems: Problems, resume: bool = False) -> list[str]:
    """Collect the problems of a configuration; returns lines about its size."""
    section = config.compare
    check_source(problems, "compare.sft", config.compare.sft, ("sft", "ppo"))
    check_source(problems, "compare.labels", config.compare.labels, None)
    check_source(problems, "compare.reward", config.compare.reward, "reward")
    measure = config.measure
    check_records(problems, measure.prompts, read_prompts)
    for demonstrations in (measure.demonstrations, measure.examples):
        check_records(problems, demonstrations, read_demonstrations)
    parents(problems, [measure.judge] if measure.judge else [], "reward", None)
    if not section.methods:
        problems.add("compare.methods", "is empty", expected="at least one method to compare with sft")
    for row in section.methods:
        place = f"compare.methods, {row.name}"
        if row.config is not None:
            problems.attempt(method_of, row)
        elif row.best_of == 1 and not row.shots:
            problems.add(place, "is sft itself", expected="a config, best_of above 1, or shots")
        if row.set and row.config is None:
            problems.add(place, "sets values without a config", remedy="give the row a config")
        if row.shots and config.measure.examples is None:
            problems.add(place, "has shots, but there are no examples", remedy="measure.examples=FILE")
    if not problems.errors:
        check_values(plan(config), problems)
    methods = ", ".join(row.name for row in all_methods(config))
    seeds = f"seed{'s' if len(section.seeds) > 1 else ''} {', '.join(map(str, section.seeds))}"
    return [f"{len(section.methods) + 1} methods, {seeds}: {methods}"] if section.methods else []
