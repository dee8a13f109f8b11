"""GLAD: each worker has an ability and each item a difficulty, learned together with the labels.

J. Whitehill, P. Ruvolo, T. Wu, J. Bergsma and J. Movellan, "Whose Vote Should Count More: Optimal Integration of Labels
from Labelers of Unknown Expertise", NIPS 2009. The arithmetic stands in ``glad_em.py``.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Final

import numpy as np

from voxpop.consolidation.votes.bayes import Blocks, check_parameters, iterate
from voxpop.consolidation.votes.glad_em import MAX_STEP, MEAN, SMALL, improve, label
from voxpop.consolidation.votes.learning import LearningState
from voxpop.consolidation.votes.result import Learned, VoteResult
from voxpop.consolidation.votes.ties import choose_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxpop.consolidation.votes.table import Votes

__all__ = ["GLAD", "GLADResult", "GLADState"]

_EASINESS_GRID: Final = 64


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class GLADResult(VoteResult):
    """A ``VoteResult`` with the two things that GLAD learns.

    Attributes:
        ability: 0 for a worker who guesses, above for one who is right more often, below for one who is wrong more
            often than a coin, shape (n_workers,).
        difficulty: above 0; with infinite difficulty everybody's answer is a coin's, shape (n_items,).
    """

    ability: NDArray[np.float64]
    difficulty: NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class GLAD:
    """Expectation-maximisation with an ability a worker and a difficulty an item.

    Abilities, and the logarithm of items' inverse difficulty, have Gaussian priors of mean 1 and variance 1, as in the
    authors' program; all classes are as likely beforehand. Starts from the means. The objective, log likelihood plus
    log prior (up to a constant) before each M-step, never falls.

    The posterior is made by ``label``, in a batch and in a stream: given the abilities, each item's difficulty is
    estimated from its own votes alone, starting at the prior's mean, until likelihood and prior no longer grow. Thus
    an item is labeled alike whether it was in the fit or came later. A worker's quality is the probability that they
    are right about an item drawn from those of the fit. There is no confusion matrix, because a worker's errors depend
    on the item.

    What was known of a worker before counts as seen on items of average difficulty. An item's weight multiplies all it
    says about workers; a worker's weight, all votes of theirs. Items without votes have equal shares, workers without
    votes the average ability.

    Results have the same bytes with any number of threads and in any order of votes, unless rounding of the
    objective's last bits ends the iterations one sooner or later.

    Attributes:
        max_iter: the most iterations; at least 1.
        tol: stops when an iteration gains less than this a vote, in nats; 0 always runs ``max_iter`` iterations.
        m_steps: how often an M-step improves all difficulties and then all abilities; at least 1.
        seed: breaks ties.
        threads: how many threads; by default as many as the process may use.
        refit_growth: a stream fits anew when its votes have grown by this factor since the last fit.
    """

    max_iter: int = 100
    tol: float = 1e-6
    m_steps: int = 2
    seed: int = 0
    threads: int | None = None
    refit_growth: float = 1.25

    def __post_init__(self) -> None:
        check_parameters(self)
        if self.m_steps < 1:
            raise ValueError(f"m_steps is {self.m_steps!r}; expected at least 1")

    @property
    def name(self) -> str:
        """The registry's name."""
        return "glad"

    def fit(self, annotations: Votes) -> GLADResult:
        """Learn all workers, then label all items."""
        votes = annotations
        with Blocks(votes, self.threads) as blocks:
            fit = _Fit(blocks, self.m_steps)
            objective = iterate(fit.step, max_iter=self.max_iter, tol=self.tol, n_votes=votes.n_votes)
            posterior, easiness = _labeled(blocks, fit.ability)
        voted = easiness[np.diff(votes.indptr) > 0]
        grid = np.quantile(voted, (np.arange(_EASINESS_GRID) + 0.5) / _EASINESS_GRID)
        learned = Learned({"ability": fit.ability}, {"easiness": grid, "objective": np.array(objective)})
        return self._result(votes, posterior, easiness, learned)

    def state(self) -> GLADState:
        """Start an empty stream."""
        return GLADState(self)

    def label(self, votes: Votes, learned: Learned) -> GLADResult:
        """Label items under the abilities that were learned before; their difficulties are found from their votes."""
        with Blocks(votes, self.threads) as blocks:
            posterior, easiness = _labeled(blocks, learned.workers["ability"])
        return self._result(votes, posterior, easiness, learned)

    def _result(
        self, votes: Votes, posterior: NDArray[np.float64], easiness: NDArray[np.float64], learned: Learned
    ) -> GLADResult:
        ability = learned.workers["ability"]
        quality = np.zeros(votes.n_workers)
        for b in learned.shared["easiness"]:
            quality += np.exp(-np.logaddexp(0, -ability * math.exp(b))) / _EASINESS_GRID
        return GLADResult(
            items=votes.items,
            classes=votes.classes,
            workers=votes.workers,
            label_codes=choose_labels(posterior, votes.items, votes.classes, self.seed),
            posterior=posterior,
            worker_quality=quality,
            objective=learned.shared["objective"],
            n_iter=learned.shared["objective"].size,
            learned=learned,
            ability=ability,
            difficulty=np.exp(-easiness),
        )


class GLADState(LearningState[GLAD]):
    """The stream of ``GLAD``: abilities as of the last fit, difficulties from all votes of the items asked for."""

    method_type = GLAD


class _Fit:
    """The arrays of one fit, and its steps."""

    def __init__(self, blocks: Blocks, m_steps: int) -> None:
        votes = blocks.votes
        self.blocks = blocks
        self.m_steps = m_steps
        self.ability = np.full(votes.n_workers, MEAN)
        self.easiness = np.full(votes.n_items, MEAN)
        self.posterior = np.empty((votes.n_items, votes.n_classes))
        self.sums = np.zeros((blocks.threads, 2 * votes.n_workers), np.int64)
        self.known_right, self.known_wrong = np.zeros((2, votes.n_workers))
        if votes.history is not None:
            self.known_right = votes.history.trace(axis1=1, axis2=2)
            self.known_wrong = votes.history.sum(axis=(1, 2)) - self.known_right

    def step(self) -> float:
        """E-step, then M-step; returns the objective of the parameters before it."""
        x = self.ability * math.exp(MEAN)
        known = self.known_right * np.logaddexp(0, -x) + self.known_wrong * np.logaddexp(0, x)
        penalty = math.fsum(known) + math.fsum((self.ability - MEAN) ** 2) / 2
        objective = self._round(expect=True) - penalty
        for _ in range(self.m_steps - 1):
            self._round(expect=False)
        return objective

    def _round(self, *, expect: bool) -> float:
        """Improve all easiness, then all abilities; returns the objective's part of items before that if ``expect``."""
        blocks, votes = self.blocks, self.blocks.votes
        # One vote adds at most beta / 2 to the slope and beta**2 / 4 to the curvature, and the slope has a sign.
        beta = 2.0 ** math.ceil((float(self.easiness.max()) + MAX_STEP) / math.log(2))
        magic = np.array([blocks.magic * beta, blocks.magic * beta**2 / 4])

        def work(thread: int, start: int, stop: int) -> float:
            return improve(
                votes.indptr, votes.codes, votes.gold, self.ability, blocks.worker_weight, blocks.item_weight,
                self.easiness, self.posterior, self.sums[thread], magic[0], magic[1], expect, start, stop,
            )  # fmt: skip

        value = math.fsum(blocks.over_items(work)) * blocks.scale
        slope, curve = self.sums.sum(axis=0).reshape(-1, 2).T * (magic * (2.0**-52 * blocks.scale))[:, None]
        self.sums[:] = 0
        if votes.worker_weight is not None:
            slope, curve = slope * votes.worker_weight, curve * votes.worker_weight
        beta = math.exp(MEAN)  # of the items of the history
        x = np.maximum(np.abs(self.ability) * beta, SMALL)
        slope += (self.known_right - self.known_wrong) * beta / 2
        curve += (self.known_right + self.known_wrong) * beta**2 * np.tanh(x / 2) / (2 * x)
        self.ability = (slope + MEAN) / (curve + 1)
        return value


def _labeled(blocks: Blocks, ability: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return posterior, shape (n_items, K), and easiness, shape (n_items,), of all items under these abilities."""
    votes = blocks.votes
    posterior = np.empty((votes.n_items, votes.n_classes))
    easiness = np.full(votes.n_items, MEAN)

    def work(_thread: int, start: int, stop: int) -> None:
        label(votes.indptr, votes.codes, votes.gold, ability, blocks.worker_weight, easiness, posterior, start, stop)

    blocks.over_items(work)
    return posterior, easiness
