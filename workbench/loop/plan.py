"""The commands of a loop, in order. Knows no phase but by its command line.

Round 0 is the supervised model. Every later round: sample → choose → label → export → reward → policy → measure.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workbench.data.inputs import check_records, check_source, parents
from workbench.data.readers import read_demonstrations, read_prompts
from workbench.data.rules import RowRules
from workbench.loop.config import LoopConfig
from workbench.run.config import read_values, replace_values
from workbench.run.errors import Problems, WorkbenchError
from workbench.run.sections import SourceSection
from workbench.run.steps import Step, check_values

WITHOUT_MODEL = ("random", "length-balanced")
"""Strategies that need no reward model."""
COMMITTEES = ("disagreement", "bald")
"""Strategies that need an ensemble."""
_FORCE = "model.force="
"""A value that may change between rounds: a loop that a passport has stopped can be told to go on."""
RANDOM_SHARE = 0.2
"""Share of the labels of a round that are of random pairs: the control of a strategy that asks a reward model."""


@dataclass(frozen=True)
class Round:
    """Where the parts of one round are."""

    config: LoopConfig
    number: int
    """0: the supervised model."""

    @property
    def out(self) -> Path:
        """The folder of the whole loop."""
        return Path(self.config.loop.out)

    @property
    def folder(self) -> Path:
        """The folder of the round."""
        return self.out / f"round-{self.number}"

    @property
    def sft(self) -> Path:
        """The supervised run."""
        source = self.config.loop.sft
        return self.out / "sft" if source.is_config else Path(source.use)

    @property
    def before(self) -> "Round":
        """The round before."""
        return Round(self.config, self.number - 1)

    @property
    def policy(self) -> Path:
        """The policy at the end of the round."""
        return self.folder / "policy" if self.number else self.sft

    @property
    def reward(self) -> Path:
        """The reward model of the round."""
        return self.folder / "reward"

    @property
    def priorities(self) -> Path:
        """Which pairs were chosen, by which strategy."""
        return self.folder / "priorities.jsonl"

    @property
    def items(self) -> Path:
        """The chosen pairs."""
        return self.folder / "items.jsonl"

    @property
    def item_rules(self) -> RowRules:
        """How the label store reads the pairs: the personal data in them that it masks."""
        kinds: Any = _set_by(self.config.loop.annotate, "queue", "mask_personal") or ()
        mask: Any = (kinds,) if isinstance(kinds, str) else tuple(kinds)
        return RowRules(mask=mask)

    @property
    def labels(self) -> Path:
        """The preferences of all rounds up to this one."""
        return self.folder / "preferences.jsonl"

    @property
    def evaluation(self) -> Path:
        """The evaluation of the policy: in its run, or next to the loop's files for a run that was there before."""
        foreign = self.number == 0 and not self.config.loop.sft.is_config
        return self.out / "sft-evaluation.json" if foreign else self.policy / "evaluation.json"


def plan(config: LoopConfig, rounds: int | None = None) -> list[Step]:
    """All commands up to a round, by default the last."""
    first = Round(config, 0)
    steps = list[Step]()
    if config.loop.sft.is_config:
        steps.append(_phase("sft", "sft", config.loop.sft, first, f"run.dir={first.sft}"))
    steps.append(_measuring(first))
    last = config.loop.rounds if rounds is None else rounds
    return steps + [step for number in range(1, last + 1) for step in _of_round(Round(config, number))]


def _of_round(this: Round) -> list[Step]:
    section = this.config.loop
    fit = f"run.dir={this.reward}", f"model.start={this.sft}", f"data.train={this.labels}"
    is_ppo = method_of(section.policy) == "ppo"
    reads = [f"model.reward={this.reward}" if is_ppo else f"data.train={this.labels}"]
    if is_ppo and this.number > 1:  # a KL to the policy before would hold on to what its reward model was wrong about
        reads.append(f"model.reference={this.sft}")
    return [
        _annotate(
            "sample", "pairs", this, f"pairs.run={this.before.policy}", f"pairs.out={this.folder / 'pool.jsonl'}"
        ),
        _step(this, "choose", _choosing(this)),
        *_labelling(this),
        _annotate("export", "export", this, f"export.out={this.labels}"),
        _phase("reward", "reward", section.reward, this, *fit),
        _training(this, *reads),
        _measuring(this),
    ]


def _step(
    this: Round, part: str, words: tuple[str, ...], config: str | None = None, *, resumable: bool = False
) -> Step:
    return Step(this.number, part, words, config, resumable=resumable, scope="round")


def _phase(part: str, module: str, source: SourceSection, this: Round, *values: str) -> Step:
    words = (module, source.use, *source.set, *values, f"run.seed={_seed(this)}")
    return _step(this, part, words, source.use, resumable=True)


def _training(this: Round, *values: str) -> Step:
    """The policy of a round. A last round that has ended stays as it is if rounds are added."""
    section = this.config.loop
    forced = tuple(value for value in section.policy.set if value.startswith(_FORCE))
    usual = [value for value in section.policy.set if value not in forced]

    def step(own: Sequence[str], start: Path) -> Step:
        source = section.policy.model_copy(update={"set": tuple(own)})
        return _phase("policy", "ppo", source, this, f"run.dir={this.policy}", f"model.start={start}", *values)

    before = this.before.policy
    one = step(usual, before)
    last = step(replace_values(usual, section.last.set), this.sft if section.last.start == "sft" else before)
    if this.number == section.rounds or last == one:
        return replace(last, further=forced)
    return replace(one, further=forced, also=last.words)


def _annotate(part: str, verb: str, this: Round, *values: str, words: tuple[str, ...] = ()) -> Step:
    source = this.config.loop.annotate
    given = (f"store.url={this.out / 'labels.sqlite'}", f"pairs.round={this.number}", f"pairs.seed={_seed(this)}")
    return _step(this, part, ("annotate", verb, source.use, *words, *source.set, *given, *values), source.use)


def _seed(this: Round) -> int:
    """Another seed in each round, so that no round samples or draws as the one before."""
    return 1000 * this.config.loop.seed + this.number


def _choosing(this: Round) -> tuple[str, ...]:
    section, first = this.config.loop, this.number == 1
    strategy = "random" if first and section.strategy not in WITHOUT_MODEL else section.strategy
    words = ["reward", "acquire", *([] if first else [str(this.before.reward)])]
    words += ["--pool", str(this.folder / "pool.jsonl"), "--n", str(section.labels), "--strategy", strategy]
    words += ["--out", str(this.priorities), "--items", str(this.items)]
    words += ["--ranked", str(this.folder / "ranked.jsonl"), "--seed", str(_seed(this))]
    words += [] if strategy in WITHOUT_MODEL else ["--random-share", str(RANDOM_SHARE)]
    return (*words, *([] if first else ["--without", str(this.before.labels)]))


def _labelling(this: Round) -> list[Step]:
    """Simulated annotators label the chosen pairs; people are waited for, and may go on with the other pairs."""
    section = this.config.loop
    if section.annotators == "simulated":
        return [_annotate("label", "simulate", this, f"pairs.out={this.items}", f"simulate.seed={_seed(this)}")]
    waiting = _annotate("label", "wait", this, words=("--labels", str(section.labels)))
    return [
        _annotate("load", "load", this, words=(str(this.folder / "ranked.jsonl"),)),
        replace(waiting, shown=True, further=("--rounds", str(section.rounds))),
    ]


def _measuring(this: Round) -> Step:
    section = this.config.measure
    words = ["workbench", "evaluate", str(this.policy)]
    if this.number:
        words += ["--against", str(this.sft), "--reward", section.judge or str(this.reward)]
    elif section.judge:
        words += ["--reward", section.judge]
    if this.evaluation.parent != this.policy:
        words += ["--out", str(this.evaluation)]
    words += ["--prompts", section.prompts]
    words += ["--demonstrations", section.demonstrations] if section.demonstrations else []
    words += ["--samples", str(section.answers), "--max-new-tokens", str(section.max_new_tokens)]
    words += ["--batch-size", str(section.batch_size), "--seed", str(this.config.loop.seed)]
    files = (section.prompts, *([section.demonstrations] if section.demonstrations else []))
    return replace(_step(this, "measure", tuple(words)), files=files)  # rounds are compared prompt by prompt


def method_of(source: SourceSection) -> str:
    """The method that the policy is trained with."""
    return str(read_values(Path(source.use), source.set).get("method", "ppo"))


def page_command(config: LoopConfig) -> str:
    """The command that opens the page for the loop's labels; `pairs.out` would load the file of the configuration."""
    source, store = config.loop.annotate, Path(config.loop.out) / "labels.sqlite"
    words = ("python", "-m", "annotate", "serve", source.use, *source.set, f"store.url={store}", "pairs.out=null")
    return shlex.join(words)


def check_loop_inputs(config: LoopConfig, problems: Problems, resume: bool = False) -> list[str]:
    """Collect the problems of a configuration; returns a line about its size."""
    section = config.loop
    for name, use, values in (
        ("annotate", config.loop.annotate.use, config.loop.annotate.set),
        ("reward", config.loop.reward.use, config.loop.reward.set),
        ("policy", config.loop.policy.use, config.loop.policy.set),
    ):
        if not SourceSection(use=use).is_config:
            problems.add(f"loop.{name}.use", f"{use!r} is not a YAML file", expected="a configuration to run")
        else:
            problems.attempt(read_values, Path(use), values)
    check_source(problems, "loop.sft", section.sft, ("sft", "ppo"))
    measure = config.measure
    check_records(problems, measure.prompts, _two_prompts)
    check_records(problems, measure.demonstrations, read_demonstrations)
    parents(problems, [measure.judge] if measure.judge else [], "reward", None)
    if not problems.errors:
        _check_sizes(config, problems)
        check_values(plan(config), problems)
    total = section.rounds * section.labels
    rounds = f"{section.rounds} round{'s' if section.rounds > 1 else ''}"
    return [f"{rounds} of {section.labels} labels, {total:,} in all; strategy of choice: {section.strategy}"]


def _two_prompts(path: Path) -> None:
    found = len(read_prompts(path))
    if found < 2:
        raise WorkbenchError(path, f"has {found} prompt", expected="two or more: the intervals are over prompts")


def _check_sizes(config: LoopConfig, problems: Problems) -> None:
    """Collect sizes that the sources set and that the rounds need larger; commands check the types themselves."""
    section = config.loop
    pairs = _set_by(section.annotate, "pairs", "number")
    answers = _set_by(section.annotate, "pairs", "responses_per_prompt") or 2
    known = isinstance(pairs, int) and isinstance(answers, int)
    if known and section.labels > (most := pairs * answers * (answers - 1) // 2):
        problems.add(
            "loop.labels",
            f"is {section.labels}, but a round samples {most} pairs at most",
            expected="the pairs of a round or fewer",
            remedy=f"loop.labels={most}, or more prompts: pairs.number=… in loop.annotate.set",
        )
    if section.strategy in COMMITTEES and (_set_by(section.reward, "ensemble", "members") or 1) == 1:
        problems.add(
            "loop.strategy",
            f"is {section.strategy}, which compares models, but each round fits one",
            expected="an ensemble",
            remedy="ensemble.members=2 in loop.reward.set, or loop.strategy=random",
        )


def _set_by(source: SourceSection, section: str, key: str) -> Any:
    """A value that a configuration sets; None if it leaves the default."""
    values = read_values(Path(source.use), source.set).get(section)
    return values.get(key) if isinstance(values, dict) else None
