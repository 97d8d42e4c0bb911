"""Items from users' files: pairs, answers to rank, and gold items made from preferences."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from annotate.config import AnnotateConfig, QueueSection
from annotate.intake.items import Loaded, load_items
from annotate.intake.labels import GivenLabels, Origin
from annotate.store.address import sqlite_path
from annotate.store.database import Store
from workbench.data.hashing import unit_hash
from workbench.data.readers import places_of, read_items, read_labelled_items, read_preferences
from workbench.data.records import Item, LabelledItem, LabelsOf, Preference, Response
from workbench.data.rules import RowRules
from workbench.privacy.keys import key_path
from workbench.run.errors import WorkbenchError
from workbench.run.out_of_memory import memory_hint


@memory_hint("while loading a file", "split the file (or the request) and load one part after another")
def load_file(
    store: Store,
    path: str | Path,
    queue: QueueSection,
    rules: RowRules | None = None,
    *,
    gold: bool = False,
    relabel: bool = False,
    labels_from: Origin | None = None,
) -> Loaded:
    """Load a file of items (JSONL, JSON, CSV, TSV, Parquet, a `datasets` folder): all of it, or nothing.

    Args:
        labels_from: also import the judgements in the file, as those of this origin.
        gold: the file holds preferences; each becomes a test of annotators whose right answer is the preferred one.
        relabel: the file holds preferences, to be judged again like any other item.

    Raises:
        WorkbenchError: the file or a row of it is bad; the message names the line.
    """
    rules = replace(rules or RowRules(), mask=queue.mask_personal)
    if gold or relabel:
        make = gold_item if gold else item_to_relabel
        preferences = read_preferences(path, rules)
        rules.write_masked(audit_path(store))
        purpose = "gold" if gold else "relabel"  # their texts are often in the store already
        return load_items(store, map(make, preferences), queue, source=str(path), purpose=purpose)
    if labels_from is not None:
        return _load_with_labels(store, path, queue, rules, labels_from)
    items = read_items(path, rules)
    rules.write_masked(audit_path(store))
    return load_items(store, items, queue, source=str(path), places=_places(path, items))


def _load_with_labels(store: Store, path: str | Path, queue: QueueSection, rules: RowRules, origin: Origin) -> Loaded:
    records = read_labelled_items(path, rules)
    rules.write_masked(audit_path(store))
    labelled = [record for record in records if isinstance(record, LabelledItem)]
    about_others = [record for record in records if isinstance(record, LabelsOf)]
    given = GivenLabels(
        origin,
        {record.id: record.labels for record in labelled},
        [(record.id, label) for record in about_others for label in record.labels],
    )
    if not given.others and not any(given.of.values()):
        raise WorkbenchError(
            path,
            "holds no judgements",
            expected="columns that judge the answers, such as 'winner' or ratings",
            remedy="without --labels-by the items are loaded to be judged here",
        )
    items = [record.item for record in labelled]
    places = dict(zip((item.id for item in items), places_of(path, labelled), strict=True))
    loaded = load_items(store, items, queue, source=str(path), places=places, labels=given)
    if about_others and not labelled and loaded.labels is not None and loaded.labels.missing == len(given.others):
        raise WorkbenchError(
            path,
            f"judges items that are not in the store, such as {about_others[0].id!r}",
            expected="the ids of items that were loaded before",
            remedy="load the file with their texts first",
        )
    return loaded


def audit_path(store: Store) -> Path:
    """The audit file of masked items: next to an SQLite store; next to the key if the store is a database."""
    place = store.path or key_path()
    return place.with_name(f"{place.stem}.masked.jsonl")


def _places(path: str | Path, items: Sequence[Item]) -> dict[str, str]:
    return dict(zip((item.id for item in items), places_of(path, items), strict=True))


def open_with_items(config: AnnotateConfig, *, durable: bool = True) -> Store:
    """The store, with the items of the pairs file; without such a file, with those loaded before.

    Raises:
        WorkbenchError: there is no item.
    """
    path = Path(config.pairs.out) if config.pairs.out is not None else None
    if path is not None and path.is_file():
        store = Store.open(config.store_url, durable=durable, say=print)
        print(f"{store.place}: {load_file(store, path, config.queue, config.row_rules)}")
        return store
    file = sqlite_path(config.store_url)
    if file is None or file.is_file():
        store = Store.open(config.store_url, durable=durable, say=print)
        with store.read() as transaction:
            if transaction.totals(simulated=False)[0]:
                return store
        store.close()
    raise WorkbenchError(
        path or config.store_url.split("@")[-1],
        "there are no pairs to label yet",
        expected="the items that `pairs` writes (pairs.out), or items loaded from a file",
        remedy="python -m annotate pairs CONFIG.yaml, or python -m annotate load CONFIG.yaml FILE",
    )


def gold_item(record: Preference) -> Item:
    """An item whose right answer is known."""
    size = max(1, round(record.strength)) if record.strength else 0
    first, responses = _answers(record)
    return Item(
        id=f"gold-{record.id}",
        group=record.group,
        prompt=record.prompt,
        responses=responses,
        known_strength=-size if first else size,
    )


def item_to_relabel(record: Preference) -> Item:
    """An ordinary item with the answers of a preference, without the preference itself."""
    return Item(id=f"relabel-{record.id}", group=record.group, prompt=record.prompt, responses=_answers(record)[1])


def _answers(record: Preference) -> tuple[bool, tuple[Response, Response]]:
    """Whether the chosen answer comes first (drawn by a hash of the id), and both answers in order."""
    first = unit_hash(0, "gold", record.id) < 0.5
    texts = (record.chosen_text, record.rejected_text) if first else (record.rejected_text, record.chosen_text)
    return first, (Response(id="0", text=texts[0]), Response(id="1", text=texts[1]))
