"""What a trained classifier has to beat without a language model: the majority, and TF-IDF with logistic regression."""

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline

from workbench.evaluate.classification import Flags
from workbench.evaluate.statistics import Floats


def majority(truth: Flags, texts: int) -> Floats:
    """(texts, K) the share of each label in the training texts, for every text.

    Args:
        truth: (N, K) labels of the training texts.
        texts: number of rows.
    """
    return np.tile(truth.mean(axis=0), (texts, 1))


def tfidf_logistic(train: Sequence[str], truth: Flags, texts: Sequence[str], *, multi_label: bool) -> Floats:
    """(texts, K) probabilities of a logistic regression (C = 10) on TF-IDF of words and word pairs.

    Args:
        train: (N,) training texts.
        truth: (N, K) their labels; every label occurs.
        texts: to classify.
        multi_label: one regression per label instead of a multinomial one.
    """
    features = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\w+|[^\w\s]")
    regression = LogisticRegression(max_iter=1000, C=10.0)
    if not multi_label:
        model = make_pipeline(features, regression).fit(train, truth.argmax(axis=1))
        return np.asarray(model.predict_proba(texts), dtype=np.float64)
    model = make_pipeline(features, OneVsRestClassifier(regression)).fit(train, truth.astype(int))
    found = np.asarray(model.predict_proba(texts), dtype=np.float64)
    return found
