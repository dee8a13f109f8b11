"""STAPLE: how good each rater is and where the foreground is, learned together (Warfield, Zou and Wells, 2004).

What is learned depends on the patterns of answers only, so it is worked out on them, exactly: the cost of an iteration
does not depend on the size of the image. Label images have ``multilabel.py``.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from voxpop.consolidation.jit import kernel
from voxpop.consolidation.masks.result import Decision, MaskResult
from voxpop.consolidation.masks.state import MaskState
from voxpop.consolidation.masks.vote import BinaryTies, check_binary, need_form

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxpop.consolidation.masks.patterns import Patterns
    from voxpop.consolidation.masks.table import Masks

__all__ = ["MaskStaple", "MaskStapleState", "binary_decision", "check_iterations"]

_TOLERANCE: Final = 1e-9  # a probability this close to the threshold is at it: sums in another order must not decide
_FACTORS_BEFORE_RESCALE: Final = 8


@dataclasses.dataclass(frozen=True)
class MaskStaple:
    """Expectation-maximisation over raters with a sensitivity and a specificity each; masks dense or as run lengths.

    The probability of foreground (W) is the posterior under what was learned. The prior of an item is its mean share of
    foreground among the raters, the start of W the share of the raters at each pixel. With the defaults W equals that
    of SimpleITK's STAPLE within 1e-9, except where SimpleITK divides 0 by 0 (no foreground at all, or raters without a
    fault who contradict each other): there W stays as it was before. The quality of an answer is the mean of its
    sensitivity and its specificity, as far as there are both.

    A large image makes W very sure of itself: neighbouring pixels count as independent evidence.

    Attributes:
        threshold: foreground is where W is above it.
        ties: what a pixel becomes whose W is at the threshold.
        confidence_weight: the prior is multiplied by it (SimpleITK's parameter).
        tolerance: it stops when no sensitivity and no specificity changes by more.
        max_iter: it stops after so many iterations.
        pooled: learn one sensitivity and specificity a worker from all items together, instead of one an answer:
            better with small masks, and with workers who stay as they are.
    """

    merges: ClassVar[str] = "masks"

    threshold: float = 0.5
    ties: BinaryTies = "background"
    confidence_weight: float = 1.0
    tolerance: float = 1e-7
    max_iter: int = 1000
    pooled: bool = False

    def __post_init__(self) -> None:
        check_binary(self.threshold, self.ties)
        check_iterations(self.tolerance, self.max_iter)
        if not self.confidence_weight > 0:
            raise ValueError(f"confidence_weight is {self.confidence_weight!r}; expected a number above 0")

    @property
    def name(self) -> str:
        """The registry's name."""
        return "mask_staple"

    def fit(self, annotations: Masks) -> MaskResult:
        """Merge the masks of each item.

        Raises:
            MaskError: the masks are label images.
        """
        masks = annotations
        need_form(masks, self.name, "dense", "runs")
        patterns = [masks.patterns(item) for item in range(masks.n_items)]
        sensitivity, specificity = np.full((2, masks.n_answers), np.nan)
        n_iter = np.zeros(masks.n_items, np.int64)
        weights: list[NDArray[np.float64]] = []
        if self.pooled:
            learned, weights, rounds = self._learn(patterns, masks.worker, masks.n_workers)
            sensitivity[:], specificity[:] = learned[:, masks.worker]
            n_iter[:] = rounds
        else:
            for item, seen in enumerate(patterns):
                answers = masks.answers(item)
                learned, (weight,), n_iter[item] = self._learn([seen], np.arange(len(answers)), len(answers))
                sensitivity[answers.start : answers.stop], specificity[answers.start : answers.stop] = learned
                weights.append(weight)
        decisions = [
            binary_decision(seen, weight, self.threshold, self.ties)
            for seen, weight in zip(patterns, weights, strict=True)
        ]
        return MaskResult(
            masks=masks,
            decisions=decisions.__getitem__,
            answer_quality=np.where(
                np.isnan(sensitivity),
                specificity,
                np.where(np.isnan(specificity), sensitivity, (sensitivity + specificity) / 2),
            ),
            sensitivity=sensitivity,
            specificity=specificity,
            n_iter=n_iter,
        )

    def state(self) -> MaskStapleState:
        """Start an empty stream."""
        return MaskStapleState(self)

    def _learn(
        self, patterns: list[Patterns], rater: NDArray[np.int64], n_raters: int
    ) -> tuple[NDArray[np.float64], list[NDArray[np.float64]], int]:
        """Return sensitivity and specificity of each rater, W of each item's patterns, and the number of iterations.

        ``rater`` names who gave each answer of the items, one after the other.
        """
        sizes = [seen.counts.size for seen in patterns]
        first_pattern = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        first_answer = np.concatenate([[0], np.cumsum([seen.votes.shape[1] for seen in patterns])]).astype(np.int64)
        votes = np.concatenate([seen.votes.reshape(-1) for seen in patterns])
        counts = np.concatenate([seen.counts for seen in patterns]).astype(np.float64)
        W = np.concatenate([seen.votes.mean(axis=1) for seen in patterns])
        learned = np.full((2, n_raters), np.nan)
        rounds = _staple(
            votes,
            counts,
            first_pattern,
            first_answer,
            rater,
            self.confidence_weight,
            self.tolerance,
            self.max_iter,
            W,
            learned,
        )
        return learned, np.split(W, first_pattern[1:-1]), rounds


class MaskStapleState(MaskState):
    """The stream of ``MaskStaple``: always equal to the batch."""

    method_type = MaskStaple


def binary_decision(patterns: Patterns, weight: NDArray[np.float64], threshold: float, ties: BinaryTies) -> Decision:
    """Return the decision from the probability that each pattern is foreground."""
    least = threshold + (-_TOLERANCE if ties == "foreground" else _TOLERANCE)
    labels = (weight >= least if ties == "foreground" else weight > least).astype(np.uint8)
    return Decision(patterns, labels, np.stack([1 - weight, weight], axis=1))


def check_iterations(tolerance: float, max_iter: int) -> None:
    """Refuse parameters of an iteration with a ValueError."""
    if not tolerance >= 0:
        raise ValueError(f"tolerance is {tolerance!r}; expected 0 or more")
    if max_iter < 1:
        raise ValueError(f"max_iter is {max_iter!r}; expected at least 1")


@kernel
def _staple(
    votes: NDArray[np.uint8],
    counts: NDArray[np.float64],
    first_pattern: NDArray[np.int64],
    first_answer: NDArray[np.int64],
    rater: NDArray[np.int64],
    confidence_weight: float,
    tolerance: float,
    max_iter: int,
    W: NDArray[np.float64],
    learned: NDArray[np.float64],
) -> int:
    """Improve ``W``, one number a pattern, and ``learned``, sensitivities and specificities, in turns.

    ``votes`` holds the (patterns, raters) of each item, one after the other.
    """
    n_items, n_raters = first_pattern.size - 1, learned.shape[1]
    prior = np.empty(n_items)
    for i in range(n_items):
        pixels = inside = 0.0
        for s in range(first_pattern[i], first_pattern[i + 1]):
            pixels += counts[s]
            inside += counts[s] * W[s]
        prior[i] = inside / pixels * confidence_weight
    hits = np.empty((2, n_raters))
    chances = np.empty((2, n_raters))
    before = np.empty((2, n_raters))
    for iteration in range(max_iter):
        hits[:] = 0.0
        chances[:] = 0.0
        at = 0
        for i in range(n_items):
            first, R = first_answer[i], first_answer[i + 1] - first_answer[i]
            for s in range(first_pattern[i], first_pattern[i + 1]):
                inside = counts[s] * W[s]
                outside = counts[s] * (1.0 - W[s])
                for r in range(R):
                    who = rater[first + r]
                    said = votes[at + r]
                    chances[0, who] += inside
                    chances[1, who] += outside
                    hits[0, who] += inside * said
                    hits[1, who] += outside * (1 - said)
                at += R
        before[:] = learned
        for part in range(2):
            for r in range(n_raters):
                learned[part, r] = hits[part, r] / chances[part, r] if chances[part, r] > 0.0 else np.nan
        at = 0
        for i in range(n_items):
            first, R = first_answer[i], first_answer[i + 1] - first_answer[i]
            for s in range(first_pattern[i], first_pattern[i + 1]):
                W[s] = _posterior(votes, at, R, rater, first, learned, prior[i], W[s])
                at += R
        settled = iteration > 0
        for part in range(2):
            for r in range(n_raters):
                settled = settled and not abs(learned[part, r] - before[part, r]) > tolerance
        if settled:
            return iteration + 1
    return max_iter


@kernel
def _posterior(
    votes: NDArray[np.uint8],
    at: int,
    n_raters: int,
    rater: NDArray[np.int64],
    first: int,
    learned: NDArray[np.float64],
    prior: float,
    before: float,
) -> float:
    """Return the probability of foreground of a pattern; ``before`` where nothing can be said."""
    inside, outside = prior, 1.0 - prior
    for r in range(n_raters):
        sensitivity, specificity = learned[0, rater[first + r]], learned[1, rater[first + r]]
        if votes[at + r]:
            inside *= sensitivity
            outside *= 1.0 - specificity
        else:
            inside *= 1.0 - sensitivity
            outside *= specificity
        if r % _FACTORS_BEFORE_RESCALE == _FACTORS_BEFORE_RESCALE - 1:
            largest = max(inside, outside)
            if largest > 0.0:
                inside /= largest
                outside /= largest
    total = inside + outside
    return inside / total if total > 0.0 else before
