"""Majority vote: every vote counts the same."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from voxpop.consolidation.jit import kernel
from voxpop.consolidation.votes.result import VoteResult
from voxpop.consolidation.votes.state import VoteState
from voxpop.consolidation.votes.ties import choose_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxpop.consolidation.votes.table import Votes

__all__ = ["Majority", "MajorityState"]


@dataclasses.dataclass(frozen=True)
class Majority:
    """The class with the most votes; ties are broken by the seed and the names of item and class.

    The posterior is the share of votes: 3 of 4 votes give .75, a single vote gives 1; a worker with a weight has as
    many votes. It is no calibrated probability, which ``voxpop.consolidation.calibration`` shows on gold. An item
    without votes has equal shares, a gold item its gold class. A worker's quality is the share of their votes that
    agree with the labels, their own included.

    Attributes:
        seed: breaks ties.
    """

    seed: int = 0

    @property
    def name(self) -> str:
        """The registry's name."""
        return "majority"

    def fit(self, annotations: Votes) -> VoteResult:
        """Label all items."""
        votes = annotations
        posterior = np.zeros((votes.n_items, votes.n_classes))
        weight = np.ones(votes.n_workers) if votes.worker_weight is None else votes.worker_weight
        _shares(votes.indptr, votes.codes, votes.gold, weight, posterior)
        labels = choose_labels(posterior, votes.items, votes.classes, self.seed)
        agreed = votes.label_of_vote == labels[votes.item_of_vote]
        workers = votes.worker_of_vote
        given = np.bincount(workers, minlength=votes.n_workers)
        right = np.bincount(workers, weights=agreed, minlength=votes.n_workers)
        with np.errstate(invalid="ignore"):
            quality = right / given
        return VoteResult(
            items=votes.items,
            classes=votes.classes,
            workers=votes.workers,
            label_codes=labels,
            posterior=posterior,
            worker_quality=quality,
        )

    def state(self) -> MajorityState:
        """Start an empty stream."""
        return MajorityState(self)


class MajorityState(VoteState[Majority]):
    """The stream of ``Majority``: always equal to the batch."""

    method_type = Majority


@kernel
def _shares(
    indptr: NDArray[np.int64],
    codes: NDArray[np.uint32],
    gold: NDArray[np.int32],
    weight: NDArray[np.float64],
    posterior: NDArray[np.float64],
) -> None:
    n_items, K = posterior.shape
    for i in range(n_items):
        first, last = indptr[i], indptr[i + 1]
        if gold[i] >= 0:
            posterior[i, gold[i]] = 1.0
        else:
            total = 0.0
            for j in range(first, last):
                w = weight[codes[j] // np.uint32(K)]
                posterior[i, codes[j] % np.uint32(K)] += w
                total += w
            for k in range(K):
                posterior[i, k] = posterior[i, k] / total if total > 0.0 else 1.0 / K
