"""One pass over numbers under workers with normal errors: estimates, and the sums that teach of workers.

Nothing here knows of priors, or when to stop: ``bias_and_noise.py`` does.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from voxpop.consolidation.jit import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxpop.consolidation.numeric.table import NumericVotes

__all__ = ["Errors", "errors_about", "estimates_under"]


@dataclasses.dataclass(frozen=True, eq=False)
class Errors:
    """Sums over each worker's answers, weighted, history included; all of shape (n_workers,).

    Attributes:
        count: of the weights.
        first: of the errors, answer minus estimate.
        second: of the squared errors.
        doubt: of the variances of the estimates.
    """

    count: NDArray[np.float64]
    first: NDArray[np.float64]
    second: NDArray[np.float64]
    doubt: NDArray[np.float64]

    def about(self, bias: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sums of squared errors if each worker's answers exceed the truth by ``bias``."""
        squared: NDArray[np.float64] = self.second - 2 * bias * self.first + bias**2 * self.count
        return np.maximum(squared, 0.0)


def estimates_under(
    votes: NumericVotes, precision: NDArray[np.float64], bias: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean of each item's answers less their bias, weighted by precision, and its variance.

    Gold items have their gold value and the variance 0; items of whose answers none has any precision NaN and infinity.

    Args:
        votes: the answers.
        precision: one over the variance of each worker's answers, shape (n_workers,).
        bias: by how much they exceed the truth, shape (n_workers,).
    """
    estimate, variance = np.empty(votes.n_items), np.empty(votes.n_items)
    _estimate(votes.indptr, votes.worker, votes.value, precision * votes.worker_weight, bias, estimate, variance)
    known = ~np.isnan(votes.gold)
    estimate[known], variance[known] = votes.gold[known], 0.0
    return estimate, variance


def errors_about(votes: NumericVotes, estimate: NDArray[np.float64], variance: NDArray[np.float64]) -> Errors:
    """Return the sums of each worker's errors about these estimates; items without an estimate teach nothing."""
    sums = np.zeros((4, votes.n_workers))
    _errors(votes.indptr, votes.worker, votes.value, estimate, variance, votes.item_weight, sums)
    sums *= votes.worker_weight
    count, mean, mean_square = votes.history.T
    return Errors(sums[0] + count, sums[1] + count * mean, sums[2] + count * mean_square, sums[3])


@kernel
def _estimate(
    indptr: NDArray[np.int64],
    worker: NDArray[np.int64],
    value: NDArray[np.float64],
    precision: NDArray[np.float64],
    bias: NDArray[np.float64],
    estimate: NDArray[np.float64],
    variance: NDArray[np.float64],
) -> None:
    for i in range(estimate.size):
        first, last = indptr[i], indptr[i + 1]
        mass, total = 0.0, 0.0
        for j in range(first, last):  # about the first answer: large values with small differences keep their digits
            p = precision[worker[j]]
            mass += p
            total += p * ((value[j] - value[first]) - bias[worker[j]])
        if mass > 0.0:
            estimate[i] = value[first] + total / mass
            variance[i] = 1.0 / mass
        else:
            estimate[i] = np.nan
            variance[i] = np.inf


@kernel
def _errors(
    indptr: NDArray[np.int64],
    worker: NDArray[np.int64],
    value: NDArray[np.float64],
    estimate: NDArray[np.float64],
    variance: NDArray[np.float64],
    item_weight: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> None:
    """Add to ``sums``, shape (4, n_workers): weights, errors, squared errors, variances."""
    for i in range(estimate.size):
        if np.isnan(estimate[i]):
            continue
        v = item_weight[i]
        for j in range(indptr[i], indptr[i + 1]):
            w = worker[j]
            error = value[j] - estimate[i]
            sums[0, w] += v
            sums[1, w] += v * error
            sums[2, w] += v * error * error
            sums[3, w] += v * variance[i]
