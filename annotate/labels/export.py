"""Judgements become preference records and demonstrations. Knows the store and the records, not the page.

`annotate.labels.resolve` turns several judgements into one label. The export holds ordinary items (gold items and
repeats check people; they are not data) without a dropped flag, either outside campaigns or of one campaign. Removed
annotators do not count. Ties are left out, or kept with strength 0 and weight 0 (`chosen` is then drawn by a hash).
Items whose answers are both bad make no pair, because neither answer should be learnt; as two bad answers they are in
the file of rated answers. All records of a prompt share one `group` and one `split`.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from annotate.config import ExportSection, needed
from annotate.judge.calibration import not_counting
from annotate.labels.marks import marks_of
from annotate.labels.pseudonyms import pseudonyms
from annotate.labels.resolve import Label, resolve
from annotate.labels.votes import collect, strengths
from annotate.store.database import Store
from annotate.store.files import files_of
from annotate.store.statements import Adjudication, CurrentJudgement, StoredItem, StoredResponse
from workbench.data.hashing import unit_hash
from workbench.data.readers import write_records
from workbench.data.reading import say
from workbench.data.records import Demonstration, Message, Preference, RatedAnswer
from workbench.run.errors import WorkbenchError
from workbench.run.outputs import check_outputs

EDITED = "edited by an annotator"
"""Stands for the run of an improved answer."""


@dataclass(frozen=True)
class Exported:
    """The records of an export."""

    preferences: list[Preference]
    """In the order of loading; those of improved answers last."""
    demonstrations: list[Demonstration]
    answers: list[RatedAnswer]
    """Both answers of every comparison that is decided or both bad."""
    counts: dict[str, int]
    """Comparisons by outcome; `edited` pairs, `heldout` records, `judgements` used, and items `flagged`."""


@dataclass(frozen=True)
class Given:
    """The part of the store that the configuration counts."""

    items: list[StoredItem]
    responses: Mapping[int, list[StoredResponse]]
    judgements: list[CurrentJudgement]
    adjudications: Mapping[int, Adjudication]
    flagged: int
    """Items left out because of a flag."""


def gather(store: Store, section: ExportSection, *, without: Collection[str] = ()) -> Given:
    """Read the items, judgements and adjudications that count; `without`: annotators to leave out.

    Judges that are not calibrated are left out, too, with a warning.
    """
    with store.read() as transaction:
        items, responses = transaction.items(kind="ordinary"), transaction.all_responses()
        standing, rulings = list(transaction.current_judgements()), transaction.adjudications()
    adjudications = {pk: ruling for pk, ruling in rulings.items() if ruling.choice != "withdrawn"}
    refused = not_counting(store, section)
    for name, reason in refused.items():
        say(f"{store.place}: the judge {name} does not count: {reason}")
    left_out = {*without, *refused}
    counting = [
        judgement
        for judgement in standing
        if (section.who == "everyone" or judgement.simulated == (section.who == "simulated"))
        and judgement.annotator not in left_out
    ]
    if section.names == "hash":
        pseudonym = pseudonyms(store)
        counting = [judgement._replace(annotator=pseudonym(judgement.annotator)) for judgement in counting]
    # A flag counts whoever set it, even if that person's judgements do not.
    warned = {judgement.item for judgement in standing if judgement.flag in section.drop_flags} - adjudications.keys()
    own = [item for item in items if item.campaign == section.campaign]
    kept = [item for item in own if item.id not in warned]
    return Given(kept, responses, counting, adjudications, len(own) - len(kept))


def preferences(store: Store, section: ExportSection) -> Exported:
    """All records, with the number of comparisons by outcome."""
    return made_of(gather(store, section), section)


def made_of(given: Given, section: ExportSection) -> Exported:
    """The records of the given judgements."""
    votes = collect(given.items, given.responses, given.judgements)
    labels = resolve(votes, given.adjudications, mode=section.resolve)
    counts: Counter[str] = Counter(exported=0, ties=0, both_bad=0, left_out=0, skipped=0, not_judged=0, edited=0)
    labelled = {label.comparison.item.id for label in labels}
    seen = {judgement.item for judgement in given.judgements}
    for item in given.items:
        if item.id not in labelled:
            counts["skipped" if item.id in seen else "not_judged"] += 1
    records = list(_labelled(labels, given, section, counts))
    edits = list(_edits(given))
    if section.edits:
        improved = [pair for edit in edits for pair in _edited_pairs(edit, given.responses[edit.item.id], section)]
        counts["edited"] = len(improved)
        records += improved
    counts["heldout"] = sum(record.split == "heldout" for record in records)
    counts["judgements"], counts["flagged"] = len(votes), given.flagged
    answers = [answer for label in labels for answer in _rated(label, given.responses, section)]
    return Exported(records, [_demonstration(edit) for edit in edits], answers, dict(counts))


def export(store: Store, section: ExportSection) -> dict[str, int]:
    """Write the records to `section.out`, and to `section.demonstrations` and `section.answers` if they are set.

    Returns the counts.

    Raises:
        WorkbenchError: `export.out` is not set, a file is that of another output or the store's, or nothing has been
            judged.
    """
    out = Path(needed("export.out", section.out))
    others = {"export.demonstrations": section.demonstrations, "export.answers": section.answers}
    outputs = {"export.out": out} | {key: Path(name) for key, name in others.items() if name}
    check_outputs(outputs, files_of(store.path) if store.path else (), remedy=f"another {', '.join(outputs)}")
    made = preferences(store, section)
    if not made.preferences:
        raise WorkbenchError(
            store.place,
            f"has no comparison to export ({', '.join(f'{v} {k}' for k, v in made.counts.items())})",
            expected=f"judgements by {section.who}"
            + (f" in campaign {section.campaign!r}" if section.campaign else ""),
            remedy="label some pairs first: python -m annotate serve CONFIG.yaml",
        )
    write_records(out, made.preferences, private=True)  # it names the annotators
    if section.demonstrations:
        write_records(Path(section.demonstrations), made.demonstrations)
    if section.answers:
        write_records(Path(section.answers), [answer_row(answer) for answer in made.answers])
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    with store.write() as transaction:
        transaction.add_event("exported", time.time(), out=str(out), sha256=digest, who=section.who, **made.counts)
    return made.counts


def counts_text(counts: Mapping[str, int]) -> str:
    """The counts of an export, for the terminal."""
    return (
        f"{counts['exported'] + counts['edited']:,} preferences ({counts['heldout']:,} held out, {counts['edited']:,} "
        f"of improved answers); left out: {counts['ties']:,} ties, {counts['both_bad']:,} both bad, "
        f"{counts['flagged']:,} flagged, {counts['left_out']:,} by a reviewer, {counts['skipped']:,} skipped, "
        f"{counts['not_judged']:,} not judged"
    )


_OUTCOMES = {"decided": "exported", "tie": "ties", "both_bad": "both_bad", "left_out": "left_out"}


def _labelled(
    labels: Sequence[Label], given: Given, section: ExportSection, counts: Counter[str]
) -> Iterator[Preference]:
    judged: dict[int, list[CurrentJudgement]] = {}
    for judgement in given.judgements:
        judged.setdefault(judgement.item, []).append(judgement)
    for label in labels:
        item = label.comparison.item.id
        kept_tie = label.outcome == "tie" and not section.drop_ties
        counts["exported" if kept_tie else _OUTCOMES[label.outcome]] += 1
        if kept_tie or label.outcome == "decided":
            own = [judgement for judgement in judged.get(item, []) if judgement.annotator in label.annotators]
            yield _preference(label, given.responses[item], own, section)


def _preference(
    label: Label, answers: Sequence[StoredResponse], judgements: Sequence[CurrentJudgement], section: ExportSection
) -> Preference:
    item, tie = label.comparison.item, label.outcome == "tie"
    second = int(unit_hash(section.seed, "tie", label.comparison.id) < 0.5) if tie else label.chosen
    positions = (label.comparison.first, label.comparison.second)
    chosen, rejected = answers[positions[second]], answers[positions[1 - second]]
    return Preference(
        id=label.key,
        group=item.group_id,
        prompt=_prompt(item),
        chosen=(Message(role="assistant", content=chosen.text),),
        rejected=(Message(role="assistant", content=rejected.text),),
        strength=label.strength,
        annotators=label.annotators,
        agreement=label.agreement,
        weight=label.weight,
        probability=label.probability,
        resolution=label.resolution,
        chosen_run=chosen.run,
        rejected_run=rejected.run,
        round=item.round,
        split=_split(item, section),
        **marks_of(judgements, {positions[second]: "chosen", positions[1 - second]: "rejected"}),
    )


def _rated(
    label: Label, responses: Mapping[int, Sequence[StoredResponse]], section: ExportSection
) -> Iterator[RatedAnswer]:
    """The two answers of a comparison, good if chosen; none of a tie, which says nothing of either answer."""
    item, comparison = label.comparison.item, label.comparison
    if label.outcome not in ("decided", "both_bad"):
        return
    for side, position in enumerate((comparison.first, comparison.second)):
        yield RatedAnswer(
            id=f"{label.key}~{position}",
            group=item.group_id,
            prompt=_prompt(item),
            response=responses[item.id][position].text,
            desirable=label.outcome == "decided" and side == label.chosen,
            weight=label.weight if label.outcome == "decided" else 1.0,
            split=_split(item, section),
        )


def answer_row(answer: RatedAnswer) -> dict[str, Any]:
    """A rated answer in the columns that TRL's `KTOTrainer` reads."""
    row = answer.model_dump(mode="json", exclude={"response", "desirable"})
    completion = [{"role": "assistant", "content": answer.response}]
    return {**row, "completion": completion, "label": answer.desirable}


def _prompt(item: StoredItem) -> tuple[Message, ...]:
    return tuple(Message(**message) for message in json.loads(item.prompt))


def _split(item: StoredItem, section: ExportSection) -> Literal["train", "heldout"]:
    return "heldout" if unit_hash(section.seed, "split", item.group_id) < section.heldout_share else "train"


@dataclass(frozen=True)
class _Edit:
    """An answer that an annotator improved."""

    item: StoredItem
    judgement: CurrentJudgement
    position: int
    text: str

    @property
    def id(self) -> str:
        return f"{self.item.item_id}~edited-{self.judgement.annotator}"


def _edits(given: Given) -> Iterator[_Edit]:
    items = {item.id: item for item in given.items}
    for judgement in given.judgements:
        item, text, position = items.get(judgement.item), judgement.edited_text, judgement.edited_response
        if item is None or text is None or position is None:
            continue
        ruling = given.adjudications.get(item.id)
        if ruling is None or ruling.choice in ("compared", "ranked", "both_bad"):
            yield _Edit(item, judgement, position, text)


def _edited_pairs(edit: _Edit, answers: Sequence[StoredResponse], section: ExportSection) -> Iterator[Preference]:
    """Improved > original; and improved > every answer that the same person did not prefer to the original."""
    pairs = [(i, j) for i in range(len(answers)) for j in range(i + 1, len(answers))]
    judgement = edit.judgement
    said = dict(strengths(judgement.choice, judgement.strength, judgement.ranking, pairs))
    for position, answer in enumerate(answers):
        first, second = sorted((edit.position, position))
        other_better = first != second and (said[first, second] > 0) == (second == position) and said[first, second]
        if other_better or answer.text == edit.text:
            continue
        yield Preference(
            id=f"{edit.id}-{position}",
            group=edit.item.group_id,
            prompt=_prompt(edit.item),
            chosen=(Message(role="assistant", content=edit.text),),
            rejected=(Message(role="assistant", content=answer.text),),
            annotators=(judgement.annotator,),
            probability=1.0,
            resolution="edited",
            chosen_run=EDITED,
            rejected_run=answer.run,
            round=edit.item.round,
            split=_split(edit.item, section),
            **marks_of([judgement], {position: "rejected"}),
        )


def _demonstration(edit: _Edit) -> Demonstration:
    return Demonstration(id=edit.id, prompt=_prompt(edit.item), response=edit.text)
