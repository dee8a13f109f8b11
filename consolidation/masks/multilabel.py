"""STAPLE for label images: a confusion matrix a rater, learned together with the classes of the pixels.

The method is that of Rohlfing, Russakoff and Maurer (2004), as ITK has it; it works on distinct patterns of answers.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from voxpop.consolidation.jit import kernel
from voxpop.consolidation.masks.result import Decision, MaskResult
from voxpop.consolidation.masks.staple import check_iterations
from voxpop.consolidation.masks.state import MaskState
from voxpop.consolidation.masks.vote import need_form, preferences

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxpop.consolidation.masks.patterns import Patterns
    from voxpop.consolidation.masks.table import Masks

__all__ = ["MaskMultilabelStaple", "MaskMultilabelStapleState"]

_TOLERANCE: Final = 1e-9  # probabilities this close are tied
_SMALLEST: Final = 1e-200  # below, products are brought up before they vanish


@dataclasses.dataclass(frozen=True)
class MaskMultilabelStaple:
    """Expectation-maximisation over raters with a confusion matrix each.

    The prior of a class is its share of all raters' pixels; the matrices start from the plurality of each pixel, where
    a tie counts for each of its classes in equal parts. Ties of the result are broken as ``mask_plurality`` does. A
    pixel to which no class gives any chance keeps the shares of its raters. The quality of an answer is its expected
    share of right pixels.

    SimpleITK's MultiLabelSTAPLE counts ties of that first plurality in wrong places of the matrices (the label for
    undecided pixels is used as an index, and runs into the next row), and leaves pixels undecided whose two best
    classes are equal. ``simpleitk=True`` does the same, with K for undecided, for the same labels: they are its labels
    if the last class occurs.

    Attributes:
        tolerance: it stops when no entry of a matrix changes by more.
        max_iter: it stops after so many iterations.
        simpleitk: do as SimpleITK does.
        seed: breaks ties.
    """

    merges: ClassVar[str] = "masks"

    tolerance: float = 1e-5
    max_iter: int = 1000
    simpleitk: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_iterations(self.tolerance, self.max_iter)

    @property
    def name(self) -> str:
        """The registry's name."""
        return "mask_multilabel_staple"

    def fit(self, annotations: Masks) -> MaskResult:
        """Merge the label images of each item.

        Raises:
            MaskError: the masks are binary.
        """
        masks = annotations
        need_form(masks, self.name, "labels")
        K = masks.classes.size
        order = preferences(masks, self.seed)
        confusion = np.empty((masks.n_answers, K, K))
        quality = np.empty(masks.n_answers)
        n_iter = np.zeros(masks.n_items, np.int64)
        decisions = []
        for item in range(masks.n_items):
            answers = masks.answers(item)
            matrices, decision, n_iter[item] = self._learn(masks.patterns(item), K, order[item])
            decisions.append(decision)
            share = decision.patterns.counts @ decision.posterior / decision.patterns.counts.sum()
            confusion[answers.start : answers.stop] = matrices
            quality[answers.start : answers.stop] = np.einsum("rkk,k->r", matrices, share)
        return MaskResult(
            masks=masks,
            decisions=decisions.__getitem__,
            answer_quality=quality,
            confusion=confusion,
            n_iter=n_iter,
        )

    def state(self) -> MaskMultilabelStapleState:
        """Start an empty stream."""
        return MaskMultilabelStapleState(self)

    def _learn(self, patterns: Patterns, K: int, order: NDArray[np.int64]) -> tuple[NDArray[np.float64], Decision, int]:
        """Return the confusion matrices of an item's answers, what was decided, and the number of iterations."""
        votes, counts = patterns.votes, patterns.counts.astype(np.float64)
        n_patterns, R = votes.shape
        voted = np.zeros((n_patterns, K))
        prior = np.zeros(K)
        answered = np.zeros((R, K + 1, K))
        _begin(votes, counts, self.simpleitk, voted, prior, answered)
        posterior = np.empty((n_patterns, K))
        rounds = _learn(votes, counts, prior, self.tolerance, self.max_iter, answered, posterior)
        mass = posterior.sum(axis=1, keepdims=True)
        shares = np.where(mass > 0, posterior / np.where(mass > 0, mass, 1), voted / R)
        if self.simpleitk:
            labels = _only_maximum(posterior)
        else:
            tied = shares >= shares.max(axis=1, keepdims=True) - _TOLERANCE
            labels = order[tied[:, order].argmax(axis=1)]
        posterior = shares
        return answered[:, :K].transpose(0, 2, 1), Decision(patterns, labels.astype(np.uint8), posterior), rounds


class MaskMultilabelStapleState(MaskState):
    """The stream of ``MaskMultilabelStaple``: always equal to the batch."""

    method_type = MaskMultilabelStaple


def _only_maximum(posterior: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the class of the largest number of each row, and K if it occurs more than once or is 0."""
    best = posterior.max(axis=1, keepdims=True)
    once = ((posterior == best).sum(axis=1) == 1) & (best[:, 0] > 0)
    labels: NDArray[np.int64] = np.where(once, posterior.argmax(axis=1), posterior.shape[1])
    return labels


@kernel
def _begin(
    votes: NDArray[np.uint8],
    counts: NDArray[np.float64],
    simpleitk: bool,  # noqa: FBT001 - kernels take no keywords
    voted: NDArray[np.float64],
    prior: NDArray[np.float64],
    answered: NDArray[np.float64],
) -> None:
    """Fill zeros with the raters for each class of each pattern, each class's share, and the first matrices.

    These count each rater's answers (middle axis) by plurality (last axis), and each answer's row is divided by its
    sum, as in ITK. The last answer, which nobody gives, is for ``simpleitk`` only: what its ties write behind the last
    class.
    """
    R, _, K = answered.shape
    pixels = 0.0
    for s in range(counts.size):
        best, n_best = 0.0, 0
        for r in range(R):
            voted[s, votes[s, r]] += 1.0
        for k in range(K):
            prior[k] += counts[s] * voted[s, k]
            pixels += counts[s] * voted[s, k]
            n_best = 1 if voted[s, k] > best else n_best + (1 if voted[s, k] == best else 0)
            best = max(best, voted[s, k])
        for r in range(R):
            if simpleitk and n_best > 1:
                answered[r, votes[s, r] + 1, 0] += counts[s]
                continue
            for k in range(K):
                if voted[s, k] == best:
                    answered[r, votes[s, r], k] += counts[s] / n_best
    for k in range(K):
        prior[k] /= pixels
    for r in range(R):
        for l in range(K + 1):
            mass = answered[r, l].sum()
            if mass > 0.0:
                for k in range(K):
                    answered[r, l, k] /= mass


@kernel
def _learn(
    votes: NDArray[np.uint8],
    counts: NDArray[np.float64],
    prior: NDArray[np.float64],
    tolerance: float,
    max_iter: int,
    answered: NDArray[np.float64],
    posterior: NDArray[np.float64],
) -> int:
    """Improve ``answered``, the probability of each answer given the class, until it settles; write the posteriors.

    Returns the number of iterations. The rows of ``posterior`` have no fixed sum.
    """
    R, _, K = answered.shape
    sums = np.empty_like(answered)
    W = np.empty(K)
    rounds = max_iter
    for iteration in range(max_iter):
        sums[:] = 0.0
        for s in range(counts.size):
            total = _expect(votes[s], prior, answered, W)
            scale = counts[s] / total if total > 0.0 else 0.0
            for k in range(K):
                W[k] *= scale
            for r in range(R):
                row = sums[r, votes[s, r]]
                for k in range(K):
                    row[k] += W[k]
        change = 0.0
        for r in range(R):
            for k in range(K):
                mass = 0.0
                for l in range(K):
                    mass += sums[r, l, k]
                for l in range(K + 1):
                    made = sums[r, l, k] / mass if mass > 0.0 else 0.0
                    change = max(change, abs(made - answered[r, l, k]))
                    answered[r, l, k] = made
        if change < tolerance:
            rounds = iteration + 1
            break
    for s in range(counts.size):
        _expect(votes[s], prior, answered, posterior[s])
    return rounds


@kernel
def _expect(
    said: NDArray[np.uint8], prior: NDArray[np.float64], answered: NDArray[np.float64], W: NDArray[np.float64]
) -> float:
    """Write the probability of each class together with what was said, up to a factor, and return the sum."""
    K = W.size
    for k in range(K):
        W[k] = prior[k]
    total = 1.0
    for r in range(said.size):
        row = answered[r, said[r]]
        total = 0.0
        for k in range(K):
            W[k] *= row[k]
            total += W[k]
        if 0.0 < total < _SMALLEST:
            for k in range(K):
                W[k] /= total
            total = 1.0
    return total
