"""Chance-corrected agreement of many workers, with missing votes, and bootstrap intervals over items.

Every coefficient is ``(observed - expected) / (1 - expected)`` agreement; they differ in what they expect of chance.
1 is perfect, 0 is chance, NaN says that nothing can be told: no item has two votes, or everybody always chose the same
class, so that chance explains everything.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np

from voxpop.consolidation.agreement.tallies import Tally, tally
from voxpop.consolidation.errors import ConsolidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from voxpop.consolidation.votes.table import Votes

__all__ = ["COEFFICIENTS", "LEVELS", "AgreementError", "Coefficient", "Level", "agreement", "alpha_of", "distances"]

Level = Literal["nominal", "ordinal", "interval", "ratio"]
LEVELS: Final[tuple[Level, ...]] = get_args(Level)
COEFFICIENTS: Final = ("krippendorff_alpha", "fleiss_kappa", "gwet_ac1", "percent_agreement")


class AgreementError(ConsolidationError):
    """Agreement cannot be computed from these votes: the message says why, and what to do."""


@dataclasses.dataclass(frozen=True)
class Coefficient:
    """One coefficient of agreement.

    Attributes:
        name: one of ``COEFFICIENTS``.
        value: the coefficient; NaN if nothing can be told.
        low: lower end of the interval.
        high: upper end.
        confidence: how much of the bootstrap distribution lies between them.
        n_items: items with two votes or more, which all coefficients rest on.
    """

    name: str
    value: float
    low: float
    high: float
    confidence: float
    n_items: int


def agreement(
    votes: Votes,
    level: Level = "nominal",
    *,
    names: Sequence[str] = COEFFICIENTS,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    progress: Callable[[int], None] = lambda _done: None,
) -> list[Coefficient]:
    """Return coefficients of agreement, each with a percentile bootstrap interval over items.

    Krippendorff's alpha (2004; 2011 for the computation) takes the level of measurement and missing votes. Fleiss'
    kappa (1971) and Gwet's AC1 (2008) are of nominal classes whatever the level; both are generalised to items with
    different numbers of votes as by Gwet (Handbook of Inter-Rater Reliability, 2014). Of repeated votes of one worker
    each counts as a vote of its own; read the votes with ``repeats="last"`` if that is not meant.

    Args:
        votes: at least one item with two votes is needed for any number to come out.
        level: nominal; ordinal, in the order of ``votes.classes``; interval and ratio for classes that are numbers.
        names: which coefficients.
        resamples: of the bootstrap; 0 for no intervals (NaN).
        confidence: of the intervals, between 0 and 1.
        seed: of the bootstrap.
        progress: called with the number of resamples done so far.

    Raises:
        AgreementError: an unknown coefficient or level, a level that the classes do not have, or impossible options.
    """
    for name in names:
        if name not in COEFFICIENTS:
            raise AgreementError(f"unknown coefficient {name!r}; known: {', '.join(COEFFICIENTS)}")
    if resamples < 0 or not 0 < confidence < 1:
        raise AgreementError(
            f"resamples is {resamples} and confidence {confidence}; expected 0 or more, and a number between 0 and 1"
        )
    check_level(votes, level)
    whole = tally(votes)
    found = {name: _compute(name, whole, votes, level) for name in names}
    spread = np.full((resamples, len(names)), np.nan)
    generator = np.random.default_rng(seed)
    for r in range(resamples):
        drawn = generator.integers(0, votes.n_items, votes.n_items)
        resampled = tally(votes, np.bincount(drawn, minlength=votes.n_items).astype(np.float64))
        spread[r] = [_compute(name, resampled, votes, level) for name in names]
        progress(r + 1)
    coefficients = []
    for column, name in enumerate(names):
        known = spread[~np.isnan(spread[:, column]), column]
        tail = (1 - confidence) / 2
        low, high = np.quantile(known, [tail, 1 - tail]) if known.size else (np.nan, np.nan)
        coefficients.append(Coefficient(name, found[name], float(low), float(high), confidence, int(whole.paired)))
    return coefficients


def alpha_of(coincidences: NDArray[np.float64], distance: NDArray[np.float64]) -> float:
    """Return Krippendorff's alpha of a matrix of coincidences under squared distances, both of shape (K, K)."""
    marginal = coincidences.sum(axis=1)
    n = marginal.sum()
    if n <= 1:
        return float("nan")
    observed = (coincidences * distance).sum() / n
    expected = (np.outer(marginal, marginal) * distance).sum() / (n * (n - 1))
    return float(1 - observed / expected) if expected > 0 else float("nan")


def distances(classes: NDArray[Any], marginal: NDArray[np.float64], level: Level) -> NDArray[np.float64]:
    """Return the squared distances between classes at a level of measurement, shape (K, K) (Krippendorff, 2011)."""
    K = classes.size
    if level == "nominal":
        return 1.0 - np.eye(K)
    if level == "ordinal":  # ranks that lie between, the two ends counting half
        middle = np.cumsum(marginal) - marginal / 2
        return (middle[:, None] - middle[None, :]) ** 2
    values = classes.astype(np.float64)
    difference = values[:, None] - values[None, :]
    if level == "interval":
        return difference**2
    total = values[:, None] + values[None, :]
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(difference / total) ** 2


def check_level(votes: Votes, level: Level) -> None:
    """Check that the classes can be measured at a level.

    Raises:
        AgreementError: they cannot, or there is no such level.
    """
    if level not in LEVELS:
        raise AgreementError(f"unknown level {level!r}; known: {', '.join(LEVELS)}")
    if level not in ("interval", "ratio"):
        return
    for name in votes.classes.tolist():
        if isinstance(name, str) or not np.isfinite(float(name)):
            raise AgreementError(
                f"class {name!r} is no number; level {level!r} needs classes that are, 'ordinal' only their order"
            )
        if level == "ratio" and name < 0:
            raise AgreementError(f"class {name!r} is negative; level 'ratio' needs a scale with a true zero")


def _compute(name: str, counted: Tally, votes: Votes, level: Level) -> float:
    if name == "krippendorff_alpha":
        marginal = counted.coincidences.sum(axis=1)
        return alpha_of(counted.coincidences, distances(votes.classes, marginal, level))
    if counted.paired == 0:
        return float("nan")
    observed = counted.agreed / counted.paired
    if name == "percent_agreement":
        return observed
    share = counted.shares / counted.judged
    if name == "fleiss_kappa":
        expected = float((share**2).sum())
    else:
        K = votes.n_classes
        expected = float((share * (1 - share)).sum() / (K - 1)) if K > 1 else 1.0
    return (observed - expected) / (1 - expected) if expected < 1 else float("nan")
