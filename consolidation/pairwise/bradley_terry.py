"""Bradley-Terry: each item has a strength, and wins against another as their strengths stand to each other.

R. A. Bradley and M. E. Terry, "Rank Analysis of Incomplete Block Designs", Biometrika 39 (1952); fitted by D. R.
Hunter's MM algorithm (2004), with ties as in P. V. Rao and L. L. Kupper, JASA 62 (1967). The steps stand in
``games.py``.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from voxpop.consolidation.pairwise import games
from voxpop.consolidation.pairwise.result import PairwiseResult
from voxpop.consolidation.pairwise.table import LEFT, TIE, PairwiseVotes
from voxpop.consolidation.refit import RefitState
from voxpop.consolidation.votes.columns import VotesError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BradleyTerry", "BradleyTerryState", "Wins"]


@dataclasses.dataclass(frozen=True)
class BradleyTerry:
    """Item a wins against b with probability ``s_a / (s_a + s_b)``; every worker is believed alike.

    The prior is ``prior`` games of each item against one of average strength, half won and half lost. With it there is
    always one best answer, also for an item that won all its games and for items between which nothing was compared
    (see ``component`` of the result). Without it (0) there is one only if every item beat every other, directly or
    through others, which is checked.

    Ties: ``"half"`` counts one as half a win for each; ``"rao_kupper"`` learns how far ahead an item must be to
    be called better, the ``threshold`` t of the result: a wins with probability ``s_a / (s_a + t s_b)``.

    A worker's quality is the share of their comparisons that agree with the scores, their own included; a tie agrees
    by half. The objective never falls.

    Attributes:
        max_iter: the most iterations; at least 1.
        tol: stops when no score moves by more than this; 0 always runs ``max_iter`` iterations.
        prior: games against an average item; 0 for none.
        ties: what a tie means.
    """

    merges: ClassVar[str] = "comparisons"

    max_iter: int = 10_000
    tol: float = 1e-7
    prior: float = 1.0
    ties: Literal["half", "rao_kupper"] = "half"

    def __post_init__(self) -> None:
        checks = (
            ("max_iter", self.max_iter >= 1, "at least 1"),
            ("tol", self.tol >= 0, "0 or more"),
            ("prior", 0 <= self.prior < math.inf, "0 or more"),
            ("ties", self.ties in {"half", "rao_kupper"}, "'half' or 'rao_kupper'"),
        )
        for name, good, expected in checks:
            if not good:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected {expected}")

    @property
    def name(self) -> str:
        """The registry's name."""
        return "bradley_terry"

    def fit(self, annotations: PairwiseVotes) -> PairwiseResult:
        """Score all items.

        Raises:
            VotesError: without a prior, there is no best answer.
        """
        votes = annotations
        weight = votes.worker_weight[votes.worker]
        n_ties = float(weight[votes.outcome == TIE].sum()) if self.ties == "rao_kupper" else 0.0
        wins = Wins.of(votes, weight, of_tie=1.0 if n_ties else 0.5).added_up(votes.n_items)
        if self.prior == 0 and not games.is_strongly_connected(votes.n_items, wins.winner, wins.loser):
            raise VotesError(
                "some items never won, or never lost, against the others, so no scores are best without a prior; "
                "set prior above 0"
            )
        component = games.components_of(votes.n_items, votes.left, votes.right)
        strength, threshold = np.ones(votes.n_items), 1.5 if n_ties else 1.0
        objective: list[float] = []
        while True:
            sums = np.zeros((3, votes.n_items))
            value = games.minorise(wins.winner, wins.loser, wins.weight, strength, threshold, sums)
            value += games.log_prior(strength, self.prior)
            objective.append(value + (n_ties * math.log(threshold**2 - 1) if n_ties else 0.0))
            before = strength
            strength = games.raised(strength, sums[0], sums[1], self.prior, component)
            moved = float(np.abs(np.log(strength / before)).max())
            if n_ties:
                sums = np.zeros((3, votes.n_items))
                games.minorise(wins.winner, wins.loser, wins.weight, strength, threshold, sums)
                ratio = n_ties / sums[2, 0]
                moved = max(moved, abs(ratio + math.sqrt(1 + ratio**2) - threshold))
                threshold = ratio + math.sqrt(1 + ratio**2)
            if len(objective) == self.max_iter or (self.tol > 0 and moved <= self.tol):
                break
        score = np.log(strength)
        return PairwiseResult(
            items=votes.items,
            workers=votes.workers,
            score=score,
            component=component,
            worker_quality=_agreement(votes, score),
            threshold=threshold,
            objective=np.array(objective),
            n_iter=len(objective),
        )

    def state(self) -> BradleyTerryState:
        """Start an empty stream."""
        return BradleyTerryState(self)


class BradleyTerryState(RefitState[PairwiseVotes, PairwiseResult]):
    """The stream of ``BradleyTerry``."""

    method_type = BradleyTerry
    table_type = PairwiseVotes


@dataclasses.dataclass(frozen=True, eq=False)
class Wins:
    """Comparisons as wins: a tie is one for each side.

    Attributes:
        winner: place of the item that won, int64, shape (n_wins,).
        loser: place of the other one, int64, shape (n_wins,).
        weight: how much the win counts, shape (n_wins,).
        of_vote: which comparison it is from, int64, shape (n_wins,); -1 for several.
    """

    winner: NDArray[np.int64]
    loser: NDArray[np.int64]
    weight: NDArray[np.float64]
    of_vote: NDArray[np.int64]

    @classmethod
    def of(cls, votes: PairwiseVotes, weight: NDArray[np.float64], *, of_tie: float) -> Wins:
        """Return the wins of these comparisons; each side of a tie counts ``of_tie`` times its weight."""
        tied = np.flatnonzero(votes.outcome == TIE)
        left_won = votes.outcome == LEFT
        winner = np.where(left_won, votes.left, votes.right)
        loser = np.where(left_won, votes.right, votes.left)
        counted = np.where(votes.outcome == TIE, of_tie, 1.0) * weight
        return cls(  # of a tie, so far the right item won
            np.concatenate([winner, votes.left[tied]]),
            np.concatenate([loser, votes.right[tied]]),
            np.concatenate([counted, counted[tied]]),
            np.concatenate([np.arange(votes.n_votes), tied]),
        )

    def added_up(self, n_items: int) -> Wins:
        """Return the same with one entry for each winner and loser, and none that counts nothing."""
        heavy = self.weight > 0
        pair, place = np.unique(self.winner[heavy] * n_items + self.loser[heavy], return_inverse=True)
        winner, loser = np.divmod(pair, n_items)
        weight = np.zeros(pair.size)
        np.add.at(weight, place.reshape(-1), self.weight[heavy])
        return Wins(winner, loser, weight, np.full(pair.size, -1))


def _agreement(votes: PairwiseVotes, score: NDArray[np.float64]) -> NDArray[np.float64]:
    agreed = 0.5 + 0.5 * votes.outcome * np.sign(score[votes.left] - score[votes.right])
    given = np.bincount(votes.worker, minlength=votes.n_workers)
    right = np.bincount(votes.worker, agreed, votes.n_workers)
    share = np.full(votes.n_workers, np.nan)
    np.divide(right, given, out=share, where=given > 0)
    return share
