"""Checks of labels and judgements: balance, contradictions, cycles, bias of length and position, noise, errors."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from workbench.data.labelled import Columns
from workbench.evaluate.statistics import wilson_interval
from workbench.validate.entries import Entry
from workbench.validate.findings import Finding, Spot, rows_finding

FEW = 5
"""Texts of a label below which it is rare."""
MOST = 0.9
"""Share of the most frequent label from which the labels are unbalanced."""
ENOUGH = 30
"""Judgements from which a bias is looked for."""
BIASED = 0.6
"""Share of pairs in which the longer, or the first, answer is better, from which that is a bias; also 1 − `BIASED`."""
TOLD = 0.85
"""Area under the ROC curve of a text's length for one label against the others, from which length tells the label."""
CEILING = 0.85
"""Accuracy on these labels that a perfect model can reach, below which they count as noisy."""
_FOLDS, _SURE = 5, 0.7


@dataclass(frozen=True)
class Share:
    """A share with its Wilson interval."""

    name: str
    share: float
    low: float
    high: float
    count: int


def share_of(name: str, flags: Iterable[bool]) -> Share | None:
    """The share of true flags; None: there are none."""
    values = list(flags)
    if not values:
        return None
    return Share(name, sum(values) / len(values), *wilson_interval(sum(values), len(values)), len(values))


def check_judgements(
    path: str, entries: Sequence[Entry], first_better: Sequence[bool], agreements: Sequence[bool]
) -> tuple[list[Finding], list[Share]]:
    """Findings about pairs, and the shares that they rest on.

    Args:
        path: of the file.
        entries: pairs and others.
        first_better: per judgement with a free order, whether the first answer won.
        agreements: per two judgements of one item, whether they agree.
    """
    decided = [entry for entry in entries if entry.decided]
    unequal = [entry for entry in decided if len(entry.answers[0]) != len(entry.answers[1])]
    longer = share_of("longer answer is better", (len(e.answers[0]) > len(e.answers[1]) for e in unequal))
    first = share_of("first answer is better", first_better)
    agree = share_of("two judgements agree", [*agreements, *_repeated(decided)])
    found = [
        *_contradictions(path, entries),
        *rows_finding("preference-cycle", path, _cycles(decided), len(entries)),
        *_bias("length-bias", path, longer),
        *_bias("position-bias", path, first),
    ]
    ceiling = noise_ceiling(agree, entries)
    if ceiling is not None and ceiling.high < CEILING:
        text = f"annotators agree so rarely that a perfect model reaches {ceiling.share:.0%} on these labels"
        found.append(Finding("noisy-labels", path, f"{text} (95 % interval {ceiling.low:.0%} to {ceiling.high:.0%})"))
    return found, [share for share in (longer, first, agree, ceiling) if share is not None]


def check_classes(path: str, entries: Sequence[Entry], columns: Columns) -> tuple[list[Finding], list[Share]]:
    """Findings about labelled texts, and the share of texts that a simple classifier gets right out of sample."""
    counts = Counter(label for entry in entries for label in entry.labels)
    one_each = all(len(entry.labels) == 1 for entry in entries)
    found = [*_contradictions(path, entries), *_balance(path, counts, len(entries)), *_variants(path, counts)]
    found += rows_finding("label-in-text", path, _label_in_text(entries, counts, columns), len(entries))
    found += _length_tells(path, entries, counts)
    shares: list[Share] = []
    if one_each and len(counts) > 1:
        same = {_spelling(label): label for label, _ in reversed(counts.most_common())}
        given = [same[_spelling(entry.labels[0])] for entry in entries]
        wrong, right = label_errors([entry.answers[0] for entry in entries], given)
        spots = [Spot(entries[i].place, f"{entries[i].labels[0]!r}, probably {label!r}") for i, label in wrong]
        found += rows_finding("label-error", path, spots, len(entries))
        shares += [share] if (share := share_of("TF-IDF classifier is right", right)) else []
    return found, shares


def noise_ceiling(agree: Share | None, entries: Sequence[Entry]) -> Share | None:
    """The accuracy on single labels that a perfect model can reach; None: nobody judged anything twice.

    Two judgements of one pair agree with probability a = c² + (1 − c)², so c = ½ + ½ √(2a − 1). Exported preferences
    have the share of annotators on the better side instead, which is its own ceiling.
    """

    def solved(a: float) -> float:
        return 0.5 + 0.5 * max(0.0, 2 * a - 1) ** 0.5

    name = "noise ceiling"
    if agree is not None and agree.count >= ENOUGH:
        return Share(name, solved(agree.share), solved(agree.low), solved(agree.high), agree.count)
    shares = [a for entry in entries if (a := getattr(entry.record, "agreement", None)) is not None]
    if len(shares) < ENOUGH:
        return None
    mean, error = float(np.mean(shares)), float(np.std(shares) / len(shares) ** 0.5)
    return Share(name, mean, mean - 1.96 * error, mean + 1.96 * error, len(shares))


def label_errors(texts: Sequence[str], labels: Sequence[str]) -> tuple[list[tuple[int, str]], list[bool]]:
    """Confident learning: texts that a classifier, trained on other texts, confidently puts into another class.

        t_j = min(0.7, mean of p_i,j over texts i with label j)
        wrong  ⟺  argmax_j {p_i,j : p_i,j ≥ t_j} ≠ label of i

    Probabilities are out of sample: 5-fold cross-validation of a logistic regression on TF-IDF. Nothing is reported if
    that classifier is not clearly better than the majority, since its doubts then mean nothing.

    Source: Northcutt et al. 2021, JAIR 70, arXiv 1911.00068 (its confident joint, without the cap of 0.7: a mean
    leaves out half of the wrong labels if all texts are clear).

    Returns:
        wrong: (index, probable label), the largest difference of probabilities first.
        right: (N,) whether the classifier agrees with the label.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    counts = Counter(labels)
    kept = [index for index, label in enumerate(labels) if counts[label] >= _FOLDS]
    names = sorted({labels[index] for index in kept})
    if len(names) < 2:
        return [], []
    given = np.array([names.index(labels[index]) for index in kept])
    model = make_pipeline(
        TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\w+|[^\w\s]"),
        LogisticRegression(max_iter=1000, C=10.0, class_weight="balanced"),
    )
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
    found: NDArray[np.float64] = cross_val_predict(
        model, [texts[index] for index in kept], given, cv=folds, method="predict_proba"
    )
    right = found.argmax(axis=1) == given
    majority = max(Counter(given.tolist()).values()) / len(given)
    if wilson_interval(float(right.sum()), len(right))[0] <= majority:
        return [], right.tolist()
    limits = np.array([min(_SURE, found[given == j, j].mean()) for j in range(len(names))])
    confident = np.where(found >= limits, found, -1.0)
    probable = confident.argmax(axis=1)
    wrong = np.flatnonzero((confident.max(axis=1) >= 0) & (probable != given))
    gaps = found[wrong, probable[wrong]] - found[wrong, given[wrong]]
    return [(kept[index], names[probable[index]]) for index in wrong[np.argsort(-gaps)]], right.tolist()


def _contradictions(path: str, entries: Sequence[Entry]) -> list[Finding]:
    said: defaultdict[str, set[tuple[str, ...]]] = defaultdict(set)
    for entry in entries:
        if entry.judgement:
            said[entry.key].add(entry.judgement)
    spots = [
        Spot(entry.place, " and ".join(sorted(repr(" ".join(one)[:40]) for one in said[entry.key])))
        for entry in entries
        if entry.judgement and len(said[entry.key]) > 1
    ]
    return rows_finding("contradiction", path, spots, len(entries))


def _repeated(decided: Sequence[Entry]) -> list[bool]:
    """Per pair of rows that judge the same two answers, whether they agree; empty if all do: those may be copies."""
    seen: dict[str, tuple[str, ...]] = {}
    agree = []
    for entry in decided:
        if entry.key in seen:
            agree.append(seen.pop(entry.key) == entry.judgement)
        else:
            seen[entry.key] = entry.judgement
    return [] if all(agree) else agree


def _cycles(decided: Sequence[Entry]) -> list[Spot]:
    """Pairs on a cycle of three or more answers to one prompt: strongly connected components of "is better than"."""
    prompts: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in decided:
        prompts[entry.prompt_key].append(entry)
    spots = []
    for group in prompts.values():
        if len(group) < 3:
            continue
        answers = {text: n for n, text in enumerate(dict.fromkeys(text for entry in group for text in entry.answers))}
        rows, columns = np.array([[answers[text] for text in entry.answers] for entry in group]).T
        graph = coo_matrix((np.ones(len(group)), (rows, columns)), shape=(len(answers), len(answers)))
        part = dict(zip(answers, connected_components(graph, connection="strong")[1].tolist(), strict=True))
        sizes = Counter(part.values())
        for entry in group:
            better, worse = entry.answers
            if part[better] == part[worse] and sizes[part[better]] > 2:
                spots.append(Spot(entry.place, f"{better[:40]!r} over {worse[:40]!r}"))
    return spots


def _bias(kind: str, path: str, share: Share | None) -> list[Finding]:
    if share is None or share.count < ENOUGH:
        return []
    if share.low < 0.5 < share.high or 1 - BIASED < share.share < BIASED:
        return []
    interval = f"95 % interval {share.low:.0%} to {share.high:.0%}, {share.count:,} judgements"
    return [Finding(kind, path, f"the {share.name} in {share.share:.0%} ({interval})")]


def _balance(path: str, counts: Counter[str], texts: int) -> list[Finding]:
    if len(counts) < 2:
        return [Finding("single-label", path, f"its labels are {', '.join(counts) or 'all empty'}")] if texts else []
    found = []
    rare = [f"{label!r} {count}" for label, count in counts.items() if count < FEW]
    if rare:
        found.append(Finding("rare-label", path, f"labels with fewer than {FEW} texts: {', '.join(rare)}"))
    name, most = counts.most_common(1)[0]
    if most > MOST * texts:
        found.append(Finding("imbalance", path, f"{most / texts:.1%} of the texts are {name!r}"))
    return found


def _variants(path: str, counts: Counter[str]) -> list[Finding]:
    same: defaultdict[str, list[str]] = defaultdict(list)
    for label in counts:
        same[_spelling(label)].append(label)
    listed = [
        " = ".join(f"{label!r} ({counts[label]})" for label in names) for names in same.values() if len(names) > 1
    ]
    return (
        [Finding("label-variants", path, f"the same label in several spellings: {'; '.join(listed)}")] if listed else []
    )


def _spelling(label: str) -> str:
    return re.sub(r"[\s_-]+", " ", label).strip().casefold()


def _label_in_text(entries: Sequence[Entry], counts: Counter[str], columns: Columns) -> list[Spot]:
    """Texts that name their label as a field, such as `label: spam` or `[spam] …` or `… __label__spam`."""
    names = "|".join(re.escape(name) for name in dict.fromkeys(["label", "class", "category", *columns.labels]))
    if not counts:
        return []
    labels = "|".join(re.escape(label) for label in sorted(counts, key=len, reverse=True))
    pattern = re.compile(rf"(?:\b(?:{names})\s*[:=]\s*|__label__|^\s*[\[(<])({labels})\b", re.IGNORECASE)
    spots = []
    for entry in entries:
        found = pattern.search(entry.answers[0])
        if found and any(found.group(1).casefold() == label.casefold() for label in entry.labels):
            spots.append(Spot(entry.place, repr(found.group())))
    return spots


def _length_tells(path: str, entries: Sequence[Entry], counts: Counter[str]) -> list[Finding]:
    """A label that the length of a text alone tells from the others."""
    from sklearn.metrics import roc_auc_score

    lengths = [len(entry.answers[0]) for entry in entries]
    told = []
    for label, count in counts.items():
        if min(count, len(entries) - count) >= ENOUGH // 2:
            area = float(roc_auc_score([label in entry.labels for entry in entries], lengths))
            if max(area, 1 - area) > TOLD:
                told.append(
                    f"{label!r} has {'longer' if area > 0.5 else 'shorter'} texts (AUC {max(area, 1 - area):.2f})"
                )
    return [Finding("length-bias", path, f"the length tells the label: {'; '.join(told)}")] if told else []
