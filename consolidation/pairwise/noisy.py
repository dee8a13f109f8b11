"""Bradley-Terry by workers of whom some do not look: they choose by position, as often as their bias says.

Each worker's reliability is learned with the scores, as in X. Chen, P. N. Bennett, K. Collins-Thompson and E.
Horvitz, "Pairwise Ranking Aggregation in a Crowdsourced Setting", WSDM 2013 (Crowd-BT); the model of those who do not
look, with a bias to the left or right, is that of N. Bugakova, V. Fedorova, G. Gusev and A. Drutsa, "Aggregation of
Pairwise Comparisons with Reduction of Biases" (2019). The steps stand in ``games.py``.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from voxpop.consolidation.jit import kernel
from voxpop.consolidation.pairwise import games
from voxpop.consolidation.pairwise.bradley_terry import BradleyTerry, Wins
from voxpop.consolidation.pairwise.result import PairwiseResult
from voxpop.consolidation.pairwise.table import PairwiseVotes
from voxpop.consolidation.refit import RefitState

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["NoisyBradleyTerry", "NoisyBradleyTerryState"]

_TYPICAL_SKILL: Final = 0.8  # the share of comparisons in which a typical worker looks


@dataclasses.dataclass(frozen=True)
class NoisyBradleyTerry:
    """A worker looks with the probability of their skill; else they choose the left item as often as their bias says.

    Who looks decides as in ``BradleyTerry``. Expectation-maximisation from its scores: which comparisons were looked
    at, then skills, biases and one MM step of the strengths. Skill and bias have priors worth ``smoothing``
    comparisons: of one who looks at 80%, and of one who prefers no side. A tie is half a win for each.

    A worker's quality is the share of comparisons with a clear winner that they get right: the skill, and half of the
    rest. The objective, log likelihood plus log prior, never falls.

    A worker's history of right and wrong answers counts as comparisons looked at, except twice as many as were
    wrong: who does not look is right half of the time.

    Attributes:
        max_iter: the most iterations; at least 1.
        tol: stops when no score moves by more than this; 0 always runs ``max_iter`` iterations.
        prior: games of each item against an average one; above 0.
        smoothing: weight of the priors of skill and bias, in comparisons; above 0.
    """

    merges: ClassVar[str] = "comparisons"

    max_iter: int = 2000
    tol: float = 1e-5
    prior: float = 1.0
    smoothing: float = 4.0

    def __post_init__(self) -> None:
        checks = (
            ("max_iter", self.max_iter >= 1, "at least 1"),
            ("tol", self.tol >= 0, "0 or more"),
            ("prior", 0 < self.prior < math.inf, "a number above 0"),
            ("smoothing", 0 < self.smoothing < math.inf, "a number above 0"),
        )
        for name, good, expected in checks:
            if not good:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected {expected}")

    @property
    def name(self) -> str:
        """The registry's name."""
        return "noisy_bradley_terry"

    def fit(self, annotations: PairwiseVotes) -> PairwiseResult:
        """Score all items and learn all workers."""
        votes = annotations
        wins = Wins.of(votes, votes.worker_weight[votes.worker], of_tie=0.5)
        worker = votes.worker[wins.of_vote]
        chose_left = wins.winner == votes.left[wins.of_vote]
        right, wrong = votes.history.T
        known = np.stack([np.maximum(right - wrong, 0), np.minimum(2 * wrong, right + wrong)])
        pseudo = self.smoothing * np.array([_TYPICAL_SKILL, 1 - _TYPICAL_SKILL])[:, None] + known
        start = BradleyTerry(prior=self.prior).fit(votes)
        strength = np.exp(start.score)
        skill = pseudo[0] / pseudo.sum(axis=0)
        # From how often they choose left at all: pairs stand in any order, so who looks does so half of the time.
        lefts = np.bincount(worker, wins.weight * chose_left, votes.n_workers)
        bias = (self.smoothing / 2 + lefts) / (self.smoothing + np.bincount(worker, wins.weight, votes.n_workers))
        looked = np.empty(wins.weight.size)
        objective: list[float] = []
        while True:
            counts = np.zeros((3, votes.n_workers))
            value = _look(
                wins.winner, wins.loser, wins.weight, worker, chose_left, strength, skill, bias, looked, counts
            )
            value += games.log_prior(strength, self.prior)
            value += math.fsum(pseudo[0] * np.log(skill) + pseudo[1] * np.log1p(-skill))
            objective.append(value + 0.5 * self.smoothing * math.fsum(np.log(bias) + np.log1p(-bias)))
            skill = (pseudo[0] + counts[0]) / (pseudo.sum(axis=0) + counts.sum(axis=0))
            bias = (self.smoothing / 2 + counts[1]) / (self.smoothing + counts[1] + counts[2])
            sums = np.zeros((3, votes.n_items))
            games.minorise(wins.winner, wins.loser, looked, strength, 1.0, sums)
            before = strength
            strength = games.raised(strength, sums[0], sums[1], self.prior, start.component)
            moved = float(np.abs(np.log(strength / before)).max())
            if len(objective) == self.max_iter or (self.tol > 0 and moved <= self.tol):
                break
        return PairwiseResult(
            items=votes.items,
            workers=votes.workers,
            score=np.log(strength),
            component=start.component,
            worker_quality=skill + (1 - skill) / 2,
            worker_bias=bias,
            objective=np.array(objective),
            n_iter=len(objective),
        )

    def state(self) -> NoisyBradleyTerryState:
        """Start an empty stream."""
        return NoisyBradleyTerryState(self)


class NoisyBradleyTerryState(RefitState[PairwiseVotes, PairwiseResult]):
    """The stream of ``NoisyBradleyTerry``."""

    method_type = NoisyBradleyTerry
    table_type = PairwiseVotes


@kernel
def _look(
    winner: NDArray[np.int64],
    loser: NDArray[np.int64],
    weight: NDArray[np.float64],
    worker: NDArray[np.int64],
    chose_left: NDArray[np.bool_],
    strength: NDArray[np.float64],
    skill: NDArray[np.float64],
    bias: NDArray[np.float64],
    looked: NDArray[np.float64],
    counts: NDArray[np.float64],
) -> float:
    """Put the weight with which each win was looked at into ``looked``; return the log likelihood.

    ``counts``, shape (3, n_workers), takes what was looked at, and what was not: left chosen, and right chosen.
    """
    value = 0.0
    for j in range(winner.size):
        w = worker[j]
        better = skill[w] * strength[winner[j]] / (strength[winner[j]] + strength[loser[j]])
        side = (1.0 - skill[w]) * (bias[w] if chose_left[j] else 1.0 - bias[w])
        share = better / (better + side)
        looked[j] = weight[j] * share
        counts[0, w] += looked[j]
        counts[1 if chose_left[j] else 2, w] += weight[j] - looked[j]
        value += weight[j] * math.log(better + side)
    return value
