"""Independent Bayesian classifier combination: Dawid-Skene's model, averaged over all it could have learned.

H.-C. Kim and Z. Ghahramani, "Bayesian Classifier Combination", AISTATS 2012; variational as in E. Simpson, S. Roberts,
I. Psorakis and A. Smith, "Dynamic Bayesian Combination of Multiple Imperfect Classifiers", 2013. The steps stand in
``bayes.py``.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from voxpop.consolidation.votes.result import Learned, VoteResult
    from voxpop.consolidation.votes.table import Votes

__all__ = ["IBCC", "IBCCState"]


@dataclasses.dataclass(frozen=True)
class IBCC:
    """Variational inference of class shares and of a confusion matrix a worker, all with Dirichlet priors.

    Before any vote each worker is believed to have answered items of each class: ``prior_right`` times right and
    ``prior_wrong`` times with each of the other classes; history adds to that. Few votes thus move a worker little,
    and how little is known of them tempers their votes. The defaults are those of Li, Rubinstein and Cohn (ICML 2019).
    With many classes they expect much error: of 10 classes, 4 right answers in 13.

    The posterior is the probability of each class under the expected logarithms of shares and matrices; for items
    without votes it is the expected share. ``confusion`` and ``class_prior`` of the result are expectations, and a
    worker's quality is the expected probability that they are right about an item of unknown class. Workers without
    votes are as the prior and their history have them.

    The objective is the evidence lower bound in nats: the log probability of all votes is at least that. It never
    falls, and it can be compared with that of other priors and of ``EBCC``. Results have the same bytes with any
    number of threads, and votes in any order give the same posteriors, unless rounding of the objective's last bits
    ends the iterations one sooner or later.

    Attributes:
        max_iter: the most iterations; at least 1.
        tol: stops when an iteration gains less than this a vote, in nats; 0 always runs ``max_iter`` iterations.
        prior_right: answers with the true class, for each true class; above 0.
        prior_wrong: answers with each other class, for each true class; above 0.
        prior_class: items of each class; above 0.
        seed: breaks ties.
        threads: how many threads; by default as many as the process may use.
        refit_growth: a stream fits anew when its votes have grown by this factor since the last fit.
    """

    max_iter: int = 100
    tol: float = 1e-6
    prior_right: float = 4.0
    prior_wrong: float = 1.0
    prior_class: float = 1.0
    seed: int = 0
    threads: int | None = None
    refit_growth: float = 1.25

    def __post_init__(self) -> None:
        check_parameters(self, "prior_right", "prior_wrong", "prior_class")

    @property
    def name(self) -> str:
        """The registry's name."""
        return "ibcc"

    def fit(self, annotations: Votes) -> VoteResult:
        """Label all items and learn all workers, from the vote shares on.

        The posterior is exactly the best one under what was learned, and the last entry of ``objective`` its value.

        Raises:
            VotesError: the confusion matrices would not fit in memory.
        """
        votes = annotations
        priors = Priors(right_and_wrong(votes.n_classes, self.prior_right, self.prior_wrong), self.prior_class)
        with Blocks(votes, self.threads) as blocks:
            model = Variational(blocks, priors)
            model.start()
            objective = iterate(model.step, max_iter=self.max_iter, tol=self.tol, n_votes=votes.n_votes)
        return self.label(votes, model.beliefs.learned(objective))

    def state(self) -> IBCCState:
        """Start an empty stream."""
        return IBCCState(self)

    def label(self, votes: Votes, learned: Learned) -> VoteResult:
        """Return the posteriors under the counts that were learned before."""
        return labeled(votes, learned, seed=self.seed, threads=self.threads)


class IBCCState(LearningState[IBCC]):
    """The stream of ``IBCC``: posteriors under the workers' counts as of the last fit."""

    method_type = IBCC
