"""Mean and weighted median: every answer counts as its worker's weight says, and nothing is learned of workers."""

from __future__ import annotations

import dataclasses
import math
from statistics import NormalDist
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from voxpop.consolidation.jit import kernel
from voxpop.consolidation.numeric.result import NumericResult
from voxpop.consolidation.numeric.table import NumericVotes
from voxpop.consolidation.refit import RefitState

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Mean",
    "MeanState",
    "Median",
    "MedianState",
    "check_level",
    "item_medians",
    "pooled_variance",
    "quantile_of",
]

_MEDIAN_LOSS: Final = math.pi / 2  # variance of a median against that of a mean, of many normal answers


@dataclasses.dataclass(frozen=True)
class Mean:
    """The mean of the answers, weighted by worker.

    The interval takes all answers to be equally far off: with the variance within items, over all items together.

    Attributes:
        level: how often the interval shall hold the true value.
    """

    merges: ClassVar[str] = "numbers"

    level: float = 0.95

    def __post_init__(self) -> None:
        check_level(self.level)

    @property
    def name(self) -> str:
        """The registry's name."""
        return "numeric_mean"

    def fit(self, annotations: NumericVotes) -> NumericResult:
        """Estimate all items."""
        return _averaged(annotations, _item_means(annotations), 1.0, self.level)

    def state(self) -> MeanState:
        """Start an empty stream."""
        return MeanState(self)


class MeanState(RefitState[NumericVotes, NumericResult]):
    """The stream of ``Mean``."""

    method_type = Mean
    table_type = NumericVotes


@dataclasses.dataclass(frozen=True)
class Median:
    """The weighted median of the answers: half of the weight lies on either side; between two values, their middle.

    A minority that is far off moves it little. The interval is that of a median of normal answers, which is wider than
    that of their mean by a quarter, with the variance within items over all items together.

    Attributes:
        level: how often the interval shall hold the true value.
    """

    merges: ClassVar[str] = "numbers"

    level: float = 0.95

    def __post_init__(self) -> None:
        check_level(self.level)

    @property
    def name(self) -> str:
        """The registry's name."""
        return "numeric_median"

    def fit(self, annotations: NumericVotes) -> NumericResult:
        """Estimate all items."""
        return _averaged(annotations, item_medians(annotations), _MEDIAN_LOSS, self.level)

    def state(self) -> MedianState:
        """Start an empty stream."""
        return MedianState(self)


class MedianState(RefitState[NumericVotes, NumericResult]):
    """The stream of ``Median``."""

    method_type = Median
    table_type = NumericVotes


def check_level(level: float) -> None:
    """Raise ValueError unless ``level`` is a probability between 0 and 1."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level!r}; expected a number between 0 and 1")


def quantile_of(level: float) -> float:
    """Return how many standard errors an interval of this level reaches to either side."""
    return NormalDist().inv_cdf((1 + level) / 2)


def item_medians(votes: NumericVotes) -> NDArray[np.float64]:
    """Return the weighted median of each item's answers, its gold value if known, NaN if it has neither."""
    estimate = np.empty(votes.n_items)
    _medians(votes.indptr, votes.value, votes.worker_weight[votes.worker], estimate)
    return np.where(np.isnan(votes.gold), estimate, votes.gold)


def pooled_variance(votes: NumericVotes) -> float:
    """Return the variance of answers within items, or about gold; NaN if no item has two answers or gold."""
    means = _item_means(votes)
    item = votes.item_of_vote
    weight = votes.worker_weight[votes.worker] * votes.item_weight[item]
    used = weight > 0
    free = int(used.sum()) - int(np.unique(item[used & np.isnan(votes.gold[item])]).size)
    if free <= 0:
        return math.nan
    squared = float((weight * (votes.value - means[item]) ** 2)[used].sum())
    return squared / float(weight[used].mean()) / free


def _item_means(votes: NumericVotes) -> NDArray[np.float64]:
    item = votes.item_of_vote
    weight = votes.worker_weight[votes.worker]
    # About the first answer: large values with small differences keep their digits.
    first = np.zeros(votes.n_items)
    answered = np.diff(votes.indptr) > 0
    first[answered] = votes.value[votes.indptr[:-1][answered]]
    mass = np.bincount(item, weight, votes.n_items)
    total = np.bincount(item, weight * (votes.value - first[item]), votes.n_items)
    mean = first + np.divide(total, mass, out=np.full(votes.n_items, np.nan), where=mass > 0)
    return np.where(np.isnan(votes.gold), mean, votes.gold)


def _averaged(votes: NumericVotes, estimate: NDArray[np.float64], loss: float, level: float) -> NumericResult:
    item = votes.item_of_vote
    weight = votes.worker_weight[votes.worker]
    mass = np.bincount(item, weight, votes.n_items)
    squares = np.bincount(item, weight**2, votes.n_items)
    variance = pooled_variance(votes)
    loss_of = np.where(np.diff(votes.indptr) > 2, loss, 1.0)  # of one answer or two, the median is the mean
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt(loss_of * (math.inf if math.isnan(variance) else variance) * squares) / mass
    reach = np.where(np.isnan(votes.gold), quantile_of(level) * error, 0.0)
    off = (votes.value - estimate[item]) ** 2
    given = np.bincount(votes.worker, minlength=votes.n_workers)
    squared = np.bincount(votes.worker, np.nan_to_num(off), votes.n_workers)
    return NumericResult(
        items=votes.items,
        workers=votes.workers,
        estimate=estimate,
        low=estimate - reach,
        high=estimate + reach,
        worker_deviation=np.sqrt(np.divide(squared, given, out=np.full(votes.n_workers, np.nan), where=given > 0)),
    )


@kernel
def _medians(
    indptr: NDArray[np.int64],
    value: NDArray[np.float64],
    weight: NDArray[np.float64],
    estimate: NDArray[np.float64],
) -> None:
    """Put the weighted median of each row into ``estimate``, NaN for a row without weight."""
    for i in range(indptr.size - 1):
        first, last = indptr[i], indptr[i + 1]
        order = np.argsort(value[first:last])
        total = 0.0
        for j in range(first, last):
            total += weight[j]
        estimate[i] = np.nan
        below = 0.0
        tied = False
        for place in order:
            w = weight[first + place]
            if w == 0.0 or total == 0.0:
                continue
            v = value[first + place]
            if tied:
                estimate[i] = 0.5 * estimate[i] + 0.5 * v
                break
            below += w
            if below >= total * (0.5 - 1e-12):
                estimate[i] = v
                tied = below <= total * (0.5 + 1e-12)
                if not tied:
                    break
