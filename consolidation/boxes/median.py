"""Boxes by clusters and their medians: everybody counts the same, as in the consensus of labeling services."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from voxpop.consolidation.boxes.arrange import arranged
from voxpop.consolidation.boxes.cluster import cluster_boxes
from voxpop.consolidation.boxes.merge import as_boxes, merged_boxes, parts_of, plurality
from voxpop.consolidation.boxes.result import BoxesResult, agreement_of_workers
from voxpop.consolidation.boxes.table import Boxes
from voxpop.consolidation.refit import RefitState

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MedianBoxes", "MedianBoxesState", "check_share", "only_member"]

_SLACK = 1e-9  # 3 of 10 reach a quorum of .3


@dataclasses.dataclass(frozen=True)
class MedianBoxes:
    """Boxes of different workers that overlap are one, with the medians of their edges and their most frequent class.

    A box stays if enough of the workers who looked at the item drew it. Somebody who found nothing has looked.

    The confidence says how probable it is that most people would draw the box: with ``v`` of ``n`` workers who did, and
    every share of all people taken to be equally likely beforehand, the share is above one half with the probability
    of at most ``v`` heads in ``n + 1`` throws of a coin. 7 of 7 give .996, 4 of 7 give .64, 2 of 3 give .69. It is
    multiplied by the share of the members that gave the class. A worker's quality is the F1 score of their boxes
    against the merged ones, their own part in them included.

    Attributes:
        quorum: the least share of the item's workers, 0 to 1.
        iou: least intersection over union of two boxes that may be one, above 0 and at most 1.
        merge: ``"median"`` or ``"mean"`` of the members' edges.
        same_class: whether only boxes of one class may be one; otherwise the class is voted on.
        seed: breaks ties between classes.
    """

    merges: ClassVar[str] = "boxes"

    quorum: float = 0.5
    iou: float = 0.4
    merge: Literal["median", "mean"] = "median"
    same_class: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_share("quorum", self.quorum, may_be_zero=True)
        check_share("iou", self.iou)
        if self.merge not in {"median", "mean"}:
            raise ValueError(f"merge is {self.merge!r}; expected 'median' or 'mean'")

    @property
    def name(self) -> str:
        """The registry's name."""
        return "box_median"

    def fit(self, annotations: Boxes) -> BoxesResult:
        """Merge the boxes of all items."""
        table = annotations
        clusters = cluster_boxes(table, self.iou, same_class=self.same_class)
        n_answers = np.diff(table.item_indptr)
        of_cluster = np.repeat(n_answers, np.diff(clusters.indptr))
        size = np.diff(clusters.member_indptr)
        chosen = np.flatnonzero(size >= self.quorum * of_cluster * (1 - _SLACK))
        labels, share = plurality(table, clusters, chosen, self.seed)
        confidence = _probability_of_most(size[chosen], of_cluster[chosen]) * share
        parts = parts_of(table, clusters)
        merged = np.empty((chosen.size, parts.shape[1]))
        merged_boxes(parts, clusters.member_indptr, chosen, self.merge == "median", merged)
        found = arranged(clusters, chosen, confidence)
        boxes, angle = as_boxes(merged[found.order], only_member(found.member_indptr, found.members), table)
        return BoxesResult(
            items=table.items,
            classes=table.classes,
            workers=table.workers,
            indptr=found.indptr,
            label_codes=labels[found.order],
            confidence=confidence[found.order],
            member_indptr=found.member_indptr,
            members=found.members,
            worker_quality=agreement_of_workers(table, found.members, found.indptr),
            boxes=boxes,
            angle=angle,
        )

    def state(self) -> MedianBoxesState:
        """Start an empty stream."""
        return MedianBoxesState(self)


class MedianBoxesState(RefitState[Boxes, BoxesResult]):
    """The stream of ``MedianBoxes``."""

    method_type = MedianBoxes
    table_type = Boxes


def check_share(name: str, value: float, *, may_be_zero: bool = False) -> None:
    """Complain about a parameter that has to be a share."""
    if not (0 < value <= 1 or (may_be_zero and value == 0)):
        raise ValueError(f"{name} is {value!r}; expected {'0' if may_be_zero else 'above 0'} to 1")


def only_member(member_indptr: NDArray[np.int64], members: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the member of each object that has only one, -1 for others."""
    if not members.size:
        return np.zeros(0, np.int64)
    return np.where(np.diff(member_indptr) == 1, members[member_indptr[:-1]], -1)


def _probability_of_most(marked: NDArray[np.int64], looked: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the probability that more than half of all people would mark what ``marked`` of ``looked`` did."""
    found = np.empty(marked.size)
    for n in np.unique(looked).tolist():
        tails = list(itertools.accumulate(math.comb(n + 1, v) for v in range(n + 1)))
        of_marked = np.array([tail / 2 ** (n + 1) for tail in tails])  # whole numbers: exact whatever their size
        rows = looked == n
        found[rows] = of_marked[marked[rows]]
    return found
