"""Does forgetting a person leave the adapter of a run that never saw them, and how fast are the touched runs found?

1. Two people label pairs of the embedded default; a reward run is trained on the export. One of them is forgotten, and
   the plan is run. The control is trained on the export of a store in which that person never labelled. On a CPU.
2. The runs that have learned from one of 50 annotators, and from one record, are looked for; a run read a file of a
   million preferences. Also the time that noting the annotators adds to the start of that run.

Run it with `python -m benchmarks.forget`.
"""

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from annotate.__main__ import main as annotate
from annotate.config import QueueSection
from annotate.intake.items import load_items
from annotate.queue.rules import Card, Queue, Submission
from annotate.store.database import Store
from benchmarks.record import RESULTS, write_result
from reward.config import RewardConfig
from reward.train import train as train_scores
from sft.config import SftConfig
from sft.train import train as train_policy
from workbench.data.embedded import resolve_data
from workbench.data.hashing import unit_hash
from workbench.data.readers import read_demonstrations, write_records
from workbench.data.records import Item, Response
from workbench.lineage.refit import touched_runs
from workbench.lineage.trace import Sought, annotators_by_file
from workbench.run.config import load_config
from workbench.run.folder import RunFolder
from workbench.run.lineage import run_fingerprint
from workbench.run.parents import record_lineage

PEOPLE = 50
REPEATS = 5
SFT = ("train.max_steps=4", "data.validation=null", "sample.prompts=1", "sample.max_new_tokens=4")
REWARD = ("train.epochs=1.0", "normalise.answers=16", "normalise.max_new_tokens=8", "passport.at_end=false")
COMMON = ("run.threads=1", "tracking.wandb=disabled")


def main(argv: list[str] | None = None) -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000, help="preferences in the file that is searched")
    parser.add_argument("--pairs", type=int, default=40, help="pairs that the reward runs are trained on")
    parser.add_argument("--out", type=Path, default=RESULTS / "forget.json")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        hashes = refit(Path(folder) / "refit", arguments.pairs)
        found = search(Path(folder) / "search", arguments.records)
    content = {
        "hash_equal": hashes["refit"] == hashes["control"],
        "changed": hashes["refit"] != hashes["before"],
        **found,
        "adapters": hashes,
    }
    write_result(arguments.out, content)


def refit(folder: Path, pairs: int) -> dict[str, str | None]:
    """SHA-256 of the reward adapter before forgetting, trained again, and of the control."""
    runs = folder / "runs"
    demonstrations = folder / "demonstrations.jsonl"
    folder.mkdir(parents=True)
    write_records(demonstrations, read_demonstrations(resolve_data("tiny:demonstrations"))[:100])
    train_sft(f"run.dir={runs / 'sft'}", f"data.train={demonstrations}")
    files = {}
    for name, people in (("before", ("ann", "bea")), ("control", ("bea",))):
        label(folder / name, people, pairs)
        files[name] = folder / name / "preferences.jsonl"
        annotate(["export", *store_words(folder / name)])
        # The control is outside the folder that is searched for runs.
        target = runs / "reward" if name == "before" else folder / "control" / "reward"
        train_reward(f"run.dir={target}", f"model.start={runs / 'sft'}", f"data.train={files[name]}")
    annotate(["forget", *store_words(folder / "before"), "--annotator", "ann", "--runs", str(runs), "--run"])
    return {
        "before": run_fingerprint(runs / "reward"),
        "refit": run_fingerprint(runs / "reward-refit"),
        "control": run_fingerprint(folder / "control" / "reward"),
    }


def store_words(folder: Path) -> list[str]:
    """The configuration of a store and its export."""
    out = folder / "preferences.jsonl"
    return ["configs/tiny/annotate.yaml", f"store.url={folder / 'labels.sqlite'}", f"export.out={out}"]


def train_sft(*overrides: str) -> None:
    """Train a policy for the reward runs to start from."""
    config, _ = load_config(SftConfig, Path("configs/tiny/sft.yaml"), [*COMMON, *SFT, *overrides])
    train_policy(config, resume=False)


def train_reward(*overrides: str) -> None:
    """Train a reward model."""
    config, _ = load_config(RewardConfig, Path("configs/tiny/reward.yaml"), [*COMMON, *REWARD, *overrides])
    train_scores(config, resume=False)


def label(folder: Path, people: Sequence[str], pairs: int) -> None:
    """Each item belongs to one person by a hash; the named people judge theirs, and prefer the longer answer."""
    demonstrations = read_demonstrations(resolve_data("tiny:demonstrations"))[: pairs + 1]
    items = []
    for one, other in itertools.pairwise(demonstrations):
        responses = (Response(id="a", text=one.response), Response(id="b", text=other.response))
        if one.response != other.response:
            items.append(Item(id=one.id, group=one.id, prompt=one.prompt, responses=responses))
    store = Store.open(folder / "labels.sqlite", durable=False)
    queue_settings = QueueSection(overlap=1, overlap_share=0)
    load_items(store, items, queue_settings)
    with store.write() as transaction:
        for name in people:
            transaction.add_annotator(name, "annotator", 0.0)
    queue = Queue(store, queue_settings)
    for name in people:
        with store.read() as transaction:
            who = transaction.annotator(name)
        assert who is not None
        while isinstance(card := queue.next(who), Card):
            key = f"{name}-{card.item_id}"
            mine = ("ann" if unit_hash("who", card.item_id) < 0.3 else "bea") == name
            if mine:
                longer = 2 if len(card.right.text) > len(card.left.text) else -2
                queue.submit(who, Submission(card.item, "compared", key, strength=longer))
            else:
                queue.submit(who, Submission(card.item, "skipped", key, reason="not mine"))
    store.close()


def search(folder: Path, records: int) -> dict[str, Any]:
    """Seconds per search, for a person and for one record, and of noting the annotators when the run begins."""
    file = folder / "preferences.jsonl"
    folder.mkdir(parents=True)
    message = "a typical sentence of an answer, with a few words more than that " * 2
    with file.open("w", encoding="utf-8") as out:
        for number in range(records):
            row = {
                "id": f"pair-{number:07}",
                "group": f"prompt-{number // 2}",
                "prompt": [{"role": "user", "content": message}],
                "chosen": [{"role": "assistant", "content": message}],
                "rejected": [{"role": "assistant", "content": message}],
                "annotators": [f"person-{number % PEOPLE:02}"],
                "split": "train",
            }
            out.write(json.dumps(row) + "\n")
    run = RunFolder(folder / "runs" / "reward")
    run.path.mkdir(parents=True)
    run.config_path.write_text("run: {}\n", encoding="utf-8")
    run.write_record({"name": "reward", "phase": "reward", "status": "finished"})
    start = time.perf_counter()
    names = annotators_by_file({"train": file})
    noted = time.perf_counter() - start
    record_lineage(run, parents={}, data={"train": file}, annotators=names)
    person = timed_search(
        folder / "runs", Sought(frozenset({"person-07", "annotator-0123456789ab"})), records // PEOPLE
    )
    record = timed_search(folder / "runs", Sought(record=f"pair-{records - 7:07}"), 1)
    return {
        "records": records,
        "file_mib": round(file.stat().st_size / 2**20, 1),
        "seconds": statistics.median(person),
        "repeats": person,
        "one_record": {"seconds": statistics.median(record), "repeats": record},
        "seconds_at_the_start_of_the_run": noted,
    }


def timed_search(runs: Path, sought: Sought, records: int) -> list[float]:
    """Seconds per search for touched runs, which must find this many records."""
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        (touched,) = touched_runs(runs, sought)
        seconds.append(time.perf_counter() - start)
        assert touched.records["train"] == records
    return seconds


if __name__ == "__main__":
    main()
