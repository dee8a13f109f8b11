"""What crowd-kit offers for binary masks, EM and RASA, on patterns: the same masks, without looping over pixels.

The order of operations follows crowd-kit 1.4.2, whose sums over pixels are sums over patterns times counts here.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from voxpop.consolidation.jit import kernel
from voxpop.consolidation.masks.result import Decision, MaskResult
from voxpop.consolidation.masks.staple import check_iterations
from voxpop.consolidation.masks.state import MaskState
from voxpop.consolidation.masks.vote import need_form

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxpop.consolidation.masks.patterns import Patterns
    from voxpop.consolidation.masks.table import Masks

__all__ = ["MaskCrowdEM", "MaskCrowdEMState", "MaskRasa", "MaskRasaState"]

_SMALLEST_POSTERIOR: Final = 1e-15  # crowd-kit takes what is below as 0
_DISTANCE_BIAS: Final = 1e-5  # of RASA's weights
_HALF: Final = 0.5
_LOWEST: Final = -1.7976931348623157e308  # what numpy's nan_to_num makes of minus infinity


@dataclasses.dataclass(frozen=True)
class MaskCrowdEM:
    """crowd-kit's SegmentationEM: one accuracy a rater, and each pixel's posterior is its next prior.

    After Jung-Lin Lee, Das Sarma and Parameswaran (2018); accuracies are those within the region that anybody drew.
    Since priors sharpen from round to round, probabilities are close to 0 and 1: they say little of how sure to be. A
    pixel is foreground above .5. The quality of an answer is the accuracy, which can fall below 0 in a small region.

    Attributes:
        max_iter: it stops after so many rounds.
        tolerance: or when the evidence lower bound grows by less.
    """

    merges: ClassVar[str] = "masks"

    max_iter: int = 10
    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        check_iterations(self.tolerance, self.max_iter)

    @property
    def name(self) -> str:
        """The registry's name."""
        return "mask_crowd_em"

    def fit(self, annotations: Masks) -> MaskResult:
        """Merge the masks of each item.

        Raises:
            MaskError: the masks are label images.
        """
        masks = annotations
        need_form(masks, self.name, "dense", "runs")
        decisions, qualities, n_iter = [], [], []
        for item in range(masks.n_items):
            patterns = masks.patterns(item)
            posterior, accuracy, rounds = self._learn(patterns)
            labels = (posterior > _HALF).astype(np.uint8)
            decisions.append(Decision(patterns, labels, np.stack([1 - posterior, posterior], axis=1)))
            qualities.append(accuracy)
            n_iter.append(rounds)
        return MaskResult(
            masks=masks,
            decisions=decisions.__getitem__,
            answer_quality=np.concatenate(qualities),
            n_iter=np.array(n_iter, np.int64),
        )

    def state(self) -> MaskCrowdEMState:
        """Start an empty stream."""
        return MaskCrowdEMState(self)

    def _learn(self, patterns: Patterns) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
        """Return the posterior of each pattern, the accuracy of each rater and the number of rounds."""
        posterior = patterns.votes.mean(axis=1)
        accuracy = np.full(patterns.votes.shape[1], np.nan)
        counts = patterns.counts.astype(np.float64)
        rounds = _crowd_em(patterns.votes, counts, self.tolerance, self.max_iter, posterior, accuracy)
        return posterior, accuracy, rounds


class MaskCrowdEMState(MaskState):
    """The stream of ``MaskCrowdEM``: always equal to the batch."""

    method_type = MaskCrowdEM


@dataclasses.dataclass(frozen=True)
class MaskRasa:
    """crowd-kit's SegmentationRASA: a vote weighted by how near each rater is to the outcome, repeated.

    After Li and Fukumoto (2019); near means intersection over union, and a pixel is foreground if the weights of those
    who drew it sum to .5 or more. That sum is the probability; the quality of an answer is its intersection over union
    with the result.

    Attributes:
        max_iter: it stops after so many rounds.
        tolerance: or when the weighted votes change by less, squared and relative.
    """

    merges: ClassVar[str] = "masks"

    max_iter: int = 10
    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        check_iterations(self.tolerance, self.max_iter)

    @property
    def name(self) -> str:
        """The registry's name."""
        return "mask_rasa"

    def fit(self, annotations: Masks) -> MaskResult:
        """Merge the masks of each item.

        Raises:
            MaskError: the masks are label images.
        """
        masks = annotations
        need_form(masks, self.name, "dense", "runs")
        decisions, n_iter = [], []
        for item in range(masks.n_items):
            patterns = masks.patterns(item)
            weighted, rounds = self._learn(patterns)
            probability = np.minimum(weighted, 1)
            labels = (weighted >= _HALF).astype(np.uint8)
            decisions.append(Decision(patterns, labels, np.stack([1 - probability, probability], axis=1)))
            n_iter.append(rounds)
        return MaskResult(masks=masks, decisions=decisions.__getitem__, n_iter=np.array(n_iter, np.int64))

    def state(self) -> MaskRasaState:
        """Start an empty stream."""
        return MaskRasaState(self)

    def _learn(self, patterns: Patterns) -> tuple[NDArray[np.float64], int]:
        """Return the sum of weights for foreground of each pattern, and the number of rounds."""
        counts = patterns.counts.astype(np.float64)
        n_patterns, R = patterns.votes.shape
        votes = np.ascontiguousarray(patterns.votes.T)
        weights = np.full(R, 1 / R)
        weighted = np.zeros(n_patterns)
        distance = np.empty(R)
        rounds = 0
        while rounds < self.max_iter:
            rounds += 1
            change = _weigh(votes, counts, weights, weighted, distance)
            if rounds > 1 and change < self.tolerance:
                break
            weights = np.log(1 / (distance + _DISTANCE_BIAS) + 1)
            weights /= np.sum(weights)
        return weighted, rounds


class MaskRasaState(MaskState):
    """The stream of ``MaskRasa``: always equal to the batch."""

    method_type = MaskRasa


@kernel
def _weigh(
    votes: NDArray[np.uint8],
    counts: NDArray[np.float64],
    weights: NDArray[np.float64],
    weighted: NDArray[np.float64],
    distance: NDArray[np.float64],
) -> float:
    """Replace the weighted votes of the round before, and write each rater's distance; return the relative change.

    Weights are added rater by rater, as crowd-kit does it: the last bit decides whether half the weight is .5. Where
    crowd-kit divides 0 by 0, two empty masks have no distance; the mask stays empty with either.
    """
    R, n_patterns = votes.shape
    before = weighted.copy()
    weighted[:] = 0.0
    for r in range(R):
        for s in range(n_patterns):
            weighted[s] += weights[r] * votes[r, s]
    change = square = 0.0
    for s in range(n_patterns):
        change += counts[s] * (weighted[s] - before[s]) ** 2
        square += counts[s] * weighted[s] ** 2
    for r in range(R):
        shared = union = 0.0
        for s in range(n_patterns):
            inside = weighted[s] >= _HALF
            shared += counts[s] if inside and votes[r, s] else 0.0
            union += counts[s] if inside or votes[r, s] else 0.0
        distance[r] = 1.0 - shared / union if union > 0.0 else 0.0
    return change / square if square > 0.0 else 0.0


@kernel
def _crowd_em(
    votes: NDArray[np.uint8],
    counts: NDArray[np.float64],
    tolerance: float,
    max_iter: int,
    posterior: NDArray[np.float64],
    accuracy: NDArray[np.float64],
) -> int:
    """Improve ``posterior``, at first the share of the raters, and ``accuracy``; return the number of rounds.

    Numbers that are none count 0, as crowd-kit has it: they come from 0 times infinity.
    """
    n_patterns, R = votes.shape
    region = pixels = 0.0
    for s in range(n_patterns):
        pixels += counts[s]
        region += counts[s] if posterior[s] > 0.0 else 0.0
    if region == 0.0:
        return 0
    start = np.empty(n_patterns)
    for s in range(n_patterns):
        start[s] = 1.0 if posterior[s] > _HALF else 0.0
    _accuracies(votes, counts, start, region, accuracy)
    bound = -np.inf
    log_yes, log_no = np.empty((2, R)), np.empty((2, R))
    prior = np.empty(n_patterns)
    for rounds in range(max_iter):
        prior[:] = posterior
        _logarithms(accuracy, log_yes, log_no)
        for s in range(n_patterns):
            yes, no = math.log(prior[s]), math.log(1.0 - prior[s])
            for r in range(R):
                yes += log_yes[votes[s, r], r]
                no += log_no[votes[s, r], r]
            yes, no = math.exp(yes), math.exp(no)
            share = yes / (yes + no)
            posterior[s] = share if share >= _SMALLEST_POSTERIOR else 0.0
        _accuracies(votes, counts, posterior, region, accuracy)
        _logarithms(accuracy, log_yes, log_no)
        new_bound = 0.0
        for s in range(n_patterns):
            yes, no = math.log(prior[s]), math.log(1.0 - prior[s])
            value = 0.0
            for r in range(R):
                value += _times((log_yes[votes[s, r], r] + yes), posterior[s])
                value += _times((log_no[votes[s, r], r] + no), 1.0 - posterior[s])
            new_bound += counts[s] * (value - _times(math.log(posterior[s]), posterior[s]))
        new_bound /= R * pixels
        if new_bound - bound < tolerance:
            return rounds + 1
        bound = new_bound
    return max_iter


@kernel
def _times(logarithm: float, probability: float) -> float:
    """Return the product as crowd-kit has it: 0 for none, the lowest number for minus infinity."""
    product = logarithm * probability
    if math.isnan(product):
        return 0.0
    return max(product, _LOWEST)


@kernel
def _logarithms(accuracy: NDArray[np.float64], log_yes: NDArray[np.float64], log_no: NDArray[np.float64]) -> None:
    """Write the logarithms of a rater's answer given foreground and background, shape (2, R), by answer."""
    for r in range(accuracy.size):
        right, wrong = math.log(accuracy[r]), math.log(1.0 - accuracy[r])
        log_yes[0, r] = log_no[1, r] = wrong
        log_yes[1, r] = log_no[0, r] = right


@kernel
def _accuracies(
    votes: NDArray[np.uint8],
    counts: NDArray[np.float64],
    inside: NDArray[np.float64],
    region: float,
    accuracy: NDArray[np.float64],
) -> None:
    for r in range(accuracy.size):
        errors = 0.0
        for s in range(counts.size):
            errors += counts[s] * (1.0 - inside[s] if votes[s, r] else inside[s])
        accuracy[r] = 1.0 - errors / region
