"""The default method: three opinions of different boldness, averaged, because no one method is right everywhere.

What was tried, and on which crowds, stands in ``docs/decisions/0005-auto.md``.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Final

import numpy as np

from voxpop.consolidation.votes.anchored import AnchoredModel, fit_anchored, label_anchored, vote_shares
from voxpop.consolidation.votes.learning import LearningState
from voxpop.consolidation.votes.one_coin import OneCoin
from voxpop.consolidation.votes.result import Learned, VoteResult
from voxpop.consolidation.votes.ties import choose_labels

if TYPE_CHECKING:
    from voxpop.consolidation.votes.table import Votes

__all__ = ["Auto", "AutoState"]

_PLAIN_SMOOTHING: Final = 4.0
_LEVELLED_SMOOTHING: Final = 16.0
_PLAIN_SHARE, _LEVELLED_SHARE, _VOTES_SHARE = 0.25, 0.5, 0.25
_PRIOR_VOTES: Final = 1.0  # what all items together say, beside an item's own votes
_MAX_CELLS: Final = 2**26  # answer probabilities of all workers, some 40 bytes each while fitting


@dataclasses.dataclass(frozen=True)
class Auto:
    """The mean of two models of workers and the vote shares; the method to take unless you know better.

    The models are Dawid-Skene's, anchored to the vote shares (``anchored.py``): one with a confusion matrix a worker,
    shrunk towards a worker of their ability, and one in which each class has an easy and a hard kind of item. The first
    is right where workers confuse classes, the second where items are hard for everybody; the shares, which know
    nothing of workers, keep both from being too sure. Posteriors are averaged 1 : 2 : 1. So its confidence is nearer to
    a probability than that of any one of them, and on sparse crowds its labels stay with the majority.

    The posterior is that mean under what was learned; gold items are certain. ``confusion``, ``class_prior`` and a
    worker's quality, the probability that they are right about an item of unknown class, are those of the first model.
    Items without votes get the mean of the shares of all items and the models' class priors. Where the matrices would
    not fit in memory (thousands of classes, or very many workers) the method is ``OneCoin``.

    Results have the same bytes with any number of threads.

    Attributes:
        max_iter: the most iterations of each model; at least 1.
        tol: a model stops when posteriors change by less than this an item; 0 always runs ``max_iter`` iterations.
        seed: breaks ties.
        threads: how many threads; by default as many as the process may use.
        refit_growth: a stream fits anew when its votes have grown by this factor since the last fit.
    """

    max_iter: int = 60
    tol: float = 1e-3
    seed: int = 0
    threads: int | None = None
    refit_growth: float = 1.25

    def __post_init__(self) -> None:
        checks = (
            ("max_iter", self.max_iter >= 1, "at least 1"),
            ("tol", 0 <= self.tol < math.inf, "0 or more"),
            ("threads", self.threads is None or self.threads >= 1, "at least 1, or None for all"),
            ("refit_growth", self.refit_growth >= 1, "at least 1"),
        )
        for name, good, expected in checks:
            if not good:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected {expected}")

    @property
    def name(self) -> str:
        """The registry's name."""
        return "auto"

    def fit(self, annotations: Votes) -> VoteResult:
        """Label all items and learn all workers."""
        votes = annotations
        if votes.n_workers * votes.n_classes**2 > _MAX_CELLS:
            return self._plain(votes)
        shares, given = vote_shares(votes)
        fits = [
            fit_anchored(
                votes, shares, given, levels=levels, smoothing=smoothing, max_iter=self.max_iter, tol=self.tol,
                threads=self.threads,
            )
            for levels, smoothing in ((1, _PLAIN_SMOOTHING), (2, _LEVELLED_SMOOTHING))
        ]  # fmt: skip
        voted = given > 0
        mean = shares[voted].mean(axis=0) if voted.any() else np.full(votes.n_classes, 1.0 / votes.n_classes)
        plain, levelled = fits
        learned = Learned(
            {"plain": plain.answers, "levelled": levelled.answers},
            {
                "plain_log_prior": plain.log_prior,
                "levelled_log_prior": levelled.log_prior,
                "class_of": levelled.class_of,
                "mean_shares": mean,
                "n_iter": np.array([plain.n_iter + levelled.n_iter], np.int64),
            },
        )
        return self.label(votes, learned)

    def state(self) -> AutoState:
        """Start an empty stream."""
        return AutoState(self)

    def label(self, votes: Votes, learned: Learned) -> VoteResult:
        """Return the mean of the three opinions under what was learned before."""
        if "plain" not in learned.workers:
            return OneCoin(seed=self.seed, threads=self.threads).label(votes, learned)
        K, shared = votes.n_classes, learned.shared
        n_iter = int(shared["n_iter"][0])
        plain = AnchoredModel(learned.workers["plain"], shared["plain_log_prior"], np.arange(K), n_iter)
        levelled = AnchoredModel(learned.workers["levelled"], shared["levelled_log_prior"], shared["class_of"], n_iter)
        shares, given = vote_shares(votes)
        shrunk = (shares * given[:, None] + _PRIOR_VOTES * shared["mean_shares"]) / (given[:, None] + _PRIOR_VOTES)
        posterior = (
            _PLAIN_SHARE * label_anchored(votes, plain)
            + _LEVELLED_SHARE * label_anchored(votes, levelled)
            + _VOTES_SHARE * shrunk
        )
        known = np.flatnonzero(votes.gold >= 0)
        posterior[known] = 0.0
        posterior[known, votes.gold[known]] = 1.0
        confusion = np.ascontiguousarray(plain.answers.transpose(0, 2, 1))
        class_prior = np.exp(plain.log_prior)
        return VoteResult(
            items=votes.items,
            classes=votes.classes,
            workers=votes.workers,
            label_codes=choose_labels(posterior, votes.items, votes.classes, self.seed),
            posterior=posterior,
            worker_quality=np.einsum("k,wkk->w", class_prior, confusion),
            confusion=confusion,
            class_prior=class_prior,
            n_iter=n_iter,
            learned=learned,
        )

    def _plain(self, votes: Votes) -> VoteResult:
        return OneCoin(seed=self.seed, threads=self.threads).fit(votes)


class AutoState(LearningState[Auto]):
    """The stream of ``Auto``: the mean of the three opinions under the models of the last fit."""

    method_type = Auto
