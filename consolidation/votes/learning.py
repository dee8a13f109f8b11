"""The stream of a method that learns of workers: labels under what the last fit learned, and a new fit now and then."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from voxpop.consolidation.votes.result import Learned
from voxpop.consolidation.votes.state import VoteState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from voxpop.consolidation.method import State
    from voxpop.consolidation.votes.result import VoteResult
    from voxpop.consolidation.votes.table import Votes

__all__ = ["Learner", "LearningState"]


class Learner(Protocol):
    """A vote method whose ``fit`` says what it learned, so that later votes can be labeled without another fit."""

    @property
    def name(self) -> str:
        """The registry's name."""

    @property
    def refit_growth(self) -> float:
        """A stream fits anew when its votes have grown by this factor since the last fit; at least 1."""

    def fit(self, annotations: Votes) -> VoteResult:
        """Label all items and learn all workers; ``learned`` of the result is set."""

    def label(self, votes: Votes, learned: Learned) -> VoteResult:
        """Label items under what was learned before, one entry of ``learned.workers`` for each worker of ``votes``."""

    def state(self) -> State[Votes, VoteResult]:
        """Start an empty stream."""


M = TypeVar("M", bound=Learner)


class LearningState(VoteState[M]):
    """The stream of a ``Learner``; a subclass names the method's class as ``method_type`` and nothing else.

    The stream fits anew by itself when its votes have grown by ``refit_growth``, or when a class was added; ``refit``
    does so at once, and gives exactly what the batch gives. In between, labels are made of all votes of the items asked
    for, under what the last fit learned. Workers who came after it count as average.
    """

    def __init__(self, method: M) -> None:
        super().__init__(method)
        self._fit: _Fit | None = None

    def refit(self) -> VoteResult:
        """Fit all votes anew and return the result; equal to ``method.fit(votes())``.

        Raises:
            VotesError: there are no votes yet.
        """
        votes = self._log.votes()
        result = self.method.fit(votes)
        assert result.learned is not None  # what makes a method a Learner
        ids = self._log.worker_ids()
        by_id = {name: _placed(array, ids) for name, array in result.learned.workers.items()}
        self._fit = _Fit(votes.n_votes, votes.classes.tolist(), Learned(by_id, result.learned.shared))
        return result

    def posterior(self, items: Iterable[Any] | None = None) -> VoteResult:
        """Return labels and confidences of the items asked for, in that order; of all items if None.

        Raises:
            KeyError: nothing was said about one of the items.
            VotesError: there are no votes yet.
        """
        votes = self._log.votes(items)
        fit = self._fit
        if fit is None or fit.is_stale(votes.classes.tolist(), self.n_votes, self.method.refit_growth):
            self.refit()
            fit = self._fit
            assert fit is not None
        return self.method.label(votes, fit.of(self._log.worker_ids()))

    def _learned(self) -> dict[str, NDArray[Any]]:
        fit = self._fit
        if fit is None or fit.classes != self._log.class_names():
            return {}
        saved = {"fitted.n_votes": np.array([fit.n_votes], np.int64)}
        saved |= {f"fitted.workers.{name}": array for name, array in fit.by_id.workers.items()}
        return saved | {f"fitted.shared.{name}": array for name, array in fit.by_id.shared.items()}

    def _recall(self, arrays: dict[str, NDArray[Any]]) -> None:
        if "fitted.n_votes" not in arrays:
            return
        parts = {
            part: {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
            for part, prefix in (("workers", "fitted.workers."), ("shared", "fitted.shared."))
        }
        self._fit = _Fit(int(arrays["fitted.n_votes"][0]), self._log.class_names(), Learned(**parts))


@dataclasses.dataclass(eq=False)
class _Fit:
    """What the last fit learned; ``by_id`` has the workers in order of arrival, which never changes."""

    n_votes: int
    classes: list[Any]
    by_id: Learned
    _average: dict[str, NDArray[Any]] = dataclasses.field(default_factory=dict)  # worker
    _current: tuple[int, Learned] | None = None

    def is_stale(self, classes: list[Any], n_votes: int, growth: float) -> bool:
        return classes != self.classes or (n_votes > self.n_votes and n_votes >= self.n_votes * growth)

    def of(self, worker_ids: NDArray[np.int64]) -> Learned:
        """Return what is known of the workers with these ids; those who came later are the average worker."""
        if self._current is None or self._current[0] != worker_ids.size:
            workers = {}
            for name, array in self.by_id.workers.items():
                if name not in self._average:
                    self._average[name] = array.mean(axis=0, keepdims=True).astype(array.dtype)
                known = np.minimum(worker_ids, array.shape[0])
                workers[name] = np.concatenate([array, self._average[name]])[known]
            self._current = worker_ids.size, Learned(workers, self.by_id.shared)
        return self._current[1]


def _placed(array: NDArray[Any], ids: NDArray[np.int64]) -> NDArray[Any]:
    by_id = np.empty_like(array)
    by_id[ids] = array
    return by_id
