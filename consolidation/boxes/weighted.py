"""Boxes by workers who each have a miss rate, a false-positive rate and a noise, learned together with the objects."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from voxpop.consolidation.boxes.arrange import arranged
from voxpop.consolidation.boxes.classes import learn_classes
from voxpop.consolidation.boxes.cluster import cluster_boxes
from voxpop.consolidation.boxes.existence import learn_existence
from voxpop.consolidation.boxes.median import check_share, only_member
from voxpop.consolidation.boxes.merge import as_boxes, merged_boxes, parts_of
from voxpop.consolidation.boxes.noise import learn_noise
from voxpop.consolidation.boxes.result import BoxesResult, agreement_of_workers
from voxpop.consolidation.boxes.table import Boxes
from voxpop.consolidation.refit import RefitState

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["WeightedBoxes", "WeightedBoxesResult", "WeightedBoxesState"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class WeightedBoxesResult(BoxesResult):
    """Consolidated boxes, and what was learned of each worker.

    Attributes:
        worker_miss: share of what they see that they do not mark, shape (n_workers,).
        worker_false_positive: share of what is not there for them that they mark, shape (n_workers,).
        worker_deviation: how far off their edges are, as a share of the box's size, outliers apart, (n_workers,).
        objective: of the learning of miss and false-positive rates: log likelihood plus log prior, (n_iter,).
        n_iter: number of iterations of that learning.
    """

    worker_miss: NDArray[np.float64]
    worker_false_positive: NDArray[np.float64]
    worker_deviation: NDArray[np.float64]
    objective: NDArray[np.float64]
    n_iter: int


@dataclasses.dataclass(frozen=True)
class WeightedBoxes:
    """Boxes of different workers that overlap are one; who errs little counts more, in whether it is there and where.

    The boxes are clustered as in ``MedianBoxes``. Whether a cluster is an object is learned from who marked it and who
    did not (``existence.py``), where it is from how precise its workers are elsewhere (``noise.py``), and its class
    from how often they are right (``classes.py``). In the spirit of S. Branson, G. Van Horn and P. Perona, "Lean
    Crowdsourcing", CVPR 2017.

    The confidence is the probability that most careful people would draw the box, times that of its class. Each
    worker's quality is as in ``MedianBoxes``; what was learned stands beside it.

    Attributes:
        threshold: least probability that an object exists, of the boxes that stay; 0 to 1.
        iou: least intersection over union of two boxes that may be one, above 0 and at most 1.
        same_class: whether only boxes of one class may be one; otherwise the class is learned.
        smoothing: what is assumed of each worker beforehand is worth so many objects; above 0.
        max_iter: the most iterations of each learning; at least 1.
        tol: stops when an iteration gains less than this an object, in nats, or changes noise by less than this share.
        seed: breaks ties between classes.
    """

    merges: ClassVar[str] = "boxes"

    threshold: float = 0.5
    iou: float = 0.4
    same_class: bool = False
    smoothing: float = 20.0
    max_iter: int = 100
    tol: float = 1e-5
    seed: int = 0

    def __post_init__(self) -> None:
        check_share("threshold", self.threshold, may_be_zero=True)
        check_share("iou", self.iou)
        if not 0 < self.smoothing < math.inf:
            raise ValueError(f"smoothing is {self.smoothing!r}; expected a number above 0")
        if self.max_iter < 1:
            raise ValueError(f"max_iter is {self.max_iter!r}; expected at least 1")
        if not self.tol >= 0:
            raise ValueError(f"tol is {self.tol!r}; expected 0 or more")

    @property
    def name(self) -> str:
        """The registry's name."""
        return "box_weighted"

    def fit(self, annotations: Boxes) -> WeightedBoxesResult:
        """Merge the boxes of all items and learn all workers."""
        table = annotations
        clusters = cluster_boxes(table, self.iou, same_class=self.same_class)
        learned = learn_existence(table, clusters, self.smoothing, self.max_iter, self.tol)
        exists = learned.exists
        labels, sure = learn_classes(table, clusters, exists, self.smoothing, self.max_iter, self.tol, self.seed)
        parts = parts_of(table, clusters)
        merged = np.empty((exists.size, parts.shape[1]))
        merged_boxes(parts, clusters.member_indptr, np.arange(exists.size), True, merged)  # noqa: FBT003 - a kernel
        deviation = learn_noise(
            parts,
            table.worker_of_object[clusters.members],
            clusters.member_indptr,
            exists,
            merged,
            table.n_workers,
            self.smoothing,
            self.max_iter,
            self.tol,
        )
        chosen = np.flatnonzero(exists >= self.threshold)
        confidence = exists[chosen] * sure[chosen]
        found = arranged(clusters, chosen, confidence)
        rows = chosen[found.order]
        boxes, angle = as_boxes(merged[rows], only_member(found.member_indptr, found.members), table)
        return WeightedBoxesResult(
            items=table.items,
            classes=table.classes,
            workers=table.workers,
            indptr=found.indptr,
            label_codes=labels[rows],
            confidence=confidence[found.order],
            member_indptr=found.member_indptr,
            members=found.members,
            worker_quality=agreement_of_workers(table, found.members, found.indptr),
            boxes=boxes,
            angle=angle,
            worker_miss=learned.miss,
            worker_false_positive=learned.false_positive,
            worker_deviation=deviation,
            objective=learned.objective,
            n_iter=learned.objective.size,
        )

    def state(self) -> WeightedBoxesState:
        """Start an empty stream."""
        return WeightedBoxesState(self)


class WeightedBoxesState(RefitState[Boxes, WeightedBoxesResult]):
    """The stream of ``WeightedBoxes``."""

    method_type = WeightedBoxes
    table_type = Boxes
