"""The modified Dawid-Skene of Amazon SageMaker Ground Truth, so that a pipeline that moves here keeps its labels.

The arithmetic is restated from the published notebook "Understanding Annotation Consolidation" (in
aws/amazon-sagemaker-examples, ``ground_truth_labeling_jobs/annotation_consolidation``), and checked against what the
service itself wrote about 302 images (``tests/data/ground_truth/birds``). For labels that need not agree with the
service, take ``DawidSkene``.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Final

import numpy as np

from voxpop.consolidation.votes.columns import VotesError
from voxpop.consolidation.votes.e_step import Counts, expect
from voxpop.consolidation.votes.learning import LearningState
from voxpop.consolidation.votes.result import Learned, VoteResult
from voxpop.consolidation.votes.ties import choose_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxpop.consolidation.votes.table import Votes

__all__ = ["GroundTruth", "GroundTruthState"]

_FIRST_ACCURACY: Final = 0.7  # of every worker, before anything is known
_POOLED_SHARE: Final = 0.5  # what the average worker counts beside a worker's own accuracy
_MAX_CELLS: Final = 2**28  # of the confusion matrices, 24 bytes each


@dataclasses.dataclass(frozen=True)
class GroundTruth:
    """Dawid-Skene with a prior made of each worker's own accuracy and everybody's, and confidences of at most ``cap``.

    Every worker starts with 70% on the diagonal, every item with equal shares. A round multiplies the mean posterior of
    all items by the columns of the workers' matrices, then counts, for each worker, posteriors by answer, to which it
    adds two matrices with constant diagonal and constant rest: one with this worker's accuracy, worth as many answers
    as they gave, and one with the mean accuracy of all workers as of the round before, worth half as many.

    The posterior is that of the last round with the label's share cut to ``cap`` and the rest raised in proportion;
    gold items stay certain. The service writes it with two decimals. A worker's quality is the probability that they
    are right about an item of unknown class, under the ``confusion`` and ``class_prior`` that gave the posterior. The
    objective, the log likelihood of the votes under them, may fall, since the prior changes with each round. Items
    without votes get the class prior.

    The published program says at most 20 rounds, until the log likelihood changes by less than 1e-8 of itself, but it
    compares the signed change of a negative number, so a second round that is better than the first is the last. The
    service's own confidences say the same: they are nearer to those of two rounds than of twenty.

    Attributes:
        max_iter: the rounds (E-steps); at least 1.
        cap: the highest confidence, above .5 and up to 1, which is no cap.
        seed: breaks ties.
        refit_growth: a stream fits anew when its votes have grown by this factor since the last fit.
    """

    max_iter: int = 2
    cap: float = 0.95
    seed: int = 0
    refit_growth: float = 1.25

    def __post_init__(self) -> None:
        checks = (
            ("max_iter", self.max_iter >= 1, "at least 1"),
            ("cap", 0.5 < self.cap <= 1, "above .5 and at most 1"),
            ("refit_growth", self.refit_growth >= 1, "at least 1"),
        )
        for name, good, expected in checks:
            if not good:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected {expected}")

    @property
    def name(self) -> str:
        """The registry's name."""
        return "ground_truth"

    def fit(self, annotations: Votes) -> VoteResult:
        """Label all items and learn all workers.

        Raises:
            VotesError: the confusion matrices would not fit in memory.
        """
        votes = annotations
        W, K = votes.n_workers, votes.n_classes
        if W * K * K > _MAX_CELLS:
            raise VotesError(
                f"confusion matrices of {W} workers x {K} x {K} classes need {W * K * K * 24 / 1e9:.0f} GB; "
                "use a method with fewer parameters a worker, such as majority"
            )
        counts = Counts(votes)
        accuracy = _FIRST_ACCURACY
        confusion = np.broadcast_to(_constant(np.array(accuracy), K), (W, K, K))
        class_prior = _shares(counts.of_classes(_first_posterior(votes)))
        objective: list[float] = []
        while True:
            posterior, value = expect(votes, confusion, class_prior, counts)
            objective.append(math.fsum(value))
            if len(objective) == self.max_iter:
                break
            class_prior = _shares(counts.of_classes(posterior))
            confusion, accuracy = _maximised(counts.of_workers(), accuracy)
        learned = Learned(
            {"confusion": np.ascontiguousarray(confusion)},
            {"class_prior": class_prior, "objective": np.array(objective)},
        )
        return self._result(votes, posterior, learned)

    def state(self) -> GroundTruthState:
        """Start an empty stream."""
        return GroundTruthState(self)

    def label(self, votes: Votes, learned: Learned) -> VoteResult:
        """Return the E-step under the matrices and the class prior that were learned before."""
        posterior, _ = expect(votes, learned.workers["confusion"], learned.shared["class_prior"], None)
        return self._result(votes, posterior, learned)

    def _result(self, votes: Votes, posterior: NDArray[np.float64], learned: Learned) -> VoteResult:
        confusion, class_prior = learned.workers["confusion"], learned.shared["class_prior"]
        objective = learned.shared["objective"]
        capped = _capped(posterior, self.cap)
        capped[votes.gold >= 0] = posterior[votes.gold >= 0]
        return VoteResult(
            items=votes.items,
            classes=votes.classes,
            workers=votes.workers,
            label_codes=choose_labels(capped, votes.items, votes.classes, self.seed),
            posterior=capped,
            worker_quality=np.einsum("k,wkk->w", class_prior, confusion),
            confusion=confusion,
            class_prior=class_prior,
            objective=objective,
            n_iter=objective.size,
            learned=learned,
        )


class GroundTruthState(LearningState[GroundTruth]):
    """The stream of ``GroundTruth``: an E-step under the workers' matrices as of the last fit."""

    method_type = GroundTruth


def _maximised(counted: NDArray[np.float64], accuracy: float) -> tuple[NDArray[np.float64], float]:
    """Return the workers' matrices, shape (W, K, K), and their mean accuracy.

    Args:
        counted: answers by true class, of each worker, shape (W, K, K).
        accuracy: the mean accuracy of the round before.
    """
    K = counted.shape[1]
    given = counted.sum(axis=(1, 2))
    known = given > 0
    right = np.divide(np.einsum("wkk->w", counted), given, out=np.full(given.size, accuracy), where=known)
    given[~known] = 1.0  # of whom nothing is known is the average worker
    own, everybody = _constant(right, K), _constant(np.array(accuracy), K)
    total = counted + given[:, None, None] * (own + _POOLED_SHARE * everybody)
    mean = math.fsum(right[known]) / int(known.sum()) if known.any() else accuracy
    return total / total.sum(axis=2, keepdims=True), mean


def _shares(mass: NDArray[np.float64]) -> NDArray[np.float64]:
    return mass / mass.sum() if mass.sum() > 0 else np.full(mass.size, 1 / mass.size)


def _first_posterior(votes: Votes) -> NDArray[np.float64]:
    K = votes.n_classes
    posterior = np.full((votes.n_items, K), 1 / K)
    judged = np.flatnonzero(votes.gold >= 0)
    posterior[judged] = np.arange(K) == votes.gold[judged, None]
    return posterior


def _constant(accuracy: NDArray[np.float64], n_classes: int) -> NDArray[np.float64]:
    """Return matrices with these diagonals and rows that sum to 1, shape (..., K, K)."""
    K = n_classes
    if K == 1:
        return np.ones((*accuracy.shape, 1, 1))
    wrong = (1 - accuracy) / (K - 1)
    return np.where(np.eye(K, dtype=bool), accuracy[..., None, None], wrong[..., None, None])


def _capped(posterior: NDArray[np.float64], cap: float) -> NDArray[np.float64]:
    """Return rows whose highest entry is at most ``cap``; what is cut goes to the others in proportion."""
    K = posterior.shape[1]
    capped = posterior.copy()
    if K == 1:
        return capped
    best = posterior.max(axis=1, initial=0.0)
    over = np.flatnonzero(best > cap)
    top = posterior[over].argmax(axis=1)
    rest = posterior[over]
    rest[np.arange(over.size), top] = 0.0
    mass = rest.sum(axis=1, keepdims=True)
    even = np.full((over.size, K), 1 / (K - 1))
    even[np.arange(over.size), top] = 0.0
    rest = (1 - cap) * np.divide(rest, mass, out=even, where=mass > 0)
    rest[np.arange(over.size), top] = cap
    capped[over] = rest
    return capped
