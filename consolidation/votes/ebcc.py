"""Enhanced Bayesian classifier combination: workers who make the same mistakes on the same items are not independent.

Y. Li, B. I. P. Rubinstein and T. Cohn, "Exploiting Worker Correlation for Label Aggregation in Crowdsourcing", ICML
2019. The steps stand in ``bayes.py``.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from voxpop.consolidation.votes.bayes import (
    Blocks,
    Priors,
    Variational,
    check_parameters,
    iterate,
    labeled,
    right_and_wrong,
)
from voxpop.consolidation.votes.learning import LearningState
from voxpop.consolidation.votes.ties import name_keys

if TYPE_CHECKING:
    from voxpop.consolidation.votes.result import Learned, VoteResult
    from voxpop.consolidation.votes.table import Votes

__all__ = ["EBCC", "EBCCState"]

_MAX_RESTARTS: Final = 2**20


@dataclasses.dataclass(frozen=True)
class EBCC:
    """Variational inference of classes with subtypes, and of a confusion matrix a worker and subtype.

    Items of a class are of ``subtypes`` kinds, say easy ones and those that everybody takes for another class. Given
    class and subtype workers are independent, so workers who err on the same items are not taken for that many
    witnesses. Priors of workers are those of ``IBCC``, for each subtype; history counts for each subtype in full, as
    nobody knows of which its items were. As the authors have it, the prior of the classes counts as many items as there
    are, spread like the vote shares.

    A fit starts from vote shares split between subtypes at random, ``restarts`` times, and the one with the highest
    objective counts. The random numbers hang on ``seed`` and the items' names, so the same votes in any order give the
    same labels.

    The posterior is the probability of each class, over all subtypes, under the expected logarithms of shares and
    matrices; for items without votes it is the expected share. ``confusion`` and ``class_prior`` of the result are
    expectations, and a worker's quality is the expected probability that they are right about an item of unknown class.
    The objective is the evidence lower bound in nats, given the prior of the classes, which has seen the vote shares,
    and without credit for subtypes that could change places. It never falls.

    Attributes:
        subtypes: of each class; at least 1. Those that are not needed stay empty.
        restarts: how many starts; at least 1. Time is proportional to it.
        max_iter: the most iterations of each; at least 1.
        tol: stops when an iteration gains less than this a vote, in nats; 0 always runs ``max_iter`` iterations.
        prior_right: answers with the true class, for each true class and subtype; above 0.
        prior_wrong: answers with each other class, for each true class and subtype; above 0.
        prior_class: items of each class that the prior counts at least; above 0.
        prior_subtypes: items of all subtypes of a class together; above 0. The smaller, the fewer are used.
        seed: makes the starts, and breaks ties.
        threads: how many threads; by default as many as the process may use.
        refit_growth: a stream fits anew when its votes have grown by this factor since the last fit.
    """

    subtypes: int = 10
    restarts: int = 10
    max_iter: int = 100
    tol: float = 1e-6
    prior_right: float = 4.0
    prior_wrong: float = 1.0
    prior_class: float = 1.0
    prior_subtypes: float = 0.1
    seed: int = 0
    threads: int | None = None
    refit_growth: float = 1.25

    def __post_init__(self) -> None:
        check_parameters(self, "prior_right", "prior_wrong", "prior_class", "prior_subtypes")
        for name, value in (("subtypes", self.subtypes), ("restarts", self.restarts)):
            if value < 1:
                raise ValueError(f"{name} is {value!r}; expected at least 1")

    @property
    def name(self) -> str:
        """The registry's name."""
        return "ebcc"

    def fit(self, annotations: Votes) -> VoteResult:
        """Label all items and learn all workers.

        The posterior is exactly the best one under what was learned, and ``objective`` is that of the chosen start;
        its last entry is the value of what is returned.

        Raises:
            VotesError: the confusion matrices would not fit in memory.
        """
        votes = annotations
        priors = Priors(
            right_and_wrong(votes.n_classes, self.prior_right, self.prior_wrong),
            self.prior_class,
            classes_as_voted=True,
            n_subtypes=self.subtypes,
            of_subtype=self.prior_subtypes / self.subtypes,
        )
        keys = name_keys(votes.items)
        best: Learned | None = None
        with Blocks(votes, self.threads) as blocks:
            model = Variational(blocks, priors)
            for restart in range(self.restarts if self.subtypes > 1 else 1):
                model.start(keys, (self.seed * _MAX_RESTARTS + restart) % 2**64)
                objective = iterate(model.step, max_iter=self.max_iter, tol=self.tol, n_votes=votes.n_votes)
                if best is None or objective[-1] > best.shared["objective"][-1]:
                    best = model.beliefs.learned(objective)
        assert best is not None  # there is at least one start
        return self.label(votes, best)

    def state(self) -> EBCCState:
        """Start an empty stream."""
        return EBCCState(self)

    def label(self, votes: Votes, learned: Learned) -> VoteResult:
        """Return the posteriors under the counts that were learned before."""
        return labeled(votes, learned, seed=self.seed, threads=self.threads)


class EBCCState(LearningState[EBCC]):
    """The stream of ``EBCC``: posteriors under the workers' counts as of the last fit."""

    method_type = EBCC
