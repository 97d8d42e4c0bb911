"""Groups of texts that are the same or nearly the same. Knows no record and no model.

Texts are compared by their sets of character 5-grams, after lower-casing, joining whitespace and replacing each digit
by 0. MinHash with locality-sensitive hashing proposes the pairs (Broder 1997; Leskovec et al., Mining of Massive
Datasets, chapter 3), and their exact Jaccard similarity decides. Shapes: N = texts, S = shingles of a text.
"""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

SIMILAR = 0.8
"""Jaccard similarity from which two texts are near duplicates."""
_WIDTH = 5
_BANDS, _ROWS = 16, 4
"""A pair with similarity s is proposed with probability 1 − (1 − s⁴)¹⁶: 0.9998 at 0.8, 0.09 at 0.28."""
_RANDOM = np.random.default_rng(0)
_POWERS = _RANDOM.integers(1, 2**63, _WIDTH, dtype=np.uint64) | np.uint64(1)
_FACTORS = _RANDOM.integers(1, 2**63, (_BANDS * _ROWS, 1), dtype=np.uint64) | np.uint64(1)
_OFFSETS = _RANDOM.integers(0, 2**63, (_BANDS * _ROWS, 1), dtype=np.uint64)


def near_duplicates(texts: Sequence[str]) -> list[int]:
    """(N,) number of each text's group; near duplicates, and chains of them, share a group."""
    shingles = [_shingles(text) for text in texts]
    first: dict[tuple[int, bytes], int] = {}
    pairs: set[tuple[int, int]] = set()
    for index, own in enumerate(shingles):
        signature = _signature(own)
        for band in range(_BANDS):
            key = band, signature[band * _ROWS : (band + 1) * _ROWS].tobytes()
            other = first.setdefault(key, index)
            if other != index:
                pairs.add((other, index))
    alike = np.array([pair for pair in pairs if _jaccard(shingles[pair[0]], shingles[pair[1]]) >= SIMILAR])
    rows, columns = alike.reshape(-1, 2).T.astype(np.int64)
    graph = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(texts), len(texts)))
    return connected_components(graph, directed=False)[1].tolist()


def _shingles(text: str) -> NDArray[np.uint64]:
    """(S,) distinct hashes of a text's 5-grams, sorted; a shorter text is one shingle."""
    normal = re.sub(r"\s+", " ", re.sub(r"\d", "0", text.casefold())).strip().ljust(_WIDTH)
    codes = np.frombuffer(normal.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    windows = np.lib.stride_tricks.sliding_window_view(codes, _WIDTH)
    return np.unique((windows * _POWERS).sum(axis=1, dtype=np.uint64))


def _signature(shingles: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """(bands · rows,) the smallest value of each hash function over the shingles."""
    mixed = shingles ^ (shingles >> np.uint64(31))
    return ((mixed * _FACTORS + _OFFSETS) >> np.uint64(20)).min(axis=1)


def _jaccard(left: NDArray[np.uint64], right: NDArray[np.uint64]) -> float:
    shared = len(np.intersect1d(left, right, assume_unique=True))
    return shared / (len(left) + len(right) - shared)
