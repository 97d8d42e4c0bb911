"""Users' files become items of the store: pairs, answers to rank, and gold items made of preferences."""

from pathlib import Path

from annotate.intake.items import Intake, Loaded, load_items, unit_hash
from annotate.store.database import Store
from workbench.data.readers import read_items, read_preferences
from workbench.data.records import Item, Preference, Response


def load_file(store: Store, path: str | Path, intake: Intake, *, gold: bool = False) -> Loaded:
    """Load a file of items (JSONL, JSON, CSV, TSV, Parquet, a `datasets` folder); all of it, or nothing.

    With `gold` the file holds preferences, and the preferred answer is the known one.

    Raises:
        WorkbenchError: the file or a row of it is bad; the message names the line.
    """
    items = [gold_item(record) for record in read_preferences(path)] if gold else read_items(path)
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
    """An item whose answer is known; which answer comes first is drawn by hash of the id."""
    first = unit_hash(0, "gold", record.id) < 0.5
    texts = (record.chosen_text, record.rejected_text) if first else (record.rejected_text, record.chosen_text)
    size = max(1, round(record.strength)) if record.strength else 0
    return Item(
        id=f"gold-{record.id}",
        group=record.group,
        prompt=record.prompt,
        responses=tuple(Response(id=str(number), text=text) for number, text in enumerate(texts)),
        known_strength=-size if first else size,
    )


def loaded_text(loaded: Loaded) -> str:
    """What loading did, in a line."""
    parts = [f"{loaded.new:,} new, {loaded.known:,} known"]
    if loaded.identical:
        parts.append(f"{loaded.identical:,} left out because their answers are the same text")
    if loaded.duplicates and loaded.first_duplicate:
        repeated, first = loaded.first_duplicate
        parts.append(f"{loaded.duplicates:,} left out that repeat another item ({repeated!r} is {first!r})")
    return "; ".join(parts)
