"""From posteriors to labels: the most probable class, ties broken by a seed and by names, never by memory order."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["choose_labels", "mix", "name_keys"]

# Classes this close to the best one (relatively) are tied: sums in another order must not decide.
_TIE_TOLERANCE: Final = 1e-9


def choose_labels(posterior: NDArray[Any], items: NDArray[Any], classes: NDArray[Any], seed: int) -> NDArray[np.int64]:
    """Return the place of the most probable class of each item, int64, shape (n_items,).

    Among tied classes the one with the highest hash of (seed, item name, class name) wins, so a tie is broken alike
    in any order of votes, items, workers and classes, on any machine, in a batch and in a stream.

    Args:
        posterior: probabilities, shape (n_items, K).
        items: names of the items, shape (n_items,).
        classes: names of the classes, shape (K,).
        seed: any whole number.
    """
    if posterior.shape[0] == 0:
        return np.zeros(0, np.int64)
    labels: NDArray[np.int64] = posterior.argmax(axis=1).astype(np.int64)
    best = posterior[np.arange(labels.size), labels]
    tied = posterior >= (best * (1 - _TIE_TOLERANCE))[:, None]
    rows = np.flatnonzero(tied.sum(axis=1) > 1)
    if rows.size:
        item_keys = mix(name_keys(items[rows]) + np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64))
        scores = mix(item_keys[:, None] ^ mix(name_keys(classes))[None, :])
        # 0 stands for "not tied": no tied class may have it.
        scores = np.where(tied[rows], scores | np.uint64(1), np.uint64(0))
        labels[rows] = scores.argmax(axis=1)
    return labels


def name_keys(names: NDArray[Any]) -> NDArray[np.uint64]:
    """Return a number for each name that depends on nothing but the name."""
    return np.fromiter(
        (zlib.crc32(str(name).encode("utf-8", "surrogatepass")) for name in names.tolist()),
        dtype=np.uint64,
        count=names.size,
    )


def mix(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return splitmix64 of each key (Steele, Lea and Flood, 2014)."""
    keys = keys + np.uint64(0x9E3779B97F4A7C15)
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = keys ^ (keys >> np.uint64(31))
    return mixed
