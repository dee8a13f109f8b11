"""Numbers by workers who each have a bias and a noise, learned together with the values.

The model of V. C. Raykar, S. Yu, L. H. Zhao, G. H. Valadez, C. Florin, L. Bogoni and L. Moy, "Learning From Crowds",
JMLR 11 (2010), section 5, without features, with a bias a worker (as in P. Welinder, S. Branson, S. Belongie and
P. Perona, NIPS 2010) and priors on both. Expectation-maximisation; the passes stand in ``gauss.py``.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from voxpop.consolidation.numeric.averages import check_level, item_medians, pooled_variance, quantile_of
from voxpop.consolidation.numeric.gauss import Errors, errors_about, estimates_under
from voxpop.consolidation.numeric.result import NumericResult
from voxpop.consolidation.numeric.table import NumericVotes
from voxpop.consolidation.refit import RefitState

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BiasAndNoise", "BiasAndNoiseState"]

_SMALLEST_DEVIATION: Final = 1e-9  # of the values' own size: where all answers agree, workers are still not exact
_SMALLEST_SHARE: Final = 1e-9  # of the variance within items: no worker has less


@dataclasses.dataclass(frozen=True)
class BiasAndNoise:
    """A worker's answer is the item's value, plus their bias, plus normal noise of their own variance.

    Nothing is assumed of the values. A bias has a normal prior about 0, whose variance is what the workers' mean
    errors about the medians show beyond noise. A variance has a prior worth ``smoothing`` answers of a typical worker,
    whose variance is learned with the rest: the harmonic mean of all. Workers with few answers are thus believed like
    the typical one. The objective, log likelihood plus log prior, never falls.

    A bias that all workers share cannot be told from the values: gold items or a worker's history tell it.

    The interval is the posterior of the item's value under the workers as learned.

    Attributes:
        max_iter: the most iterations; at least 1.
        tol: stops when an iteration gains less than this an answer, in nats; 0 always runs ``max_iter`` iterations.
        smoothing: weight of the prior of a worker's variance, in answers; above 0.
        level: how often the interval shall hold the true value.
    """

    merges: ClassVar[str] = "numbers"

    max_iter: int = 200
    tol: float = 1e-7
    smoothing: float = 4.0
    level: float = 0.95

    def __post_init__(self) -> None:
        check_level(self.level)
        checks = (
            ("max_iter", self.max_iter >= 1, "at least 1"),
            ("tol", self.tol >= 0, "0 or more"),
            ("smoothing", 0 < self.smoothing < math.inf, "a number above 0"),
        )
        for name, good, expected in checks:
            if not good:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected {expected}")

    @property
    def name(self) -> str:
        """The registry's name."""
        return "bias_and_noise"

    def fit(self, annotations: NumericVotes) -> NumericResult:
        """Estimate all items and learn all workers."""
        votes = annotations
        pooled = pooled_variance(votes)
        told = math.isfinite(pooled)
        if not (told and pooled > 0):
            pooled = (_SMALLEST_DEVIATION * float(np.abs(votes.value).max(initial=1.0))) ** 2
        smallest = _SMALLEST_SHARE * pooled
        errors = errors_about(votes, item_medians(votes), np.zeros(votes.n_items))
        spread = _variance_of_biases(errors, pooled)
        bias, variance = self._maximise(errors, np.full(votes.n_workers, pooled), spread, smallest)
        objective: list[float] = []
        while True:
            estimate, doubt = estimates_under(votes, 1 / variance, bias)
            errors = errors_about(votes, estimate, doubt)
            objective.append(
                _log_likelihood(votes, errors, variance, bias, doubt) + self._log_prior(variance, bias, spread)
            )
            gain = objective[-1] - objective[-2] if len(objective) > 1 else math.inf
            if len(objective) == self.max_iter or (self.tol > 0 and gain < self.tol * votes.n_votes):
                break
            bias, variance = self._maximise(errors, variance, spread, smallest)
        reach = quantile_of(self.level) * np.sqrt(doubt if told else np.where(doubt > 0, math.inf, 0.0))
        return NumericResult(
            items=votes.items,
            workers=votes.workers,
            estimate=estimate,
            low=estimate - reach,
            high=estimate + reach,
            worker_deviation=np.sqrt(variance) if told else np.full(votes.n_workers, math.nan),
            worker_bias=bias,
            objective=np.array(objective),
            n_iter=len(objective),
        )

    def state(self) -> BiasAndNoiseState:
        """Start an empty stream."""
        return BiasAndNoiseState(self)

    def _maximise(
        self, errors: Errors, variance: NDArray[np.float64], spread: float, smallest: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return biases given the variances so far, then variances given the biases, each of shape (n_workers,)."""
        bias = np.zeros(variance.size)
        if spread > 0:
            bias = errors.first / (errors.count + variance / spread)
        squared = errors.about(bias) + errors.doubt
        found = (self.smoothing * _typical(variance) + squared) / (self.smoothing + errors.count)
        return bias, np.maximum(found, smallest)

    def _log_prior(self, variance: NDArray[np.float64], bias: NDArray[np.float64], spread: float) -> float:
        """Return the log prior of biases and variances, the typical variance at its best, up to a constant."""
        log_prior = 0.5 * self.smoothing * math.fsum(np.log(_typical(variance) / variance))
        return log_prior - (0.5 * math.fsum(bias**2) / spread if spread > 0 else 0.0)


class BiasAndNoiseState(RefitState[NumericVotes, NumericResult]):
    """The stream of ``BiasAndNoise``."""

    method_type = BiasAndNoise
    table_type = NumericVotes


def _typical(variance: NDArray[np.float64]) -> float:
    """Return the harmonic mean, which is the most probable scale of an inverse gamma prior given these variances."""
    return variance.size / math.fsum(1 / variance)


def _variance_of_biases(errors: Errors, pooled: float) -> float:
    """Return how far workers' mean errors lie apart beyond what noise does, by the method of moments."""
    met = errors.count > 0
    if not met.any():
        return 0.0
    count, mean = errors.count[met], errors.first[met] / errors.count[met]
    return max(0.0, float((count * mean**2 - pooled).sum() / count.sum()))


def _log_likelihood(
    votes: NumericVotes,
    errors: Errors,
    variance: NDArray[np.float64],
    bias: NDArray[np.float64],
    doubt: NDArray[np.float64],
) -> float:
    """Return the log likelihood of the answers, the values integrated out under a flat prior."""
    of_answers = -0.5 * (errors.count * np.log(2 * math.pi * variance) + errors.about(bias) / variance)
    open_items = np.isfinite(doubt) & (doubt > 0)
    of_values = 0.5 * votes.item_weight[open_items] * np.log(2 * math.pi * doubt[open_items])
    return math.fsum(of_answers) + math.fsum(of_values)
