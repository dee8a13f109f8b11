"""Simulated answers of one category an item: one-coin workers, spammers, people who decline or walk away.

One-coin: a worker says the true category with their own accuracy, else any other one, all alike (the symmetric case of
Dawid and Skene, 1979). Everything a worker does with an item is a pure function of (seed, worker, item). The text form
of a specification is read in ``simulator/spec.py``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
import numpy as np

from voxpop.broker.limits import MAX_CLAIM_ITEMS
from voxpop.consolidation.jit import kernel
from voxpop.simulator.behaviour import WHOLE_VISIT, arrivals, parse_network
from voxpop.simulator.counter import lognormal, uniform
from voxpop.simulator.crowd import Abandon, Action, Answer, CrowdError, Decline, Visit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["CategoryCrowd", "CategorySpec"]

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]

# Draws of ``counter`` for one worker and one item ...
TRUTH, DECLINES, ABANDONS, IS_RIGHT, WHICH, THINK = 0, 1, 2, 3, 4, 5
# ... and for a worker as such.
SPAM_RANK, FAVOURITE = 1, 2
NOBODY: Final = 2**62  # the truth belongs to no worker

ANSWERED, DECLINED, ABANDONED = 0, 1, 2
HONEST, UNIFORM, CONSTANT = 0, 1, 2
USUAL_CONCENTRATION: Final = 20.0  # of the Beta distribution: 0.8 on average gives a standard deviation of 0.09


class CategorySpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A crowd of people who choose one category for each item. Times are seconds of the crowd's own clock.

    Raises:
        CrowdError: a value is out of its range, or two do not go together; the message names the field.
    """

    workers: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 50
    accuracy: Share = 0.8  # mean over the workers who try
    accuracy_spread: Annotated[float, msgspec.Meta(ge=0, le=0.5)] | None = None  # standard deviation; None = usual
    spammers: Share = 0.0  # share of workers who do not look
    spam: Literal["uniform", "constant"] = "uniform"  # any category each time, or always the same one
    decline_rate: Share = 0.0  # of items, by each worker
    abandon_rate: Share = 0.0  # of items: the worker leaves, and answers it if it is still there when they come back
    return_seconds: Seconds = 600.0  # until a worker who left comes back
    think_seconds: Seconds = 6.0  # median time an item
    think_spread: Annotated[float, msgspec.Meta(ge=0, le=5)] = 0.5  # standard deviation of its logarithm
    arrive_seconds: Seconds = 60.0  # everybody comes within that time
    k: Annotated[int, msgspec.Meta(ge=1, le=MAX_CLAIM_ITEMS)] = 1  # items taken at once
    prior: tuple[Annotated[float, msgspec.Meta(ge=0)], ...] = ()  # weight of each category where truth is unknown
    network: str = "127.0.0.0/8"  # where they connect from
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0

    def __post_init__(self) -> None:
        for field in msgspec.inspect.type_info(CategorySpec).fields:  # type: ignore[attr-defined]  # of a Struct
            for kind in getattr(field.type, "types", (field.type,)):
                _check_bounds(field.name, getattr(self, field.name), kind)
        variance = self.accuracy * (1 - self.accuracy)
        if self.accuracy_spread and self.accuracy_spread**2 >= variance:
            raise CrowdError(
                f"accuracy_spread is {self.accuracy_spread}; with an accuracy of {self.accuracy} it must be below "
                f"{math.sqrt(variance):.3g}"
            )
        if self.prior and not 0 < sum(self.prior) < math.inf:
            raise CrowdError(f"prior is {self.prior}; expected weights of which at least one is above 0")
        parse_network(self.network)


class CategoryCrowd:
    """A simulated crowd for a job of single labels.

    Args:
        spec: who they are.
        categories: of the job.
        truth: the true category of each item by its index, None where it is not known. It is drawn by the spec's prior
            for those, and for items beyond its end; nothing is kept of drawn truth, so that the crowd's memory does not
            grow with the job.
        choices: the categories of items that have their own.

    Raises:
        CrowdError: fewer than two categories, a prior of another length, choices that are no categories of the job, a
            truth that is no category of its item.
    """

    def __init__(
        self,
        spec: CategorySpec,
        categories: Sequence[str],
        *,
        truth: Sequence[str | None] = (),
        choices: Mapping[int, Sequence[str]] | None = None,
    ) -> None:
        if len(categories) < 2:
            raise CrowdError(f"categories: {len(categories)} given; a simulated crowd chooses among at least 2")
        if spec.prior and len(spec.prior) != len(categories):
            raise CrowdError(f"prior has {len(spec.prior)} weights; the job has {len(categories)} categories")
        self.spec = spec
        self.categories = tuple(categories)
        self._choices = {item: tuple(names) for item, names in (choices or {}).items()}
        self._cumulative = self._cumulate(self.categories)
        self._priors = {names: self._cumulate(names) for names in set(self._choices.values())}
        self._truth = self._coded(truth)
        digits = len(str(spec.workers))
        self.workers: tuple[str, ...] = tuple(f"sim-{index + 1:0{digits}d}" for index in range(spec.workers))
        self._indexes = {worker: index for index, worker in enumerate(self.workers)}
        self.accuracies = _accuracies(spec)
        self._kinds = _kinds(spec)
        self._left: set[tuple[int, int]] = set()
        self._visits = iter(
            arrivals(self.workers, seed=spec.seed, arrive_seconds=spec.arrive_seconds, network=spec.network, k=spec.k)
        )

    def next(self, now: float) -> Visit | None:
        """Everybody comes once, within ``arrive_seconds``, and stays while there is work."""
        del now
        return next(self._visits, None)

    def answer(self, worker: str, item: int) -> Action:
        """Return what ``worker`` does with the item. An item that they walked away from once, they answer next time."""
        spec, index = self.spec, self._indexes[worker]
        names, cumulative, truth = self._asked(item)
        kind, place, seconds = _act(
            spec.seed, index, item, truth, cumulative, self.accuracies[index], self._kinds[index],
            spec.decline_rate, spec.abandon_rate, spec.think_seconds, spec.think_spread,
        )  # fmt: skip
        if kind == DECLINED:
            return Decline(seconds)
        if kind == ABANDONED and (index, item) not in self._left:
            self._left.add((index, item))
            return Abandon(seconds, spec.return_seconds)
        return Answer({"label": names[place]}, seconds)

    def true_category(self, item: int) -> str:
        """Return the item's true category, known or drawn."""
        names, cumulative, truth = self._asked(item)
        return names[_true_place(self.spec.seed, item, truth, cumulative)]

    def codes(self, workers: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return what workers (by index) say about items, both of shape (n,): places in ``categories``, int32.

        The same as ``answer``, many at once; -1 where the worker declines. Items with choices of their own are refused.
        """
        if self._choices:
            raise CrowdError(f"choices: {len(self._choices)} items have their own; ask for their answers one by one")
        spec = self.spec
        return _act_many(
            spec.seed, workers, items, self._truth, self._cumulative, self.accuracies, self._kinds, spec.decline_rate
        )

    def _asked(self, item: int) -> tuple[tuple[str, ...], NDArray[np.float64], int]:
        """The item's categories, their cumulated prior, and the place of its truth among them (-1 = drawn)."""
        truth = int(self._truth[item]) if item < self._truth.size else -1
        names = self._choices.get(item)
        if names is None:
            return self.categories, self._cumulative, truth
        return names, self._priors[names], truth

    def _cumulate(self, names: Sequence[str]) -> NDArray[np.float64]:
        if not names:
            raise CrowdError("choices: an item has no categories at all; leave it out, or give it at least one")
        weights = dict(zip(self.categories, self.spec.prior or [1.0] * len(self.categories), strict=True))
        for name in names:
            if name not in weights:
                raise CrowdError(f"choices: {name!r} is not among the job's {len(weights)} categories")
        summed = np.cumsum([weights[name] for name in names], dtype=np.float64)
        if not summed[-1]:  # a prior that rules all of an item's own categories out says nothing about them
            summed = np.arange(1.0, len(names) + 1)
        return np.asarray(summed / summed[-1])

    def _coded(self, truth: Sequence[str | None]) -> NDArray[np.int32]:
        places = {name: place for place, name in enumerate(self.categories)}
        codes = np.full(len(truth), -1, np.int32)
        for item, name in enumerate(truth):
            own = self._choices.get(item)
            if name is None:
                continue
            known = places if own is None else {choice: place for place, choice in enumerate(own)}
            if name not in known:
                raise CrowdError(
                    f"truth of item {item} is {name!r}, which is not among its {len(known)} categories "
                    f"({', '.join(map(repr, list(known)[:5]))}{', ...' if len(known) > 5 else ''})"
                )
            codes[item] = known[name]
        return codes


def _check_bounds(name: str, value: Any, kind: Any) -> None:
    low, high = getattr(kind, "ge", None), getattr(kind, "le", None)
    if low is not None and high is not None and value is not None and not low <= value <= high:
        raise CrowdError(f"{name} is {value}; expected {low} to {high}")


def _accuracies(spec: CategorySpec) -> NDArray[np.float64]:
    """Each worker's accuracy, from a Beta distribution with the spec's mean and spread; shape (workers,)."""
    mean, variance = spec.accuracy, spec.accuracy * (1 - spec.accuracy)
    if not variance or spec.accuracy_spread == 0:
        return np.full(spec.workers, mean)
    total = USUAL_CONCENTRATION if spec.accuracy_spread is None else variance / spec.accuracy_spread**2 - 1
    return np.random.default_rng(spec.seed).beta(mean * total, (1 - mean) * total, spec.workers)


def _kinds(spec: CategorySpec) -> NDArray[np.int8]:
    """Who spams: the exact share of the crowd, chosen by the seed; shape (workers,)."""
    kinds = np.full(spec.workers, HONEST, np.int8)
    ranks = [uniform(spec.seed, index, WHOLE_VISIT, SPAM_RANK) for index in range(spec.workers)]
    kinds[np.argsort(ranks)[: round(spec.spammers * spec.workers)]] = UNIFORM if spec.spam == "uniform" else CONSTANT
    return kinds


@kernel
def _true_place(seed: int, item: int, truth: int, cumulative: NDArray[np.float64]) -> int:
    if truth >= 0:
        return truth
    drawn = np.searchsorted(cumulative, uniform(seed, NOBODY, item, TRUTH), side="right")
    return min(int(drawn), cumulative.size - 1)


@kernel
def _place(
    seed: int, worker: int, item: int, truth: int, cumulative: NDArray[np.float64], accuracy: float, kind: int
) -> int:
    n = cumulative.size
    if kind == UNIFORM:
        return int(uniform(seed, worker, item, WHICH) * n)
    if kind == CONSTANT:
        return int(uniform(seed, worker, WHOLE_VISIT, FAVOURITE) * n)
    true = _true_place(seed, item, truth, cumulative)
    if n == 1 or uniform(seed, worker, item, IS_RIGHT) < accuracy:
        return true
    return (true + 1 + int(uniform(seed, worker, item, WHICH) * (n - 1))) % n


@kernel
def _act(
    seed: int,
    worker: int,
    item: int,
    truth: int,
    cumulative: NDArray[np.float64],
    accuracy: float,
    kind: int,
    decline_rate: float,
    abandon_rate: float,
    think_seconds: float,
    think_spread: float,
) -> tuple[int, int, float]:
    seconds = lognormal(seed, worker, item, THINK, think_seconds, think_spread)
    if uniform(seed, worker, item, DECLINES) < decline_rate:
        return DECLINED, -1, seconds
    place = _place(seed, worker, item, truth, cumulative, accuracy, kind)
    if uniform(seed, worker, item, ABANDONS) < abandon_rate:
        return ABANDONED, place, seconds
    return ANSWERED, place, seconds


@kernel
def _act_many(
    seed: int,
    workers: NDArray[np.int64],
    items: NDArray[np.int64],
    truth: NDArray[np.int32],
    cumulative: NDArray[np.float64],
    accuracies: NDArray[np.float64],
    kinds: NDArray[np.int8],
    decline_rate: float,
) -> NDArray[np.int32]:
    codes = np.empty(items.size, np.int32)
    for i in range(items.size):
        worker, item = workers[i], items[i]
        known = truth[item] if item < truth.size else -1
        codes[i] = -1
        if uniform(seed, worker, item, DECLINES) >= decline_rate:
            codes[i] = _place(seed, worker, item, known, cumulative, accuracies[worker], kinds[worker])
    return codes
