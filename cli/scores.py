"""What a job's answers amount to: methods scored against gold, and a row for each worker. Draws and prints nothing."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from voxpop.consolidation.calibration import accuracy, ece, log_loss
from voxpop.consolidation.method import get_method

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from voxpop.consolidation.votes.result import VoteResult
    from voxpop.consolidation.votes.table import Votes

__all__ = [
    "COMPARED",
    "METHOD_TITLES",
    "CountedAnswer",
    "ItemLabel",
    "MethodScore",
    "WorkerRow",
    "fit_methods",
    "method_title",
    "printable",
    "score",
    "score_labels",
    "votes_of",
    "wilson",
    "worker_rows",
]

COMPARED: Final = ("majority", "dawid_skene")
METHOD_TITLES: Final = {"majority": "Majority vote", "dawid_skene": "Dawid-Skene", "output": "As published"}
Z_95: Final = 1.959964  # standard normal quantile of a two-sided 95 % interval


@dataclasses.dataclass(frozen=True)
class CountedAnswer:
    """One answer that counts towards a label."""

    item: str
    worker: str
    label: str
    at_seconds: float  # when it was submitted, after the job's start
    seconds: float | None = None  # active time; None if the client did not measure it


@dataclasses.dataclass(frozen=True)
class ItemLabel:
    """What the job's output says about one item."""

    item: str
    label: str = ""
    confidence: float = math.nan
    reason: str = ""  # why there is no label


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


def votes_of(answers: Sequence[CountedAnswer], classes: Sequence[str] | None = None) -> Votes:
    """Return the answers as a vote table; raises VotesError as ``Votes.from_columns``."""
    from voxpop.consolidation.votes.table import Votes  # brings the compiler

    return Votes.from_columns(
        [answer.item for answer in answers],
        [answer.worker for answer in answers],
        [answer.label for answer in answers],
        classes=classes,
    )


def fit_methods(votes: Votes, methods: Sequence[str] = COMPARED) -> dict[str, VoteResult]:
    """Return the result of each method, by the method's name."""
    results: dict[str, Any] = {name: get_method(name).fit(votes) for name in methods}
    return results


def score(method: str, result: VoteResult, gold: Mapping[str, str], answers: str) -> MethodScore:
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


def score_labels(labels: Sequence[ItemLabel], gold: Mapping[str, str], answers: str) -> MethodScore:
    """Compare a job's published labels with gold. Items without a label count as wrong; log loss needs a posterior."""
    known = [label for label in labels if label.item in gold]
    correct = np.array([not label.reason and label.label == gold[label.item] for label in known], dtype=np.bool_)
    with_confidence = np.array([math.isfinite(label.confidence) for label in known], dtype=np.bool_)
    confidence = np.array([label.confidence for label in known], dtype=np.float64)
    low, high = wilson(int(correct.sum()), len(known))
    return MethodScore(
        method="output",
        answers=answers,
        n=len(known),
        accuracy=float(correct.mean()) if known else math.nan,
        low=low,
        high=high,
        ece=ece(confidence[with_confidence], correct[with_confidence]),
        log_loss=math.nan,
        confidence=confidence,
        correct=correct,
    )


def wilson(right: int, n: int) -> tuple[float, float]:
    """Return the 95 % score interval of a share (Wilson, JASA 1927); NaN without observations."""
    if not n:
        return math.nan, math.nan
    share, z2 = right / n, Z_95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def worker_rows(answers: Sequence[CountedAnswer], result: VoteResult, gold: Mapping[str, str]) -> list[WorkerRow]:
    """Return a row for each worker, the best estimated quality first."""
    given: dict[str, list[CountedAnswer]] = defaultdict(list)
    for answer in answers:
        given[answer.worker].append(answer)
    rows = []
    for worker, quality in zip(result.workers.tolist(), result.worker_quality.tolist(), strict=True):
        mine = given[worker]
        checked = [answer.label == gold[answer.item] for answer in mine if answer.item in gold]
        spent = [answer.seconds for answer in mine if answer.seconds is not None]
        rows.append(
            WorkerRow(
                worker=worker,
                answers=len(mine),
                quality=quality,
                gold_answers=len(checked),
                gold_accuracy=sum(checked) / len(checked) if checked else math.nan,
                median_seconds=median(spent) if spent else math.nan,
            )
        )
    return sorted(rows, key=lambda row: (math.inf if math.isnan(row.quality) else -row.quality, row.worker))
