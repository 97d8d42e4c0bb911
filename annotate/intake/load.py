"""Users' files become items of the store: pairs, answers to rank, and gold items made of preferences."""

from pathlib import Path

from annotate.intake.items import Intake, Loaded, load_items
from annotate.store.database import Store
from workbench.data.hashing import unit_hash
from workbench.data.readers import read_items, read_preferences
from workbench.data.records import Item, Preference, Response
from workbench.data.rules import RowRules
from workbench.run.out_of_memory import memory_hint


@memory_hint("while loading a file", "split the file (or the request) and load one part after another")
def load_file(
    store: Store,
    path: str | Path,
    intake: Intake,
    *,
    gold: bool = False,
    relabel: bool = False,
    rules: RowRules | None = None,
) -> Loaded:
    """Load a file of items (JSONL, JSON, CSV, TSV, Parquet, a `datasets` folder); all of it, or nothing.

    With `gold` or `relabel` the file holds preferences: with `gold` the preferred answer is the known one of a test of
    annotators, with `relabel` it is judged anew like any other item.

    Raises:
        WorkbenchError: the file or a row of it is bad; the message names the line.
    """
    if gold or relabel:
        make = gold_item if gold else item_to_relabel
        items = [make(record) for record in read_preferences(path, rules)]
    else:
        items = read_items(path, rules)
    return load_items(
        store,
        items,
        overlap=intake.overlap,
        overlap_share=intake.overlap_share,
        priority=intake.priority,
        compare=intake.compare,
        seed=intake.seed,
        place=str(path),
    )


def gold_item(record: Preference) -> Item:
    """An item whose answer is known."""
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
    """An ordinary item with the answers of a preference; what was preferred is left behind."""
    return Item(id=f"relabel-{record.id}", group=record.group, prompt=record.prompt, responses=_answers(record)[1])


def _answers(record: Preference) -> tuple[bool, tuple[Response, Response]]:
    """Whether the chosen answer comes first, which is drawn by hash of the id, and both."""
    first = unit_hash(0, "gold", record.id) < 0.5
    texts = (record.chosen_text, record.rejected_text) if first else (record.rejected_text, record.chosen_text)
    return first, (Response(id="0", text=texts[0]), Response(id="1", text=texts[1]))


def loaded_text(loaded: Loaded) -> str:
    """What loading did, in a line."""
    parts = [f"{loaded.new:,} new, {loaded.known:,} known"]
    if loaded.identical:
        parts.append(f"{loaded.identical:,} left out because their answers are the same text")
    if loaded.duplicates and loaded.first_duplicate:
        repeated, first = loaded.first_duplicate
        parts.append(f"{loaded.duplicates:,} left out that repeat another item ({repeated!r} is {first!r})")
    return "; ".join(parts)
