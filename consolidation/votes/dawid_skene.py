"""Dawid-Skene: each worker has a confusion matrix, learned together with the labels.

A. P. Dawid and A. M. Skene, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm",
Applied Statistics 28 (1979). The arithmetic stands in ``em.py``.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from voxpop.consolidation.votes.engine import Engine, cells_of, posterior_under
from voxpop.consolidation.votes.result import VoteResult
from voxpop.consolidation.votes.state import VoteState
from voxpop.consolidation.votes.ties import choose_labels

if TYPE_CHECKING:
    from collections.abc import Iterable

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
                if self.tol > 0 and gain < self.tol * votes.n_votes:
                    break
            return self.result(
                votes,
                engine.posterior(),
                confusion=engine.confusion(),
                class_prior=engine.prior,
                objective=np.array(objective),
            )

    def state(self) -> DawidSkeneState:
        """Start an empty stream."""
        return DawidSkeneState(self)

    def result(
        self,
        votes: Votes,
        posterior: NDArray[Any],
        *,
        confusion: NDArray[np.float64],
        class_prior: NDArray[np.float64],
        objective: NDArray[np.float64],
    ) -> VoteResult:
        """Put names and labels to arrays; ``fit`` and the stream end here."""
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
        )


class DawidSkeneState(VoteState[DawidSkene]):
    """The stream of ``DawidSkene``.

    Labels are an E-step under the workers' matrices as of the last fit, over all votes of the items asked for. The
    stream fits anew by itself when its votes have grown by ``refit_growth``, or when a class was added; ``refit``
    does so at once, and gives exactly what the batch gives. Workers who came after the last fit count as average.
    """

    method_type = DawidSkene

    def __init__(self, method: DawidSkene) -> None:
        super().__init__(method)
        self._fitted: _Fitted | None = None

    def refit(self) -> VoteResult:
        """Fit all votes anew and return the result; equal to ``method.fit(votes())``.

        Raises:
            VotesError: there are no votes yet.
        """
        votes = self._log.votes()
        result = self.method.fit(votes)
        self._fitted = _Fitted.of(result, votes.n_votes, self._log.worker_ids())
        return result

    def posterior(self, items: Iterable[Any] | None = None) -> VoteResult:
        """Return labels and confidences of the items asked for, in that order; of all items if None.

        Raises:
            KeyError: nothing was said about one of the items.
            VotesError: there are no votes yet.
        """
        votes = self._log.votes(items)
        fitted = self._fitted
        if (
            fitted is None
            or fitted.classes != votes.classes.tolist()
            or self.n_votes >= fitted.n_votes * self.method.refit_growth > fitted.n_votes
            or (self.method.refit_growth == 1 and self.n_votes > fitted.n_votes)
        ):
            self.refit()
            fitted = self._fitted
            assert fitted is not None
        confusion, cells = fitted.workers(self._log.worker_ids())
        return self.method.result(
            votes,
            posterior_under(votes, cells, fitted.class_prior),
            confusion=confusion,
            class_prior=fitted.class_prior,
            objective=fitted.objective,
        )

    def _learned(self) -> dict[str, NDArray[Any]]:
        fitted = self._fitted
        if fitted is None or fitted.classes != self._log.class_names():
            return {}
        return {
            "fitted.n_votes": np.array([fitted.n_votes], np.int64),
            "fitted.confusion": fitted.by_id,
            "fitted.class_prior": fitted.class_prior,
            "fitted.objective": fitted.objective,
        }

    def _recall(self, arrays: dict[str, NDArray[Any]]) -> None:
        if "fitted.n_votes" in arrays:
            self._fitted = _Fitted(
                n_votes=int(arrays["fitted.n_votes"][0]),
                classes=self._log.class_names(),
                by_id=arrays["fitted.confusion"],
                class_prior=arrays["fitted.class_prior"],
                objective=arrays["fitted.objective"],
            )


@dataclasses.dataclass(eq=False)
class _Fitted:
    """What the last fit learned. ``by_id`` has the workers' matrices in order of arrival, which never changes."""

    n_votes: int
    classes: list[Any]
    by_id: NDArray[np.float64]
    class_prior: NDArray[np.float64]
    objective: NDArray[np.float64]
    _current: tuple[NDArray[np.float64], NDArray[np.int64]] | None = None

    @classmethod
    def of(cls, result: VoteResult, n_votes: int, worker_ids: NDArray[np.int64]) -> Self:
        assert result.confusion is not None
        assert result.class_prior is not None
        assert result.objective is not None
        by_id = np.empty_like(result.confusion)
        by_id[worker_ids] = result.confusion
        return cls(n_votes, result.classes.tolist(), by_id, result.class_prior, result.objective)

    def workers(self, worker_ids: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return matrices and cells of the workers with these ids; those who came later are the average worker."""
        if self._current is None or self._current[0].shape[0] != worker_ids.size:
            late = worker_ids.size - self.by_id.shape[0]
            average = np.broadcast_to(self.by_id.mean(axis=0), (late, *self.by_id.shape[1:]))
            confusion = np.concatenate([self.by_id, average])[worker_ids]
            self._current = (confusion, cells_of(confusion))
        return self._current
