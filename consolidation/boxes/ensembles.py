"""Methods from ensembles of detectors: workers are models, and scores count. Compatible with ensemble-boxes 1.0.9.

Weighted boxes fusion is that of R. Solovyev, W. Wang and T. Gabruseva, Image and Vision Computing 107 (2021); soft
suppression that of N. Bodla, B. Singh, R. Chellappa and L. Davis, ICCV 2017; non-maximum weighted that of H. Zhou,
Z. Li, C. Ning and J. Tang, ICCV workshops 2017. Boxes of different classes never meet in any of them. The kernels
stand in ``fusing.py``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import numpy as np

from voxpop.consolidation.boxes.arrange import Arranged, arranged
from voxpop.consolidation.boxes.cluster import Clusters
from voxpop.consolidation.boxes.fusing import (
    AVERAGE,
    BOX_AND_MODEL,
    MAXIMUM,
    MISSING_MODELS,
    fuse,
    gather,
    suppress,
    weigh,
)
from voxpop.consolidation.boxes.median import check_share
from voxpop.consolidation.boxes.result import BoxesResult, agreement_of_workers
from voxpop.consolidation.boxes.table import Boxes, BoxesError
from voxpop.consolidation.refit import RefitState

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "FusedBoxes", "FusedBoxesState", "NonMaximumBoxes", "NonMaximumBoxesState", "NonMaximumWeightedBoxes",
    "NonMaximumWeightedBoxesState", "SoftNonMaximumBoxes", "SoftNonMaximumBoxesState",
]  # fmt: skip

_CONFIDENCES: Final = {
    "avg": AVERAGE,
    "max": MAXIMUM,
    "box_and_model_avg": BOX_AND_MODEL,
    "absent_model_aware_avg": MISSING_MODELS,
}


@dataclasses.dataclass(frozen=True)
class FusedBoxes:
    """Weighted boxes fusion: the surest box begins, and each next one joins the fused box that it overlaps most.

    Coordinates and confidences have the same bits as those of ensemble-boxes 1.0.9 (with NumPy 2) if no two scores of a
    class are equal; equal ones are taken from left to right, where that package leaves it to the sort. What it wants
    normalised to 0..1 stays in the table's unit, and is never clipped. A box without a score has 1. A model has looked
    at an item if it has an answer there, if only "nothing there". Several boxes of one model may be fused into one.

    The confidence is that package's, at most 1 (a model of a weight above 1 that fills a fused box alone could exceed
    it): of scores that are all 1, the share of the models. It is a probability as far as the scores are.

    Attributes:
        iou: boxes join a fused one if they overlap it by more than this.
        least_score: boxes with a lower score are left out.
        confidence: how scores become one: ``"avg"``, ``"max"``, ``"box_and_model_avg"``, ``"absent_model_aware_avg"``.
        weights: how much each model counts, by its name, above 0; models that are not named count 1.
        least_confidence: fused boxes with a lower confidence are left out.
    """

    merges: ClassVar[str] = "boxes"

    iou: float = 0.55
    least_score: float = 0.0
    confidence: Literal["avg", "max", "box_and_model_avg", "absent_model_aware_avg"] = "avg"
    weights: Any = ()
    least_confidence: float = 0.0

    def __post_init__(self) -> None:
        _check(self, "least_score", "least_confidence")
        if self.confidence not in _CONFIDENCES:
            raise ValueError(f"confidence is {self.confidence!r}; expected one of {', '.join(_CONFIDENCES)}")

    @property
    def name(self) -> str:
        """The registry's name."""
        return "box_wbf"

    def fit(self, annotations: Boxes) -> BoxesResult:
        """Fuse the boxes of all items.

        Raises:
            BoxesError: a box is turned.
        """
        table = annotations
        score = _scores(table, self.name)
        indptr, cluster, fused, confidence = _room(table)
        count = fuse(
            table.item_indptr,
            table.answer_indptr,
            table.geometry,
            table.label,
            score,
            _weight_of_workers(table, self.weights)[table.worker],
            self.least_score,
            self.iou,
            _CONFIDENCES[self.confidence],
            indptr,
            cluster,
            fused,
            confidence,
        )
        return _result(table, indptr, cluster, fused[:count], confidence[:count], self.least_confidence)

    def state(self) -> FusedBoxesState:
        """Start an empty stream."""
        return FusedBoxesState(self)


@dataclasses.dataclass(frozen=True)
class NonMaximumBoxes:
    """Non-maximum suppression: the surest box stays, those that overlap it by more than ``iou`` go.

    Keeps the boxes that ``nms`` of ensemble-boxes keeps. The confidence is the score (1 without one), times the model's
    share of the item's weights if there are any.

    Attributes:
        iou: see above.
        weights: as in ``FusedBoxes``.
    """

    merges: ClassVar[str] = "boxes"

    iou: float = 0.5
    weights: Any = ()

    def __post_init__(self) -> None:
        _check(self)

    @property
    def name(self) -> str:
        """The registry's name."""
        return "box_nms"

    def fit(self, annotations: Boxes) -> BoxesResult:
        """Choose among the boxes of all items.

        Raises:
            BoxesError: a box is turned.
        """
        return _suppressed(annotations, self, sigma=0.0, least=0.0, linear=False)

    def state(self) -> NonMaximumBoxesState:
        """Start an empty stream."""
        return NonMaximumBoxesState(self)


@dataclasses.dataclass(frozen=True)
class SoftNonMaximumBoxes:
    """Soft suppression: boxes that overlap a surer one lose confidence instead of going.

    Keeps the boxes that ``soft_nms`` of ensemble-boxes keeps. The confidence is the lowered score, as in the paper;
    that package returns the score as it was, which ``members`` leads to.

    Attributes:
        decay: ``"gaussian"``: by ``exp(-iou**2 / sigma)``; ``"linear"``: by ``1 - iou`` for those above ``iou``.
        iou: see above.
        sigma: see above.
        least_confidence: boxes that do not exceed it are left out.
        weights: as in ``FusedBoxes``.
    """

    merges: ClassVar[str] = "boxes"

    decay: Literal["gaussian", "linear"] = "gaussian"
    iou: float = 0.5
    sigma: float = 0.5
    least_confidence: float = 0.001
    weights: Any = ()

    def __post_init__(self) -> None:
        _check(self, "least_confidence")
        if self.decay not in {"gaussian", "linear"}:
            raise ValueError(f"decay is {self.decay!r}; expected 'gaussian' or 'linear'")
        if not 0 < self.sigma < math.inf:
            raise ValueError(f"sigma is {self.sigma!r}; expected a number above 0")

    @property
    def name(self) -> str:
        """The registry's name."""
        return "box_soft_nms"

    def fit(self, annotations: Boxes) -> BoxesResult:
        """Weigh the boxes of all items against each other.

        Raises:
            BoxesError: a box is turned.
        """
        linear = self.decay == "linear"
        sigma = 0.0 if linear else self.sigma
        return _suppressed(annotations, self, sigma=sigma, least=self.least_confidence, linear=linear)

    def state(self) -> SoftNonMaximumBoxesState:
        """Start an empty stream."""
        return SoftNonMaximumBoxesState(self)


@dataclasses.dataclass(frozen=True)
class NonMaximumWeightedBoxes:
    """Non-maximum weighted: boxes join the surest one that they overlap, weighing by score times overlap with it.

    Same bits as ``non_maximum_weighted`` of ensemble-boxes, under the conditions of ``FusedBoxes``. The confidence is
    that of the surest member.

    Attributes:
        iou: boxes join one that they overlap by more than this.
        least_score: boxes with a lower score are left out.
        weights: as in ``FusedBoxes``; the heaviest model counts 1.
    """

    merges: ClassVar[str] = "boxes"

    iou: float = 0.55
    least_score: float = 0.0
    weights: Any = ()

    def __post_init__(self) -> None:
        _check(self, "least_score")

    @property
    def name(self) -> str:
        """The registry's name."""
        return "box_nmw"

    def fit(self, annotations: Boxes) -> BoxesResult:
        """Merge the boxes of all items.

        Raises:
            BoxesError: a box is turned.
        """
        table = annotations
        score = _scores(table, self.name)
        weight = _weight_of_workers(table, self.weights)[table.worker]
        heaviest = np.maximum.reduceat(weight, table.item_indptr[:-1])[table.item_of_answer]
        indptr, cluster, fused, confidence = _room(table)
        cluster[score < self.least_score] = -1
        weighted = score * (weight / heaviest)[table.answer_of_object]
        count = weigh(
            table.object_indptr, table.corners, table.label, weighted, self.iou, indptr, cluster, fused, confidence
        )
        return _result(table, indptr, cluster, fused[:count], confidence[:count], 0.0)

    def state(self) -> NonMaximumWeightedBoxesState:
        """Start an empty stream."""
        return NonMaximumWeightedBoxesState(self)


class FusedBoxesState(RefitState[Boxes, BoxesResult]):
    """The stream of ``FusedBoxes``."""

    method_type = FusedBoxes
    table_type = Boxes


class NonMaximumBoxesState(RefitState[Boxes, BoxesResult]):
    """The stream of ``NonMaximumBoxes``."""

    method_type = NonMaximumBoxes
    table_type = Boxes


class SoftNonMaximumBoxesState(RefitState[Boxes, BoxesResult]):
    """The stream of ``SoftNonMaximumBoxes``."""

    method_type = SoftNonMaximumBoxes
    table_type = Boxes


class NonMaximumWeightedBoxesState(RefitState[Boxes, BoxesResult]):
    """The stream of ``NonMaximumWeightedBoxes``."""

    method_type = NonMaximumWeightedBoxes
    table_type = Boxes


def _check(method: Any, *shares: str) -> None:
    """Complain about parameters, and keep the weights as pairs, which JSON can carry whatever the names are."""
    check_share("iou", method.iou)
    for name in shares:
        check_share(name, getattr(method, name), may_be_zero=True)
    pairs = method.weights.items() if isinstance(method.weights, Mapping) else method.weights
    try:
        kept = tuple((name, float(weight)) for name, weight in pairs)
    except (TypeError, ValueError):
        raise ValueError(f"weights is {method.weights!r}; expected a mapping from workers to numbers") from None
    for name, weight in kept:
        if not 0 < weight < math.inf:
            raise ValueError(f"the weight of {name!r} is {weight!r}; expected a number above 0")
    object.__setattr__(method, "weights", kept)


def _scores(table: Boxes, name: str) -> NDArray[np.float64]:
    """Return the score of each box."""
    if table.angle is not None:
        raise BoxesError(f"{name} cannot merge boxes that are turned; use box_median or box_weighted")
    return np.ones(table.n_objects) if table.score is None else table.score


def _weight_of_workers(table: Boxes, weights: tuple[tuple[Any, float], ...]) -> NDArray[np.float64]:
    found = np.ones(table.n_workers)
    given = dict(weights)
    for w, name in enumerate(table.workers.tolist()):
        found[w] = given.get(name, 1.0)
    return found


def _room(
    table: Boxes,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    n = table.n_objects
    return np.zeros(table.n_items + 1, np.int64), np.zeros(n, np.int64), np.empty((n, 4)), np.empty(n)


def _suppressed(
    table: Boxes, method: NonMaximumBoxes | SoftNonMaximumBoxes, *, sigma: float, least: float, linear: bool
) -> BoxesResult:
    corners, score = table.corners, _scores(table, method.name)
    if method.weights:
        weight = _weight_of_workers(table, method.weights)[table.worker]
        whole = np.add.reduceat(weight, table.item_indptr[:-1])[table.item_of_answer]
        score = score * weight[table.answer_of_object] / whole[table.answer_of_object]
    indptr, cluster, _, confidence = _room(table)
    count = suppress(
        table.object_indptr, corners, table.label, score, method.iou, sigma, least, linear, indptr, cluster, confidence
    )
    kept = np.empty(count, np.int64)
    kept[cluster[cluster >= 0]] = np.flatnonzero(cluster >= 0)
    found = _result(table, indptr, cluster, corners[kept], confidence[:count], 0.0)
    return dataclasses.replace(found, boxes=table.geometry[found.members])


def _result(
    table: Boxes,
    indptr: NDArray[np.int64],
    cluster: NDArray[np.int64],
    fused: NDArray[np.float64],
    confidence: NDArray[np.float64],
    least: float,
) -> BoxesResult:
    """Return the result of fused boxes, given which one each box belongs to, -1 if none."""
    member_indptr = np.zeros(fused.shape[0] + 1, np.int64)
    members = np.empty(cluster.size, np.int64)
    gather(cluster, member_indptr, members)
    chosen = np.flatnonzero(confidence >= least)
    found = arranged(Clusters(indptr, member_indptr, members), chosen, confidence[chosen])
    rows = chosen[found.order]
    boxes = fused[rows]
    boxes[:, 2:] -= boxes[:, :2]
    return BoxesResult(
        items=table.items,
        classes=table.classes,
        workers=table.workers,
        indptr=found.indptr,
        label_codes=table.label[found.members[found.member_indptr[:-1]]],
        confidence=np.minimum(confidence[rows], 1.0),
        member_indptr=found.member_indptr,
        members=found.members,
        worker_quality=agreement_of_workers(table, _one_a_worker(table, found), found.indptr),
        boxes=boxes,
    )


def _one_a_worker(table: Boxes, found: Arranged) -> NDArray[np.int64]:
    """Return members without a worker's second and later ones in the same object; those of a worker come together."""
    answer = table.answer_of_object[found.members]
    kept = np.ones(answer.size, np.bool_)
    kept[1:] = answer[1:] != answer[:-1]
    kept[found.member_indptr[:-1]] = True
    return found.members[kept]
