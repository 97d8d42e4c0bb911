"""On-policy pairs: at the start of an epoch, the ladder is sampled again with the policy of that moment.

    policy → answers of each rung → preferences → rows with the reference's log-probabilities

Every part is kept under RUN/refresh/epoch-E, so that a run that was killed goes on with the same pairs.
"""

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ppo.config import ContrastiveConfig
from ppo.contrastive.data import PairData, Row, labelled, with_reference
from ppo.contrastive.evaluate import guests
from ppo.ladder.answers import Current, climb, runs_beside
from ppo.ladder.build import prompts_of, selected
from ppo.ladder.config import PairsConfig
from workbench.data.batching import encode_pairs
from workbench.data.hashing import text_digest
from workbench.data.readers import read_preferences, write_records
from workbench.model.roles import Roles
from workbench.model.session import Session
from workbench.run.config import load_config
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder


class Refresh(TrainerCallback):
    """Replaces the rows that the trainer reads, in place, at the start of each epoch but the first.

    Args:
        config: of the phase.
        session: the run; its first process samples.
        roles: with the policy as `default`.
        start: the start run, whose adapter is the reference.
        data: the held-out prompts, to which no pair is made.
        rows: what the trainer reads; their number stays.
    """

    def __init__(
        self,
        config: ContrastiveConfig,
        session: Session,
        roles: Roles,
        start: RunFolder,
        data: PairData,
        rows: list[Row],
    ) -> None:
        self.config, self.session, self.roles, self.start, self.rows = config, session, roles, start, rows
        self.ladder = load_config(PairsConfig, Path(str(config.data.refresh)))[0]
        held_out = {prompt.prompt for prompt in data.heldout_prompts}
        self.prompts = [prompt for prompt in prompts_of(self.ladder) if prompt.prompt not in held_out]
        self.steps_per_epoch = -(-len(rows) // config.train.batch_size)

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The first epoch trains on `data.train`."""
        epoch = state.global_step // self.steps_per_epoch
        if epoch:
            self.rows[:] = self.refreshed(epoch, at_start=state.global_step % self.steps_per_epoch == 0)

    def refreshed(self, epoch: int, *, at_start: bool) -> list[Row]:
        """The rows of an epoch, as many as before.

        Raises:
            WorkbenchError: a run continues within the epoch, but its pairs are gone.
        """
        folder = self.session.folder.path / "refresh" / f"epoch-{epoch}"
        file = folder / "preferences.jsonl"
        if self.session.processes.first and not file.is_file():
            if not at_start:
                raise WorkbenchError(
                    file, "is missing, and the policy has moved on since", remedy="start over with run.overwrite=true"
                )
            write_records(file, self._sampled(folder / "rungs", epoch))
        self.session.processes.wait()
        pairs, tokenizer = read_preferences(file), self.roles.tokenizer
        limit = self.config.data.max_length
        encoded = encode_pairs(tokenizer, pairs, max_length=limit, source=file, prompt_apart=True)
        rows = labelled(encoded.rows, [pairs[index] for index in encoded.kept], self.config.loss)
        name, size = f"refresh/epoch-{epoch}/reference", 2 * self.config.train.micro_batch_size
        with guests(self.roles, {"reference": self.start.path}):
            known = with_reference(self.session, self.roles, rows, name, batch_size=size, role="reference")
        return [known[index % len(known)] for index in range(len(self.rows))]

    def _sampled(self, folder: Path, epoch: int) -> list[Any]:
        """Preferences of the present policy."""
        section = self.ladder.ladder.model_copy(update={"seed": self.ladder.ladder.seed + epoch})
        ladder = self.ladder.model_copy(update={"ladder": section})
        current = Current(self.roles, weights_digest(self.roles))
        with guests(self.roles, runs_beside(section)):
            return selected(ladder, self.prompts, climb(section, folder, self.prompts, current))[0]


def weights_digest(roles: Roles) -> str:
    """A hash of the policy's weights."""
    weights = sorted(roles.adapter_state("default").items())
    return text_digest(*(f"{name}{weight.cpu().numpy().tobytes().hex()}" for name, weight in weights)).hex()
