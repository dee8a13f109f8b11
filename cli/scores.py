"""What a job's answers amount to: methods scored against gold, and a row for each worker. Draws and prints nothing.

Answers are columns, 24 bytes each, so that a job of millions of them fits into memory. Items, workers and classes are
places in lists; two items may have the same name.
"""

from __future__ import annotations

import dataclasses
import math
from array import array
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import numpy as np

from voxpop.consolidation.calibration import accuracy, ece, log_loss
from voxpop.consolidation.method import get_method

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from voxpop.consolidation.votes.result import VoteResult
    from voxpop.consolidation.votes.table import Votes

__all__ = [
    "COMPARED",
    "METHOD_TITLES",
    "PUBLISHED",
    "Answers",
    "CountedAnswer",
    "Evaluation",
    "ItemLabel",
    "MethodScore",
    "WorkerRow",
    "evaluate",
    "fit_methods",
    "method_title",
    "printable",
    "score",
    "score_labels",
    "wilson",
    "worker_rows",
]

COMPARED: Final = ("majority", "dawid_skene")
QUALITY_METHOD: Final = "dawid_skene"  # says how good each worker is
PUBLISHED: Final = "output"  # in place of a method's name: the labels of the job's own output
METHOD_TITLES: Final = {"majority": "Majority vote", "dawid_skene": "Dawid-Skene", PUBLISHED: "As published"}
Z_95: Final = 1.959964  # standard normal quantile of a two-sided 95 % interval


class CountedAnswer(NamedTuple):
    """One answer that counts towards a label."""

    item: int  # its place among the job's items
    worker: str
    label: str
    at_seconds: float  # when it was submitted, after the job's start
    seconds: float | None = None  # active time; None if the client did not measure it


@dataclasses.dataclass(frozen=True, eq=False)
class Answers:
    """The answers that count, one a row of each column.

    Attributes:
        item: place among the job's items, shape (n,).
        worker: place in ``workers``, shape (n,).
        label: place in ``classes``, shape (n,).
        at_seconds: when it was submitted, after the job's start, shape (n,).
        seconds: active time, NaN if the client did not measure it, shape (n,).
        workers: everybody who answered, sorted.
        classes: the job's categories in their order.
    """

    item: NDArray[np.uint32]
    worker: NDArray[np.int64]
    label: NDArray[np.uint32]
    at_seconds: NDArray[np.float32]
    seconds: NDArray[np.float32]
    workers: Sequence[str]
    classes: Sequence[str]

    @classmethod
    def collect(cls, answers: Iterable[CountedAnswer], classes: Sequence[str]) -> Self:
        """Take answers from anywhere, one at a time; labels that are none of the classes raise KeyError."""
        columns = array("I"), array("I"), array("I"), array("f"), array("f")
        item, worker, label, at_seconds, seconds = columns
        places = {name: place for place, name in enumerate(classes)}
        seen: dict[str, int] = {}
        for one in answers:
            item.append(one.item)
            worker.append(seen.setdefault(one.worker, len(seen)))
            label.append(places[one.label])
            at_seconds.append(one.at_seconds)
            seconds.append(math.nan if one.seconds is None else one.seconds)
        workers = sorted(seen)
        rank = np.empty(len(seen), np.int64)
        rank[[seen[name] for name in workers]] = np.arange(len(seen))
        items, codes, labels, times, spent = (np.frombuffer(column, column.typecode) for column in columns)
        return cls(items, rank[codes], labels, times, spent, workers, classes)

    def __len__(self) -> int:
        return int(self.item.size)

    def votes(self) -> Votes:
        """Return the vote table of the items that have answers, each named by its place.

        Raises:
            VotesError: there are no answers.
        """
        from voxpop.consolidation.votes.table import Votes  # brings the compiler

        items, coded = np.unique(self.item, return_inverse=True)
        return Votes.from_coded(
            coded, self.worker, self.label, items=items.tolist(), workers=self.workers, classes=self.classes
        )


@dataclasses.dataclass(frozen=True, slots=True)
class ItemLabel:
    """What the job's output says about one item, and what gold says."""

    item: str  # its name, as people read it
    label: str = ""
    confidence: float = math.nan
    reason: str = ""  # why there is no label
    gold: str | None = None  # None: not known


@dataclasses.dataclass(frozen=True, eq=False)
class MethodScore:
    """One method on one set of answers against gold.

    Attributes:
        method: the registry's name.
        answers: which answers it saw, in words.
        n: items with gold.
        accuracy: share of their labels that equal gold; NaN without gold, as all that follow.
        low: lower end of the accuracy's 95 % interval (Wilson).
        high: upper end of it.
        ece: expected calibration error.
        log_loss: mean of ``-log(probability of the true class)``, nats.
        confidence: of the label of each item with gold, shape (n,).
        correct: whether it equals gold, shape (n,).
    """

    method: str
    answers: str
    n: int
    accuracy: float
    low: float
    high: float
    ece: float
    log_loss: float
    confidence: NDArray[np.float64]
    correct: NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class WorkerRow:
    """One worker: what they did, how good the method thinks they are, and how good they were where gold tells."""

    worker: str
    answers: int
    quality: float  # as the method estimates it, without gold; NaN if unknown
    gold_answers: int
    gold_accuracy: float  # NaN if none of their items has gold
    median_seconds: float  # a typical answer; NaN if not measured


def method_title(name: str) -> str:
    """Return a method's name as people read it."""
    return METHOD_TITLES.get(name, name)


def printable(text: str) -> str:
    """Return text that any page and any drawing can carry: control characters and lone surrogates become U+FFFD."""
    return "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text)


def fit_methods(votes: Votes, methods: Sequence[str] = COMPARED) -> dict[str, VoteResult]:
    """Return the result of each method, by the method's name."""
    results: dict[str, Any] = {name: get_method(name).fit(votes) for name in methods}
    return results


def score(method: str, result: VoteResult, gold: Mapping[Any, str], answers: str) -> MethodScore:
    """Compare a result's labels with gold, over the items that have any."""
    truth = result.gold_codes(gold)
    known = truth >= 0
    correct = np.asarray(result.label_codes[known] == truth[known])
    confidence = np.asarray(result.confidence[known], dtype=np.float64).clip(0.0, 1.0)
    n = int(known.sum())
    low, high = wilson(int(correct.sum()), n)
    return MethodScore(
        method=method,
        answers=answers,
        n=n,
        accuracy=accuracy(result.label_codes[known], truth[known]),
        low=low,
        high=high,
        ece=ece(confidence, correct),
        log_loss=log_loss(result.posterior[known], truth[known]),
        confidence=confidence,
        correct=correct,
    )


def score_labels(labels: Iterable[ItemLabel], answers: str) -> MethodScore:
    """Compare a job's published labels with gold, over the items that have both. Log loss needs a posterior: NaN."""
    known = [label for label in labels if label.gold is not None and not label.reason]
    correct = np.array([label.label == label.gold for label in known], dtype=np.bool_)
    confidence = np.array([label.confidence for label in known], dtype=np.float64)
    low, high = wilson(int(correct.sum()), len(known))
    return MethodScore(
        method=PUBLISHED,
        answers=answers,
        n=len(known),
        accuracy=float(correct.mean()) if known else math.nan,
        low=low,
        high=high,
        ece=ece(confidence, correct),
        log_loss=math.nan,
        confidence=confidence,
        correct=correct,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """A job's answers and labels, and what they are worth.

    Attributes:
        answers: the answers that count.
        labels: one an item, in the order of the items.
        per_item: how many answers an item the job asked for, in words.
        scores: of each compared method on the answers, over the items that have gold and a published label; empty if
            there are none.
        published: score of the published labels over the same items; None if there are none.
        workers: a row for each worker, the best estimated quality first.
    """

    answers: Answers
    labels: Sequence[ItemLabel]
    per_item: str
    scores: Sequence[MethodScore]
    published: MethodScore | None
    workers: Sequence[WorkerRow]


def evaluate(answers: Answers, labels: Sequence[ItemLabel], per_item: str) -> Evaluation:
    """Merge the answers with each method to compare, and score them and the published labels against gold."""
    results = fit_methods(answers.votes()) if len(answers) else {}
    truth = {place: label.gold for place, label in enumerate(labels) if label.gold is not None and not label.reason}
    return Evaluation(
        answers=answers,
        labels=labels,
        per_item=per_item,
        scores=[score(name, result, truth, per_item) for name, result in results.items()] if truth else [],
        published=score_labels(labels, per_item) if truth else None,
        workers=worker_rows(answers, results[QUALITY_METHOD], labels) if results else [],
    )


def wilson(right: int, n: int) -> tuple[float, float]:
    """Return the 95 % score interval of a share (Wilson, JASA 1927); NaN without observations."""
    if not n:
        return math.nan, math.nan
    share, z2 = right / n, Z_95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def worker_rows(answers: Answers, result: VoteResult, labels: Sequence[ItemLabel]) -> list[WorkerRow]:
    """Return a row for each worker, the best estimated quality first.

    Args:
        answers: at least one.
        result: of a method on them.
        labels: one an item, with gold where it is known.
    """
    count = len(answers.workers)
    place = {name: i for i, name in enumerate(answers.classes)}
    truth = np.array([-1 if one.gold is None else place.get(one.gold, len(place)) for one in labels], np.int64)
    expected = truth[answers.item]
    known = expected >= 0
    given = np.bincount(answers.worker, minlength=count)
    checked = np.bincount(answers.worker[known], minlength=count)
    right = np.bincount(answers.worker[known & (expected == answers.label)], minlength=count)
    times = _medians(answers.worker, answers.seconds, count)
    rows = [
        WorkerRow(
            worker=worker,
            answers=int(given[i]),
            quality=float(result.worker_quality[i]),
            gold_answers=int(checked[i]),
            gold_accuracy=float(right[i] / checked[i]) if checked[i] else math.nan,
            median_seconds=float(times[i]),
        )
        for i, worker in enumerate(answers.workers)
    ]
    return sorted(rows, key=lambda row: (math.inf if math.isnan(row.quality) else -row.quality, row.worker))


def _medians(group: NDArray[np.int64], values: NDArray[np.float32], count: int) -> NDArray[np.float64]:
    """Return the median of the values of each group, those that are NaN left out; NaN where none is left."""
    measured = np.isfinite(values)
    group, values = group[measured], values[measured]
    order = np.argsort(group, kind="stable")
    bounds = np.searchsorted(group[order], np.arange(count + 1))
    found = np.full(count, math.nan)
    for i in np.flatnonzero(np.diff(bounds)):
        found[i] = np.median(values[order[bounds[i] : bounds[i + 1]]])
    return found
