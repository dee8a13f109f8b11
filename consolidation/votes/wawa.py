"""Wawa: a majority vote weighted by each worker's agreement with the majority.

Two steps that other methods share stand here too: the weighted vote and the count of agreements. Votes weighted by
log odds are in ``weighted_majority.py``.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from voxpop.consolidation.jit import kernel
from voxpop.consolidation.votes.learning import LearningState
from voxpop.consolidation.votes.result import Learned, VoteResult
from voxpop.consolidation.votes.ties import choose_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxpop.consolidation.votes.table import Votes

__all__ = ["Wawa", "WawaState", "agreement", "share_right", "weighted_shares"]


@dataclasses.dataclass(frozen=True)
class Wawa:
    """Worker agreement with aggregate: three steps, no iteration. Known from the crowd-kit library.

    1. Label all items by majority.
    2. A worker's skill is the share of their votes that agree with those labels.
    3. Label all items again; a vote weighs as much as its worker's skill.

    Gold items have their gold class in step 1, so they teach with certainty. History is counted as votes that agreed
    or did not. An item's weight says how often its votes are counted in step 2, a worker's weight how many votes each
    of theirs is worth in every step. Workers of whom nothing is known have the mean skill of the others.

    The posterior is the share of skill-weighted votes, no calibrated probability; an item without votes, or whose
    voters never agreed with anybody, has equal shares, a gold item its gold class. A worker's quality is their skill.
    Their own votes are part of the majority, so it is too high on items with few votes: ``WeightedMajority`` leaves
    them out.

    Attributes:
        seed: breaks ties, in the majority and in the labels.
        refit_growth: a stream fits anew when its votes have grown by this factor since the last fit.
    """

    seed: int = 0
    refit_growth: float = 1.25

    def __post_init__(self) -> None:
        if not self.refit_growth >= 1:
            raise ValueError(f"refit_growth is {self.refit_growth!r}; expected at least 1")

    @property
    def name(self) -> str:
        """The registry's name."""
        return "wawa"

    def fit(self, annotations: Votes) -> VoteResult:
        """Label all items and learn all workers."""
        votes = annotations
        majority = weighted_shares(votes, np.ones(votes.n_workers))
        right, total = agreement(votes, choose_labels(majority, votes.items, votes.classes, self.seed))
        return self.label(votes, Learned({"skill": share_right(right, total)}, {}))

    def label(self, votes: Votes, learned: Learned) -> VoteResult:
        """Return the vote weighted by skills that were learned before."""
        skill = learned.workers["skill"]
        posterior = weighted_shares(votes, skill)
        return VoteResult(
            items=votes.items,
            classes=votes.classes,
            workers=votes.workers,
            label_codes=choose_labels(posterior, votes.items, votes.classes, self.seed),
            posterior=posterior,
            worker_quality=skill,
            learned=learned,
        )

    def state(self) -> WawaState:
        """Start an empty stream."""
        return WawaState(self)


class WawaState(LearningState[Wawa]):
    """The stream of ``Wawa``: the vote weighted by the workers' skills as of the last fit."""

    method_type = Wawa


def weighted_shares(votes: Votes, skill: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each class's share of the votes, shape (n_items, K).

    A gold item is its gold class; an item whose votes weigh nothing has equal shares.

    Args:
        votes: the votes; a vote weighs the skill times the weight of its worker.
        skill: 0 or more, shape (n_workers,).
    """
    weight = skill if votes.worker_weight is None else skill * votes.worker_weight
    shares = np.zeros((votes.n_items, votes.n_classes))
    _shares(votes.indptr, votes.codes, votes.gold, weight, shares)
    return shares


def agreement(votes: Votes, labels: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how many votes of each worker agree with the labels, and how many they gave, both of shape (n_workers,).

    Votes count by the weights of item and worker; history is counted as votes on items of known class.

    Args:
        votes: the votes.
        labels: a class for each item, int64, shape (n_items,); votes on items with -1 are not counted.
    """
    item_weight = np.ones(votes.n_items) if votes.item_weight is None else votes.item_weight
    right, total = np.zeros(votes.n_workers), np.zeros(votes.n_workers)
    _agreement(votes.indptr, votes.codes, votes.n_classes, labels, item_weight, right, total)
    if votes.worker_weight is not None:
        right, total = right * votes.worker_weight, total * votes.worker_weight
    if votes.history is not None:
        right = right + np.trace(votes.history, axis1=1, axis2=2)
        total = total + votes.history.sum(axis=(1, 2))
    return right, total


def share_right(right: NDArray[np.float64], total: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``right / total``; where the total is 0 the mean of the others, and 1 if there are no others."""
    known = total > 0
    share = np.divide(right, total, out=np.ones_like(right), where=known)
    if known.any():
        share[~known] = share[known].mean()
    return share


@kernel
def _shares(
    indptr: NDArray[np.int64],
    codes: NDArray[np.uint32],
    gold: NDArray[np.int32],
    weight: NDArray[np.float64],
    shares: NDArray[np.float64],
) -> None:
    n_items, K = shares.shape
    for i in range(n_items):
        if gold[i] >= 0:
            shares[i, gold[i]] = 1.0
            continue
        total = 0.0
        for j in range(indptr[i], indptr[i + 1]):
            w = codes[j] // np.uint32(K)
            shares[i, codes[j] - w * np.uint32(K)] += weight[w]
            total += weight[w]
        for k in range(K):
            shares[i, k] = min(shares[i, k] / total, 1.0) if total > 0.0 else 1.0 / K


@kernel
def _agreement(
    indptr: NDArray[np.int64],
    codes: NDArray[np.uint32],
    n_classes: int,
    labels: NDArray[np.int64],
    item_weight: NDArray[np.float64],
    right: NDArray[np.float64],
    total: NDArray[np.float64],
) -> None:
    K = np.uint32(n_classes)
    for i in range(labels.size):
        if labels[i] < 0:
            continue
        for j in range(indptr[i], indptr[i + 1]):
            w = codes[j] // K
            total[w] += item_weight[i]
            if np.int64(codes[j] - w * K) == labels[i]:
                right[w] += item_weight[i]
