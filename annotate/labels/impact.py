"""What pausing or removing an annotator does: to the queue, to the export and to agreement. Changes nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from annotate.labels.export import Exported, Given, Rules, gather, made_of
from annotate.labels.votes import collect
from annotate.statistics.agreement import Statistic, agreement
from annotate.store.database import Store


@dataclass(frozen=True)
class Impact:
    """The export as it is, and as it would be without somebody's judgements."""

    before: Mapping[str, int]
    after: Mapping[str, int]
    gone: int
    """Records that would be missing."""
    new: int
    """Records that would be added: ties that somebody else's vote now breaks."""
    turned: int
    """Records whose chosen answer would be the other one."""
    alpha_before: Statistic
    """Krippendorff's alpha of strength."""
    alpha_after: Statistic
    unlabelled: int
    """Items that would have no judgement left."""


def impact_of_removing(store: Store, name: str, rules: Rules) -> Impact:
    """Compare the export with and without an annotator."""
    with_them, without = (gather(store, replace(rules, without=names)) for names in ((), (name,)))
    before, after = made_of(with_them, rules), made_of(without, rules)
    chosen_before, chosen_after = _chosen(before), _chosen(after)
    both = chosen_before.keys() & chosen_after.keys()
    return Impact(
        before=before.counts,
        after=after.counts,
        gone=len(chosen_before.keys() - both),
        new=len(chosen_after.keys() - both),
        turned=sum(chosen_before[record] != chosen_after[record] for record in both),
        alpha_before=_alpha(with_them),
        alpha_after=_alpha(without),
        unlabelled=after.counts["not_judged"] - before.counts["not_judged"],
    )


def _chosen(exported: Exported) -> dict[str, str]:
    return {record.id: record.chosen_text for record in exported.preferences}


def _alpha(given: Given) -> Statistic:
    votes = collect(given.items, given.responses, given.judgements)
    return agreement(votes.comparison, votes.annotator, votes.strength, resamples=200)["alpha_ordinal"]
