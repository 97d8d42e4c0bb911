from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from annotate.config import AnnotateConfig, FollowSection, QueueSection
from annotate.queue.rules import Card, Queue, Submission
from annotate.sampling.follow import Exchangeable, Follower, Pass, judgements_left
from annotate.store.database import Store
from tests.annotate.sampling.test_pairs import SECTION, FakeAnswer
from workbench.data.records import Message, Prompt
from workbench.run.errors import WorkbenchError
from workbench.run.folder import RunFolder
from workbench.run.sources import ADAPTER, Source, locate, newest

PROMPTS = [Prompt(id=f"p{n}", prompt=(Message(role="user", content=f"Question {n}?"),)) for n in range(6)]
ONCE = QueueSection(overlap=1, overlap_share=0)
CONFIG = AnnotateConfig(
    pairs=SECTION, queue=ONCE, follow=FollowSection(low=3, batch=4, poll_seconds=9.0, newer_first=10.0)
)


class FakeModel:
    """Answers that name the weights they come from."""

    def __init__(self) -> None:
        self.used: list[str] = []

    def use(self, source: Source) -> None:
        self.used.append(source.name)

    def __call__(
        self, prompts: Sequence[Prompt], *, responses_per_prompt: int, seed: int, **_: Any
    ) -> Iterator[tuple[Prompt, list[FakeAnswer]]]:
        for prompt in prompts:
            yield prompt, [FakeAnswer(f"{self.used[-1]} {seed} {k}", 1.0) for k in range(responses_per_prompt)]


def write_weights(folder: Path, content: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ADAPTER).write_text(content)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that is still training, without a checkpoint."""
    folder = tmp_path / "run"
    folder.mkdir()
    RunFolder(folder).write_record({"phase": "sft", "status": "running"})
    return folder


def label_everything(store: Store) -> None:
    """Until nothing is left for one person."""
    queue = Queue(store, QueueSection(lease_seconds=60))
    with store.write() as transaction:
        if transaction.annotator("ann") is None:
            transaction.add_annotator("ann", "annotator", 0.0)
        who = transaction.annotator("ann")
    assert who is not None
    while isinstance(card := queue.next(who), Card):
        queue.submit(who, Submission(card.item, "compared", f"{card.item_id}-key1", strength=1))


def test_pairs_come_when_the_run_has_new_weights_and_when_few_are_left(store: Store, run: Path) -> None:
    model, waits, passes = FakeModel(), [], []  # type: ignore[var-annotated]

    def meanwhile(seconds: float) -> None:
        """What happens while the worker waits: a checkpoint; people label; a newer checkpoint."""
        waits.append(seconds)
        if len(waits) == 1:
            write_weights(run / "checkpoints/step-1", "1")
        elif len(waits) == 2:
            label_everything(store)
        elif len(waits) == 3:
            write_weights(run / "checkpoints/step-2", "22")
        else:
            raise AssertionError("the worker waits for nothing")

    added = Follower(store, str(run), PROMPTS, CONFIG).follow(
        lambda: model, passes=3, sleep=meanwhile, report=passes.append
    )
    assert waits == [9.0] * 3
    assert [(done.generation, done.new, done.why) for done in passes] == [
        (0, 4, "new weights"),
        (0, 4, "0 judgements left"),
        (1, 4, "new weights"),
    ]
    assert [Path(name).name for name in model.used] == ["step-1", "step-1", "step-2"]
    assert added == 12
    with store.read() as transaction:
        items, responses = transaction.items(), transaction.all_responses()
    assert [item.group_id for item in items] == ["p0", "p1", "p2", "p3", "p4", "p5", "p0", "p1", "p2", "p3", "p4", "p5"]
    assert {item.round for item in items[:8]} == {SECTION.round}
    assert {item.round for item in items[8:]} == {SECTION.round + 1}
    assert responses[items[-1].id][0].run.endswith("step-2")
    queue = Queue(store, QueueSection(lease_seconds=60))
    with store.read() as transaction:
        who = transaction.annotator("ann")
    assert who is not None
    card = queue.next(who)
    assert isinstance(card, Card)
    assert "step-2" in card.left.text  # the newest weights first, though older pairs are open


def test_a_worker_that_was_stopped_goes_on_with_the_next_prompts(store: Store, run: Path) -> None:
    write_weights(run / "checkpoints/step-1", "1")

    def once() -> list[Pass]:
        passes: list[Pass] = []
        model: Exchangeable = FakeModel()
        section = FollowSection(low=100, batch=2, poll_seconds=1, newer_first=1)
        follower = Follower(store, str(run), PROMPTS, CONFIG.model_copy(update={"follow": section}))
        follower.follow(lambda: model, passes=1, report=passes.append)
        return passes

    assert [once()[0].why for _ in range(3)] == ["new weights", "2 judgements left", "4 judgements left"]
    with store.read() as transaction:
        assert [item.group_id for item in transaction.items()] == ["p0", "p1", "p2", "p3", "p4", "p5"]
    assert judgements_left(store) == 6


def test_the_newest_weights_of_a_run(run: Path) -> None:
    assert newest(run) is None
    write_weights(run / "checkpoints/step-2", "a")
    write_weights(run / "checkpoints/step-10", "b")
    found = newest(run)
    assert found is not None
    assert Path(found.name).name == "step-10"
    before = found.mark
    write_weights(run / "checkpoints/step-10", "other weights")
    assert found.mark != before
    write_weights(run / "adapter", "final")
    RunFolder(run).update_record(status="finished")
    final = newest(run)
    assert final is not None
    assert (final.name, locate(run).name) == (str(run), str(run))
    assert locate(run / "checkpoints/step-2").run.path == run


def test_places_without_weights_are_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match="not finished"):
        locate(run)
    with pytest.raises(WorkbenchError, match="holds no adapter"):
        locate(run / "checkpoints")
    with pytest.raises(WorkbenchError, match="not a run folder"):
        locate(tmp_path / "elsewhere")
    with pytest.raises(WorkbenchError, match="no run here"):
        newest(tmp_path / "elsewhere")


def test_weights_are_exchanged_on_one_base(sft_run: Path, tmp_path: Path) -> None:
    """Answers of an adapter, of the same one with zeroed weights, and of the first again."""
    import shutil

    from safetensors.torch import load_file, save_file

    from annotate.sampling.answerer import Answerer

    other = tmp_path / "run"
    shutil.copytree(sft_run, other)
    zeros = {name: tensor * 0 for name, tensor in load_file(other / "adapter" / ADAPTER).items()}
    save_file(zeros, other / "adapter" / ADAPTER, metadata={"format": "pt"})

    def answers(model: Answerer, place: Path) -> list[str]:
        model.use(locate(place))
        settings = {"temperatures": [1.0], "responses_per_prompt": 1, "max_new_tokens": 8, "batch_size": 6, "seed": 3}
        return [answer.text for _, (answer,) in model(PROMPTS, **settings)]

    model = Answerer()
    trained = answers(model, sft_run)
    base = model._roles
    changed = answers(model, other)
    assert changed != trained
    assert answers(model, sft_run) == trained
    assert model._roles is base
    assert answers(Answerer(), other) == changed
