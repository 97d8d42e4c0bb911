"""Tables and figures of classifiers for a report. Knows evaluations and runs, no model."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from workbench.evaluate.alarms import ECE_MOST, Alarm
from workbench.evaluate.charts import SERIES, Series, interval_chart, line_chart, reliability_chart
from workbench.evaluate.classification import ClassifierEvaluation, Curve, MethodScores
from workbench.evaluate.collect import RunView
from workbench.evaluate.figures import Figure

Found = tuple[RunView, ClassifierEvaluation]
NAMES = {
    "majority": "majority",
    "tfidf_logistic": "TF-IDF + logistic regression",
    "zero_shot": "untuned base, zero-shot",
    "zero_shot_calibrated": "untuned base, zero-shot, calibrated",
    "few_shot": "untuned base, few-shot",
    "few_shot_calibrated": "untuned base, few-shot, calibrated",
    "head": "head",
    "verbalizer": "verbalizer",
}
"""Methods as a page calls them."""


@dataclass(frozen=True)
class MethodRow:
    """A row of the table of methods."""

    name: str
    scores: MethodScores
    colour: int
    """Of the run that trained it; 0 for a baseline."""


@dataclass(frozen=True)
class ClassifierBlock:
    """Classifiers on the same held-out texts, with the baselines that they share."""

    found: list[Found]
    rows: list[MethodRow]
    figures: list[Figure]

    @property
    def first(self) -> ClassifierEvaluation:
        """The evaluation whose baselines are shown."""
        return self.found[0][1]


def classifiers(views: Iterable[RunView]) -> list[Found]:
    """The runs with a classifier's evaluation."""
    return [
        (v, v.evaluation.classifier) for v in views if v.evaluation is not None and v.evaluation.classifier is not None
    ]


def classifier_blocks(views: Sequence[RunView]) -> list[ClassifierBlock]:
    """One block per set of held-out texts: runs on the same files, columns and seed share one."""
    sets: dict[str, list[Found]] = {}
    for view, found in classifiers(views):
        data = sorted((name, str(file["sha256"])) for name, file in view.record.get("data", {}).items())
        key = repr((data, view.record.get("seed"), found.texts, found.groups, list(found.methods["majority"].labels)))
        sets.setdefault(key, []).append((view, found))
    return [ClassifierBlock(same, _rows(same), _figures(same)) for same in sets.values()]


def classifier_alarms(views: Sequence[RunView]) -> list[Alarm]:
    """Warnings: a baseline that is not beaten, probabilities that are not calibrated."""
    alarms = []
    for view, found in classifiers(views):
        ours = found.methods[found.trained]
        if found.gain.low <= 0:
            alarms.append(Alarm(view.name, f"{found.verdict()}."))
        if ours.ece > max(ECE_MOST, 1.5 * ours.ece_by_chance):
            alarms.append(
                Alarm(
                    view.name,
                    f"Calibration error is {ours.ece:.3f} (above {ECE_MOST}; {ours.ece_by_chance:.3f} is expected by "
                    "chance on this many texts): do not read its probabilities as shares.",
                )
            )
    return alarms


def _rows(found: Sequence[Found]) -> list[MethodRow]:
    """The baselines of the first run, then the trained classifier of each run."""
    first = found[0][1]
    rows = [MethodRow(NAMES.get(name, name), s, 0) for name, s in first.methods.items() if name != first.trained]
    for view, own in found:
        name = NAMES.get(own.trained, own.trained)
        rows.append(MethodRow(f"{name} ({view.name})", own.methods[own.trained], view.colour))
    return rows


def _figures(found: Sequence[Found]) -> list[Figure]:
    figures = [_macro(found)]
    for view, own in found:
        suffix = f" · {view.name}" if len(found) > 1 else ""
        figures += [_per_label(view, own, suffix), *_curves(view, own, suffix), _reliability(view, own, suffix)]
    return figures


def _macro(found: Sequence[Found]) -> Figure:
    rows = [(row.name, [(row.name, row.scores.macro_f1, row.colour or 1)]) for row in _rows(found)]
    svg = interval_chart(f"macro-f1-{found[0][0].colour}", rows, x_label="macro F1", limits=(0.0, 1.0))
    caption = (
        "Mean F1 over the labels, with 95 % bootstrap intervals over groups of near duplicates. Methods share the "
        f"held-out texts, so overlapping intervals can still hide a difference: {found[0][1].verdict()}."
    )
    return Figure("Macro F1", caption, svg)


def _per_label(view: RunView, own: ClassifierEvaluation, suffix: str) -> Figure:
    labels = own.methods[own.trained].labels
    rows = [
        (f"{label} ({scores.texts})", [(label, scores.f1, view.colour)])
        for label, scores in labels.items()
        if scores.texts
    ]
    svg = interval_chart(f"f1-{view.colour}", rows, x_label="F1", limits=(0.0, 1.0))
    return Figure(
        f"F1 per label{suffix}", "Labels with their number of held-out texts. Few texts: wide intervals.", svg
    )


def _curves(view: RunView, own: ClassifierEvaluation, suffix: str) -> list[Figure]:
    labels = own.methods[own.trained].labels
    ranked = {name: scores for name, scores in labels.items() if scores.roc is not None}
    if not own.multi_label and len(labels) == 2:  # the curves of two labels mirror each other: the rarer one is shown
        ranked = dict(sorted(ranked.items(), key=lambda item: item[1].texts)[:1])
    shown = dict(sorted(ranked.items(), key=lambda item: -item[1].texts)[:SERIES])
    if not shown:
        return [Figure(f"ROC{suffix}", "", missing="No label has held-out texts with it and without it.")]
    roc = [_series(f"{n} {s.roc_auc:.3f}", s.roc, i) for i, (n, s) in enumerate(shown.items(), 1)]
    ranks = [
        _series(f"{n} {s.average_precision:.3f}", s.precision_recall, i) for i, (n, s) in enumerate(shown.items(), 1)
    ]
    several = f" The {SERIES} most frequent labels." if len(ranked) > SERIES else ""
    return [
        Figure(
            f"ROC{suffix}",
            f"Each label against all others; the number is the area, 0.5 is chance.{several}",
            line_chart(f"roc-{view.colour}", roc, x_label="false positive rate", y_label="true positive rate"),
        ),
        Figure(
            f"Precision and recall{suffix}",
            f"The number is the average precision; chance is the label's share of the texts.{several}",
            line_chart(f"pr-{view.colour}", ranks, x_label="recall", y_label="precision"),
        ),
    ]


def _series(label: str, curve: Curve | None, colour: int) -> Series:
    assert curve is not None
    return Series(label, curve.x, curve.y, colour)


def _reliability(view: RunView, own: ClassifierEvaluation, suffix: str) -> Figure:
    scores = own.methods[own.trained]
    caption = (
        f"Probability of the predicted {'label decisions' if own.multi_label else 'label'} against the share that is "
        "right, in bins of equal size. Below the dashed diagonal the classifier is overconfident. Calibration error "
        f"{scores.ece:.3f}; {scores.ece_by_chance:.3f} is expected by chance."
    )
    svg = reliability_chart(f"calibration-{view.colour}", scores.reliability, colour=view.colour)
    return Figure(f"Reliability{suffix}", caption, svg)
