"""When a gold item or a repeat is planted among the ordinary items of an annotator. Reads and writes nothing itself."""

from dataclasses import dataclass

from annotate.store.statements import Annotator, StoredItem, Transaction
from workbench.data.hashing import unit_hash


@dataclass(frozen=True)
class Planting:
    """How often people are given items whose answer is known, or that they have judged before."""

    gold_share: float = 0.0
    """Of the items that a person is given."""
    repeat_share: float = 0.0
    repeat_after: int = 20
    """A repeat comes after at least so many other items."""
    seed: int = 0

    def due(self, transaction: Transaction, who: Annotator, now: float) -> StoredItem | None:
        """The planted item that this annotator gets now instead of an ordinary one, if any.

        Simulated annotators get none: theirs are consistent, and their answers known.
        """
        if who.simulated or not (self.gold_share or self.repeat_share):
            return None
        lapsed = transaction.planted_lapsed(who, now)
        if lapsed is not None:
            return transaction.item(lapsed, simulated=False)
        turn = str(transaction.given_to(who.id))
        draw = unit_hash(self.seed, "planted", who.name, turn)
        which = unit_hash(self.seed, "which", who.name, turn)
        if draw < self.gold_share:
            gold = transaction.gold_items(who)
            return transaction.item(gold[int(which * len(gold))], simulated=False) if gold else None
        if draw < self.gold_share + self.repeat_share:
            judged = transaction.repeatable(who, self.repeat_after)
            return transaction.copy_as_repeat(judged[int(which * len(judged))], who, now) if judged else None
        return None
