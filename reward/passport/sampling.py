"""Samples the start run of a reward run for the passport, and scores the answers."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from reward.config import RewardConfig
from reward.passport.samples import ANSWERS, SampleFinding, sample_finding
from workbench.data.batching import prompts_that_fit
from workbench.data.records import Preference, Prompt
from workbench.evaluate.policy import Sampling
from workbench.evaluate.role_models import RolePolicy, RoleScore, reward_roles
from workbench.model.roles import Roles
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.parents import find_parent

START, JUDGE = "start", "judge"
"""Role of the start run; the roles of the judge's members are `judge_reward` and so on."""
NOT_ASKED = "passport.samples is 0"
"""Why nothing is sampled if the user wants it so."""


def sample_runs(config: RewardConfig, folder: RunFolder) -> tuple[dict[str, RunFolder], str]:
    """Role → run: the start run and the members of the judge; and if there are none, why nothing is to be sampled.

    A start run that is gone is not an error here: what its samples would show stays undefined.

    Raises:
        WorkbenchError: the judge is missing or unfinished.
    """
    if not config.passport.samples:
        return {}, NOT_ASKED
    try:
        start = find_parent(folder, START)
    except WorkbenchError as error:
        return {}, error.problem
    if start is None:
        return {}, "run.json names no start run"
    judges = [] if config.passport.judge is None else list(reward_roles(Path(config.passport.judge)).items())
    return {START: start} | {f"{JUDGE}_{role}": RunFolder(path) for role, path in judges}, ""


def sample_scores(
    config: RewardConfig, roles: Roles, pairs: Sequence[Preference], members: Sequence[str], others: Sequence[str]
) -> SampleFinding | None:
    """Sample answers to held-out prompts from the start run, and score them with the reward model and the judge.

    Args:
        config: of the reward run.
        roles: the reward model, and what `sample_runs` found.
        pairs: held-out pairs, for their prompts.
        members: roles of the reward model.
        others: roles of `sample_runs`; without the start run nothing is sampled.
    Returns:
        None without a start run, or if no prompt leaves room for an answer.
    """
    if START not in others:
        return None
    section = config.normalise
    distinct = {pair.group: Prompt(id=pair.group, prompt=pair.prompt) for pair in reversed(pairs)}
    fitting = prompts_that_fit(roles.tokenizer, reversed(distinct.values()), max_new_tokens=section.max_new_tokens)
    prompts = list(islice(fitting, config.passport.samples))
    if not prompts:
        return None
    sampling = Sampling(ANSWERS, 1.0, section.max_new_tokens, section.batch_size, config.run.seed)
    answers = [answer for each in RolePolicy(roles, START, None, sampling).sample(prompts) for answer in each]
    texts = (
        [prompt.prompt for prompt in prompts for _ in range(ANSWERS)],
        [answer.text for answer in answers],
        [answer.ended for answer in answers],
        [answer.ids for answer in answers],
    )
    judges = [role for role in others if role != START]
    scores, judged = (
        RoleScore(roles, names, section.batch_size)(*texts).reshape(-1, ANSWERS) if names else None
        for names in (members, judges)
    )
    assert scores is not None
    return sample_finding(scores, judged, seed=config.run.seed)
