"""`python -m annotate forget`: a person or an item leaves the store and, on request, the runs made from them."""

from collections.abc import Sequence
from pathlib import Path

from annotate.config import AnnotateConfig
from annotate.labels.export import export
from annotate.labels.pseudonyms import pseudonyms
from annotate.people.accounts import set_state
from annotate.store.database import Store
from workbench.lineage.refit import Plan, Touched, plan, run_plan, touched_runs
from workbench.lineage.trace import Sought
from workbench.run.errors import WorkbenchError, did_you_mean


def forget(config: AnnotateConfig, *, annotator: str | None, record: str | None, runs: Path, refit: bool) -> Plan:
    """Delete an annotator or an item from the store for good, and train the touched runs again if asked to.

    Args:
        annotator: an account's name.
        record: the id of an item, or of a preference made of it.
        runs: folder that is searched for runs.
        refit: run the plan instead of only printing it.

    Raises:
        WorkbenchError: neither the store nor a run knows the name, it is the last administrator, or a refit failed.
    """
    if (annotator is None) == (record is None):
        raise WorkbenchError("forget", "needs one thing to forget", expected="--annotator NAME, or --record ID")
    store = Store.open(config.store_url, as_it_is=True)
    names = frozenset({annotator, pseudonyms(store)(annotator)}) if annotator is not None else frozenset()
    sought = Sought(names, record)
    touched = touched_runs(runs, sought)
    gone = _from_store(store, annotator, record, known=bool(touched))
    print("\n".join(_said(store, gone, touched, runs)))
    todo = plan(touched)
    if touched:
        print(f"to train them again{' ' if refit else ' (--run does it)'}:\n{todo}")
    if refit:
        out = config.export.out
        alone = {"demonstrations": None, "answers": None}
        make = (
            {}
            if out is None
            else {Path(out): lambda new: export(store, config.export.model_copy(update={**alone, "out": str(new)}))}
        )
        run_plan(todo, sought, write=make)
        if out is not None and Path(out).resolve() in {old.resolve() for old in todo.files}:
            export(store, config.export)
            print(f"{out}: exported again")
    store.close()
    return todo


def _from_store(store: Store, annotator: str | None, record: str | None, *, known: bool) -> bool:
    """Delete from the store; whether it was there."""
    if annotator is not None:
        with store.read() as transaction:
            names = [account.name for account in transaction.annotators()]
        if annotator in names:
            set_state(store, annotator, "removed")  # refuses the last administrator
            return store.forget(annotator=annotator)
        if not known:
            raise WorkbenchError(store.place, f"has no annotator {annotator!r}", remedy=did_you_mean(annotator, names))
        return False
    assert record is not None
    with store.read() as transaction:
        items = {item.item_id for item in transaction.items()}
    found = next((one for one in (record, record.rpartition(":")[0]) if one in items), None)
    if found is not None:
        return store.forget(item_id=found)
    if not known:
        raise WorkbenchError(store.place, f"has no item {record!r}", remedy=did_you_mean(record, items))
    return False


def _said(store: Store, gone: bool, touched: Sequence[Touched], runs: Path) -> list[str]:
    lines = [f"{store.place}: {'deleted' if gone else 'was deleted before'}"]
    if store.path is None:
        lines.append("backups of this database still hold it: repeat this command after restoring one")
    lines += [f"{copy} still holds it: delete this copy" for copy in store.copies()]
    lines.append(f"{runs}: {len(touched):,} runs have learned from it" + (":" if touched else ""))
    return lines + [f"  {one}" for one in touched]
