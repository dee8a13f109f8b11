"""What a method says about masks: one mask an item, how sure it is of each pixel, and how good each worker is.

What was decided is kept a pattern (see ``patterns.py``), not a pixel: images are made when they are asked for.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from voxpop.consolidation.masks.rle import Runs
from voxpop.consolidation.masks.table import known_place

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from voxpop.consolidation.masks.patterns import Patterns
    from voxpop.consolidation.masks.table import Masks

__all__ = ["Decision", "MaskResult", "Merged", "decided_by_share"]

Merged = Any  # an array of uint8, shape (height, width), or Runs


@dataclasses.dataclass(frozen=True, eq=False)
class Decision:
    """What was decided on the pixels of one item.

    Attributes:
        patterns: the patterns of its raters' answers.
        labels: the class of each pattern, uint8, shape (n_patterns,); K where nobody decided.
        posterior: the probability of each class, shape (n_patterns, K).
    """

    patterns: Patterns
    labels: NDArray[np.uint8]
    posterior: NDArray[np.float64]

    @property
    def certainty(self) -> NDArray[np.float64]:
        """Probability of the class decided on, 0 where none was, shape (n_patterns,)."""
        padded = np.append(self.posterior, np.zeros((self.labels.size, 1)), axis=1)
        return padded[np.arange(self.labels.size), self.labels]

    def expected_accuracy(self) -> float:
        """Return the expected share of pixels whose class is right."""
        counts = self.patterns.counts
        return float(counts @ self.certainty / counts.sum())

    def expected_iou(self) -> float:
        """Return expected intersection over expected union of the binary mask and the truth, 1 if both are empty."""
        counts, inside = self.patterns.counts, self.labels == 1
        foreground = counts * self.posterior[:, 1]
        union = float(counts[inside].sum() + foreground[~inside].sum())
        return float(foreground[inside].sum() / union) if union > 0 else 1.0

    def agreement(self) -> NDArray[np.float64]:
        """Return the share of pixels at which each rater says what was decided, shape (R,)."""
        counts = self.patterns.counts
        same = self.patterns.votes == self.labels[:, None]
        return np.asarray(counts @ same / counts.sum(), np.float64)

    def ious(self) -> NDArray[np.float64]:
        """Return intersection over union of each rater's binary mask with what was decided, shape (R,)."""
        counts, votes, inside = self.patterns.counts, self.patterns.votes == 1, (self.labels == 1)[:, None]
        union = counts @ (votes | inside)
        return np.where(union > 0, (counts @ (votes & inside)) / np.maximum(union, 1), 1.0)


def decided_by_share(
    masks: Masks, item: int, decide: Callable[[NDArray[np.int64], int], NDArray[np.uint8]]
) -> Decision:
    """Return the decision of a method for which a class is as probable as its share of the raters.

    ``decide`` returns the labels of patterns from the number of raters for each class, shape (n_patterns, K), and the
    place of the item.
    """
    patterns = masks.patterns(item)
    K = masks.classes.size
    voted = np.stack([(patterns.votes == label).sum(axis=1) for label in range(K)], axis=1)
    return Decision(patterns, decide(voted, item), voted / patterns.votes.shape[1])


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class MaskResult:
    """One mask an item. It keeps the masks that were merged: leave their arrays as they are as long as it is used.

    Attributes:
        masks: what was merged.
        decisions: returns what was decided on an item, from its place.
        merged: the mask of each item, uint8 of shape (height, width) or run lengths, if it was made without patterns.
        answer_quality: how good each answer is, 0..1, as the method understands it, shape (n_answers,); None for
            agreement with the result: intersection over union for binary masks, else the share of pixels.
        sensitivity: share of the true foreground that the answer has, as learned, shape (n_answers,); NaN where there
            is no foreground; None if it was not learned.
        specificity: share of the true background that the answer leaves out, likewise.
        confusion: probability of each answer (last axis) given the true class (middle axis), shape (n_answers, K, K);
            None if it was not learned.
        n_iter: iterations, int64, shape (n_items,); None if the method does not iterate.
    """

    masks: Masks
    decisions: Callable[[int], Decision]
    merged: tuple[Merged, ...] | None = None
    answer_quality: NDArray[np.float64] | None = None
    sensitivity: NDArray[np.float64] | None = None
    specificity: NDArray[np.float64] | None = None
    confusion: NDArray[np.float64] | None = None
    n_iter: NDArray[np.int64] | None = None

    @property
    def items(self) -> NDArray[Any]:
        """Names of the items, shape (n_items,)."""
        return self.masks.items

    @property
    def workers(self) -> NDArray[Any]:
        """Names of the workers, shape (n_workers,)."""
        return self.masks.workers

    @property
    def classes(self) -> NDArray[Any]:
        """Names of the classes, shape (K,)."""
        return self.masks.classes

    def mask(self, item: int) -> NDArray[np.uint8]:
        """Return an item's mask or label image from its place, uint8, shape (height, width)."""
        made = self._made(item)
        return made.to_mask() if isinstance(made, Runs) else made

    def runs(self, item: int) -> Runs:
        """Return an item's binary mask as run lengths; of a label image, everything but class 0."""
        made = self._made(item)
        return made if isinstance(made, Runs) else Runs.from_mask(made)

    def probability(self, item: int, label: int = 1) -> NDArray[np.float64]:
        """Return how probable it is that each pixel is of a class, foreground by default, shape (height, width)."""
        decision = self.decisions(item)
        return decision.patterns.image_of(decision.posterior[:, label])

    @functools.cached_property
    def confidence(self) -> NDArray[np.float64]:
        """How sure the method is of each item, 0..1, shape (n_items,).

        For binary masks expected intersection over expected union with the truth, for label images the expected share
        of right pixels, as far as the pixels' probabilities are right.
        """
        return np.array(
            [
                decision.expected_accuracy() if self.masks.form == "labels" else decision.expected_iou()
                for decision in map(self.decisions, range(self.masks.n_items))
            ]
        )

    @functools.cached_property
    def worker_quality(self) -> NDArray[np.float64]:
        """How good each worker is, 0..1: the mean quality of their answers, shape (n_workers,)."""
        quality = self.answer_quality
        if quality is None:
            labels = self.masks.form == "labels"
            decided = map(self.decisions, range(self.masks.n_items))
            quality = np.concatenate([one.agreement() if labels else one.ious() for one in decided])
        known = ~np.isnan(quality)
        worker, n = self.masks.worker[known], self.masks.n_workers
        with np.errstate(invalid="ignore"):
            return np.bincount(worker, quality[known], n) / np.bincount(worker, minlength=n)

    def of_items(self, items: Sequence[Any]) -> Self:
        """Return the result of these items, in this order; KeyError for one that is not known."""
        place = {name: i for i, name in enumerate(self.items.tolist())}
        chosen = [known_place(place, name) for name in items]
        rows = np.array([row for item in chosen for row in self.masks.answers(item)], np.int64)
        by_answer = {
            name: None if (column := getattr(self, name)) is None else column[rows]
            for name in ("answer_quality", "sensitivity", "specificity", "confusion")
        }
        return dataclasses.replace(
            self,
            masks=self.masks.of_items(items),
            decisions=lambda item: self.decisions(chosen[item]),
            merged=None if self.merged is None else tuple(self.merged[item] for item in chosen),
            n_iter=None if self.n_iter is None else self.n_iter[chosen],
            **by_answer,
        )

    def _made(self, item: int) -> Merged:
        if self.merged is not None:
            return self.merged[item]
        decision = self.decisions(item)
        return decision.patterns.mask_of(decision.labels)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.masks.n_items} items, {self.masks.n_workers} workers, {self.masks.form})"
