"""Dawid-Skene: each worker has a confusion matrix, learned together with the labels.

A. P. Dawid and A. M. Skene, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm",
Applied Statistics 28 (1979). The arithmetic stands in ``em.py``.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from voxpop.consolidation.votes.engine import Engine, posterior_under
from voxpop.consolidation.votes.learning import LearningState
from voxpop.consolidation.votes.result import Learned, VoteResult
from voxpop.consolidation.votes.ties import choose_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxpop.consolidation.votes.table import Votes

__all__ = ["DawidSkene", "DawidSkeneState"]


@dataclasses.dataclass(frozen=True)
class DawidSkene:
    """Expectation-maximisation with a confusion matrix a worker, shrunk towards what all workers do.

    Starts from the vote shares. Each row of each worker's matrix has a Dirichlet prior worth ``smoothing`` answers,
    spread like the answers of all workers together against the vote shares. Workers with few votes are thus
    believed like the average worker, and the method does not fall below majority for want of data. The prior is
    fixed before the first iteration, so the objective, log likelihood plus log prior, never falls.

    With ``smoothing=0`` this is the method as published in 1979, without any prior.

    Results have the same bytes with any number of threads. Votes, workers and items in another order give the same
    posteriors, unless rounding of the objective's last bits ends the iterations one sooner or later.

    Attributes:
        max_iter: the most iterations (E-steps); at least 1.
        tol: stops when an iteration gains less than this a vote, in nats; 0 always runs ``max_iter`` iterations.
        smoothing: weight of the prior in answers a worker and true class; 0 for none.
        seed: breaks ties.
        threads: how many threads; by default as many as the process may use.
        dtype: of the posterior in the result. The arithmetic is always float64, which is as fast.
        refit_growth: a stream fits anew when its votes have grown by this factor since the last fit.
    """

    max_iter: int = 100
    tol: float = 1e-6
    smoothing: float = 4.0
    seed: int = 0
    threads: int | None = None
    dtype: Literal["float64", "float32"] = "float64"
    refit_growth: float = 1.25

    def __post_init__(self) -> None:
        checks = (
            ("max_iter", self.max_iter >= 1, "at least 1"),
            ("tol", self.tol >= 0, "0 or more"),
            ("smoothing", 0 <= self.smoothing < math.inf, "0 or more"),
            ("threads", self.threads is None or self.threads >= 1, "at least 1, or None for all"),
            ("dtype", self.dtype in {"float64", "float32"}, "'float64' or 'float32'"),
            ("refit_growth", self.refit_growth >= 1, "at least 1"),
        )
        for name, good, expected in checks:
            if not good:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected {expected}")

    @property
    def name(self) -> str:
        """The registry's name."""
        return "dawid_skene"

    def fit(self, annotations: Votes) -> VoteResult:
        """Label all items and learn all workers.

        The posterior is exactly the E-step under the returned ``confusion`` and ``class_prior``, and the last entry
        of ``objective`` is their value. A worker's quality is the probability that they are right about an item of
        unknown class. Items without votes get the class prior.

        Raises:
            VotesError: the confusion matrices would not fit in memory.
        """
        votes = annotations
        objective: list[float] = []
        with Engine(votes, smoothing=self.smoothing, threads=self.threads) as engine:
            for _ in range(self.max_iter):
                engine.maximise()
                objective.append(engine.expect())
                gain = objective[-1] - objective[-2] if len(objective) > 1 else math.inf
                if self.tol > 0 and gain <= self.tol * engine.worth:
                    break
            return self._result(
                votes,
                engine.posterior(),
                confusion=engine.confusion(),
                class_prior=engine.prior,
                objective=np.array(objective),
            )

    def state(self) -> DawidSkeneState:
        """Start an empty stream."""
        return DawidSkeneState(self)

    def label(self, votes: Votes, learned: Learned) -> VoteResult:
        """Return the E-step under the matrices and the class prior that were learned before."""
        confusion, class_prior = learned.workers["confusion"], learned.shared["class_prior"]
        return self._result(
            votes,
            posterior_under(votes, confusion, class_prior),
            confusion=confusion,
            class_prior=class_prior,
            objective=learned.shared["objective"],
        )

    def _result(
        self,
        votes: Votes,
        posterior: NDArray[Any],
        *,
        confusion: NDArray[np.float64],
        class_prior: NDArray[np.float64],
        objective: NDArray[np.float64],
    ) -> VoteResult:
        return VoteResult(
            items=votes.items,
            classes=votes.classes,
            workers=votes.workers,
            label_codes=choose_labels(posterior, votes.items, votes.classes, self.seed),
            posterior=posterior.astype(self.dtype, copy=False),
            worker_quality=np.einsum("k,wkk->w", class_prior, confusion),
            confusion=confusion,
            class_prior=class_prior,
            objective=objective,
            n_iter=objective.size,
            learned=Learned({"confusion": confusion}, {"class_prior": class_prior, "objective": objective}),
        )


class DawidSkeneState(LearningState[DawidSkene]):
    """The stream of ``DawidSkene``: an E-step under the workers' matrices as of the last fit."""

    method_type = DawidSkene
