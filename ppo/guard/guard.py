"""The guard of one run: it records observations and decisions in guard.jsonl, and keeps the policies to go back to.

    observation → risk with its reasons → say, raise the KL penalty, or stop and go back to the best policy

Everything that it decides from is in guard.jsonl, so a resumed run decides as an uninterrupted one. Does not know how
answers are sampled or which trainer runs.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ppo.config import GuardSection
from ppo.guard.decide import Decision, best_of, decide
from ppo.guard.measure import Observation
from workbench.run.checkpoints import checkpoint_steps, make_folder
from workbench.run.folder import RunFolder


@dataclass
class Guard:
    """Observations so far, and what follows from them.

    Args:
        folder: the run.
        section: its configuration.
        last_row: step of a checkpoint → newest step whose observation was recorded before it.
    """

    folder: RunFolder
    section: GuardSection
    last_row: Callable[[int], int] = lambda step: step
    rows: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rows = self.folder.read_guard()

    def see(self, observation: Observation, save: Callable[[Path], None]) -> Decision:
        """Decide, record, say what changed, and keep the policy.

        Args:
            observation: of the present policy.
            save: writes the present policy's adapter into a folder.
        """
        rows = [*self.rows, observation.row()]
        decision = decide(rows, self.section)
        before = self.rows[-1]["action"] if self.rows else "go on"
        self.rows = [*self.rows, {**rows[-1], **decision.row()}]
        if self.section.act == "stop" and decision.action != "stop":
            save(self.kept(observation.step))
        with self.folder.guard_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(self.rows[-1], ensure_ascii=False) + "\n")
        if decision.action not in ("go on", before):
            print(f"\nguard, step {observation.step}: {decision.why}", flush=True)
        if decision.action == "stop":
            self.folder.update_record(guard={"stopped_at": observation.step, "back_to": decision.back_to})
        elif self.folder.record().get("guard"):  # of a stop before a kill, which the resumed run has not repeated
            self.folder.update_record(guard=None)
        if self.section.act == "stop":
            self._prune()
        return decision

    def kept(self, step: int) -> Path:
        """The folder of a kept policy."""
        make_folder(self.folder.path / "guard")
        return self.folder.path / "guard" / f"step-{step}"

    @property
    def times_raised(self) -> int:
        """How often the weight of the KL penalty was raised so far."""
        return sum(row["action"] == "beta" for row in self.rows)

    def metrics(self) -> dict[str, float]:
        """`guard/…` of the newest observation."""
        row = self.rows[-1]
        names = ("judge", "spread", "outliers", "agreement", "entropy", "risk")
        found = {f"guard/{name}": float(row[name]) for name in names}
        if row["reward_agreement"] is not None:
            found["guard/reward_agreement"] = row["reward_agreement"]
        if (row["law"] or {}).get("peak") is not None:
            found["guard/law_peak"] = row["law"]["peak"]
        return found

    def _prune(self) -> None:
        """Delete the policies that neither this run nor one that resumes from a checkpoint can go back to."""
        ends = [self.last_row(step) for step in checkpoint_steps(self.folder.checkpoints)]
        needed = set[int]()
        for end in (*ends, self.rows[-1]["step"]):
            known = [row for row in self.rows if row["step"] <= end]
            if known:  # the newest one may become the best when its later neighbour is known
                needed |= {known[best_of(known)]["step"], known[-1]["step"]}
        for path in self.kept(0).parent.iterdir():
            if path.name.removeprefix("step-") not in map(str, needed):
                shutil.rmtree(path)


def rollback_text(folder: RunFolder) -> str:
    """A sentence for the model card; empty if the guard did not stop the run."""
    found = folder.record().get("guard")
    if not found:
        return ""
    return f" The guard stopped it at step {found['stopped_at']}; this is the policy of step {found['back_to']}."
