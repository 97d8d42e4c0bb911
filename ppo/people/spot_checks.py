"""Spot checks in PPO: pairs go out with a rollout, judgements come back when people have made them.

`people/checks.jsonl` in the run folder holds the pairs. Everything else follows from them and from the judgements in
the label store, so a resumed run asks nothing twice and counts nothing twice.
"""

import json
import shlex
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ppo.people.inputs import planned
from ppo.people.pairs import CANDIDATES, Answer, Check, make_check, read_checks, write_checks
from ppo.people.store import LabelStore
from ppo.people.verdict import Verdict, decide
from ppo.rollout import reward_models
from workbench.data.hashing import text_digest
from workbench.data.records import Item
from workbench.data.tokenise import decode_response
from workbench.evaluate.role_models import RoleScore
from workbench.model.generate import generate
from workbench.run.checkpoints import make_folder
from workbench.run.errors import WorkbenchError
from workbench.run.tracking import run_name

if TYPE_CHECKING:
    from ppo.rollout import PromptSet, Rollout
    from ppo.start import Run

SHARE = 0.05
"""Of the time, at most, that looks between two checks may take."""


class SpotChecks:
    """Asks people, and decides from their judgements.

    Args:
        run: with `spot_checks.annotate` set.
    """

    def __init__(self, run: "Run") -> None:
        self.run, self.section = run, run.config.spot_checks
        assert self.section.annotate is not None
        self.folder = run.folder.path / "people"
        if run.processes.first:
            make_folder(self.folder)
        self.checks = read_checks(self.folder / "checks.jsonl")
        self.name = run_name(run.folder)[1]
        self.store = LabelStore(self.section.annotate, self.name, self.folder)
        self.paused: WorkbenchError | None = None
        """Why the run pauses."""
        self.verdict: Verdict | None = None
        """The newest one of this session."""
        self._looked, self._took = 0.0, 0.0

    def pauses(self, rollout: "Rollout", iteration: int) -> bool:
        """Ask if it is time, look for judgements, and decide; whether the run pauses here."""
        self.paused = self.run.processes.on_first(lambda: self._see(rollout, iteration))
        return self.paused is not None

    def end(self) -> None:
        """Read the last judgements of a run that has ended."""
        self.run.processes.on_first(lambda: self._look(self.run.state.iteration))

    def _see(self, rollout: "Rollout", iteration: int) -> WorkbenchError | None:
        if is_due(iteration, self.section.every):
            self._ask(rollout, iteration)
        elif not self._worth_a_look():
            return None
        self._look(iteration)
        if self.verdict is None or self.verdict.action != "pause" or not self.section.pause:
            return None
        return self._pause(self.verdict, iteration)

    def _worth_a_look(self) -> bool:
        """Between two checks: whether judgements may have come, and looking takes little of the run's time."""
        waiting = self.verdict is None or self.verdict.judged < self.verdict.asked
        return waiting and time.monotonic() - self._looked >= self._took / SHARE

    def _ask(self, rollout: "Rollout", iteration: int) -> None:
        """Write the pairs of this iteration, unless the run wrote them before it was interrupted."""
        if any(check.iteration == iteration for check in self.checks):
            return
        section = self.run.config.rollout
        # Each prompt once, in the order of the rollout, which is a random one.
        first = range(0, len(rollout.rows), section.responses_per_prompt)
        chosen = list(first)[: CANDIDATES * self.section.pairs]
        prompts = rollout.prompts.take(chosen)
        check = make_check(
            iteration // self.section.every,
            iteration,
            float(rollout.scores.mean()),
            prompts.records,
            self._of_policy(rollout, chosen),
            self._of_start(prompts, iteration),
            pairs=self.section.pairs,
            run=self.name,
            temperature=section.temperature,
            known={item.id for item in items_of(self.checks)},
        )
        self.checks = [*self.checks, check]
        write_checks(self.folder / "checks.jsonl", self.checks)

    def _of_policy(self, rollout: "Rollout", chosen: Sequence[int]) -> list[Answer]:
        sign, texts = self.run.config.reward.sign, rollout.texts(self.run.roles)
        return [Answer(texts[i], bool(rollout.ended[i]), sign * float(rollout.scores[i])) for i in chosen]

    def _of_start(self, prompts: "PromptSet", iteration: int) -> list[Answer]:
        """An answer of the start policy to each prompt."""
        section, roles = self.run.config.rollout, self.run.roles
        found = list[Answer]()
        for at in range(0, len(prompts), section.sampled_at_once):
            part = prompts.take(list(range(len(prompts)))[at : at + section.sampled_at_once])
            # A seed of its own: a run with spot checks samples the same answers as one without.
            digest = text_digest("spot check", self.run.config.run.seed, iteration, at)
            sampled = generate(
                roles,
                "reference",
                part.ids,
                max_new_tokens=section.max_new_tokens,
                temperature=section.temperature,
                seed=int.from_bytes(digest[:4], "big") >> 1,
            )
            ids, ended = sampled.lists(), [bool(done) for done in sampled.ended]
            texts = [decode_response(roles.tokenizer, answer) for answer in ids]
            score = RoleScore(roles, reward_models(roles), section.micro_batch_size)
            scores = self.run.config.reward.sign * score([r.prompt for r in part.records], texts, ended, ids)
            found += [Answer(*answer) for answer in zip(texts, ended, scores.tolist(), strict=True)]
        return found

    def _look(self, iteration: int) -> None:
        """Load what the store lacks, read the judgements, and record what they say."""
        checks = [check for check in self.checks if check.iteration <= iteration]
        if not checks:
            return
        began, first = time.monotonic(), self.verdict is None
        try:
            # The first look of a session takes back the message of an earlier pause.
            judgements = self.store.exchange(items_of(checks), notice="" if first else None)
        except WorkbenchError as error:
            self._say_away(error, iteration)
            return
        finally:
            self._looked = time.monotonic()
            self._took = self._looked - began
        before = self.verdict
        self.verdict = decide(
            checks,
            judgements,
            first_score=self.run.state.first["objective/score"],
            planned=planned(self.run.config.train.iterations, self.section.every),
            alpha=self.section.alpha,
        )
        if before is not None and before.row() == self.verdict.row():
            return
        row = {"step": iteration, **self.verdict.row()}
        with self.run.folder.people_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self.run.tracker.log(self.verdict.metrics(), iteration)
        if self.verdict.action != "go on" and (before is None or before.action != self.verdict.action):
            self.run.folder.warn("people", self.verdict.why, iteration=iteration)

    def _pause(self, verdict: Verdict, iteration: int) -> WorkbenchError:
        folder = self.run.folder
        self.run.tracker.status = "paused"
        folder.update_record(people={"paused_at": iteration, "why": verdict.why})
        resume = f"python -m ppo {shlex.quote(str(folder.config_path))} --resume spot_checks.pause=false"
        error = WorkbenchError(
            folder.path,
            f"paused in iteration {iteration}: {verdict.why}",
            remedy=f"look at the pairs (/lead/items on the labelling page) and at the curve "
            f"(python -m workbench report {shlex.quote(str(folder.path))}). Then train again with a larger "
            f"reward.kl_coef, a smaller train.lr or a new reward model; earlier policies are in {folder.checkpoints}. "
            f"To go on all the same: {resume}",
        )
        try:
            self.store.exchange(items_of(self.checks), notice=f"paused in iteration {iteration}: {verdict.why}")
        except WorkbenchError as away:
            self._say_away(away, iteration)
        return error

    def _say_away(self, error: WorkbenchError, iteration: int) -> None:
        warned = self.run.state.warned  # a checkpoint keeps it
        if "label store" not in warned:
            warned.add("label store")
            text = f"the label store gave no answer; pairs are kept in {self.folder} and sent later. {error}"
            self.run.folder.warn("label store", text, iteration=iteration)


def items_of(checks: Sequence[Check]) -> list[Item]:
    """All pairs."""
    return [item for check in checks for item in check.items]


def is_due(iteration: int, every: int) -> bool:
    """Whether an iteration has a check: not the first one, whose policy is the start policy."""
    return iteration > 0 and iteration % every == 0
