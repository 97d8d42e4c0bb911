"""What `python -m workbench loop` reads from a YAML file."""

from typing import Annotated, Literal

from pydantic import Field

from workbench.run.config import Section
from workbench.run.sections import PositiveInt, SourceSection

Strategy = Literal["uncertainty", "disagreement", "bald", "d-optimal", "wide-gaps", "random", "length-balanced"]


class LastSection(Section):
    """How the policy of the last round differs from those before."""

    start: Literal["previous", "sft"] = "previous"
    """Where it starts: at the policy of the round before, or at the supervised model, so that it has learnt nothing
    from earlier reward models."""
    set: tuple[str, ...] = ()
    """Values in place of those of `policy`, such as `train.iterations=160`."""


class LoopSection(Section):
    """The rounds."""

    out: str
    """Folder for all runs, the table `loop.json` and the page `loop.html`."""
    rounds: PositiveInt = 4
    """Rounds of sampling, labelling and training; a finished loop continues if it is raised."""
    labels: PositiveInt = 200
    """Pairs labelled per round: the budget of a round."""
    strategy: Strategy = "random"
    """How pairs are chosen from those that were sampled; see docs/reward.md. Random pairs of the newest policy did best
    in the measurements. A strategy that asks the reward model of the round before draws at random in the first one."""
    annotators: Literal["people", "simulated"] = "people"
    """`people`: each round waits until the page has its labels. `simulated`: the embedded default's annotators."""
    seed: Annotated[int, Field(ge=0, le=4_000_000)] = 0
    """Seed of every step, together with the number of the round: 1000 times this plus the number."""
    sft: SourceSection
    """The supervised model, from which the first round starts and against which win rates are measured: YAML of
    `python -m sft`, or a run."""
    annotate: SourceSection
    """YAML of `python -m annotate`: how pairs are sampled, queued and exported."""
    reward: SourceSection
    """YAML of `python -m reward`. Each round fits on the labels of all rounds so far, starting from `sft`."""
    policy: SourceSection
    """YAML of `python -m ppo`, PPO or a contrastive method. Each round starts from the policy of the round before. The
    KL of PPO is to `sft` in all rounds; contrastive methods have the policy of the round before as their reference."""
    last: LastSection = LastSection()
    """The policy of the last round, which no later round corrects."""


class MeasureSection(Section):
    """How the policy of each round is measured."""

    prompts: str
    """File of held-out prompts, or `tiny:prompts_heldout`."""
    demonstrations: str | None = None
    """File of held-out demonstrations, for the perplexity; None: none, or the embedded ones on the embedded base."""
    judge: str | None = None
    """Reward run that judges if no gold reward is known, fitted on labels that the loop does not use. None: each
    round's own reward model, whose scores cannot be compared between rounds."""
    answers: PositiveInt = 1
    """Answers per prompt."""
    max_new_tokens: PositiveInt = 128
    """Largest number of tokens per answer."""
    batch_size: PositiveInt = 64
    """Answers sampled at one time."""


class LoopConfig(Section):
    """Everything `python -m workbench loop` reads."""

    loop: LoopSection
    measure: MeasureSection
