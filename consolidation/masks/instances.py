"""Instance masks: whose mask of an item is of the same object, and a vote on the pixels of each object.

Everything works on run lengths; nothing is decoded.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import numpy as np

from voxpop.consolidation.jit import kernel
from voxpop.consolidation.masks.errors import MaskError
from voxpop.consolidation.masks.rle import Runs, iou_matrix
from voxpop.consolidation.masks.sweep import merging_kernel
from voxpop.consolidation.masks.vote import BinaryTies, check_binary, raters_needed
from voxpop.consolidation.objects.stream import SelectableObjects, StreamedObjects
from voxpop.consolidation.objects.table import ObjectsError
from voxpop.consolidation.refit import RefitState
from voxpop.consolidation.votes.ties import choose_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from voxpop.consolidation.votes.columns import Column

__all__ = ["InstanceMasks", "InstanceResult", "MaskInstances", "MaskInstancesState"]

_SLACK: Final = 1e-9  # 3 of 10 reach a quorum of .3
_MOST_MEMBERS: Final = 64  # of an object: one a worker


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class InstanceMasks(StreamedObjects):
    """Who drew which objects in which item, each as a mask. Build it with ``from_rows``.

    Attributes:
        masks: the mask of each object, ``Runs``, shape (n_objects,).
    """

    masks: NDArray[Any]

    @classmethod
    def from_rows(
        cls,
        items: Column,
        workers: Column,
        masks: Sequence[Runs | ArrayLike | None],
        labels: Column | None = None,
        *,
        classes: Sequence[Any] | None = None,
    ) -> Self:
        """Read one row an object, or a row of an item and a worker who found nothing there.

        Args:
            items: the name of each row's item.
            workers: the name of each row's worker.
            masks: run lengths, or a dense mask; None in a row of a worker who found nothing.
            labels: the class of each row's object; None for no classes.
            classes: all classes in the order wanted; by default those that occur, sorted.

        Raises:
            MaskError: masks of different sizes in one item, an object without a pixel, more than 64 workers in an item,
                or what ``ObjectTable.from_columns`` and ``Runs.from_mask`` refuse.
        """
        present = np.array([mask is not None for mask in masks], np.bool_)
        try:
            table, rows = cls._arranged(items, workers, labels, present, classes)
        except ObjectsError as error:
            raise MaskError(str(error)) from None
        runs = np.empty(rows.size, object)
        for place, row in enumerate(rows.tolist()):
            mask = masks[row]
            if isinstance(mask, Runs):
                runs[place] = mask
            elif mask is not None:
                try:
                    runs[place] = Runs.from_mask(mask)
                except MaskError as error:
                    raise MaskError(f"row {row}: {error}") from None
            if not runs[place].area:
                raise MaskError(f"row {row}: the object's mask is empty; leave it out, or give None for nothing found")
        _check_sizes(table, runs)
        return dataclasses.replace(table, masks=runs)

    @classmethod
    def _arranged(
        cls,
        items: Column,
        workers: Column,
        labels: Column | None,
        present: NDArray[np.bool_],
        classes: Sequence[Any] | None,
    ) -> tuple[Self, NDArray[np.int64]]:
        table, rows = _Bare.from_columns(items, workers, labels, present=present, classes=classes)
        fields = {field.name: getattr(table, field.name) for field in dataclasses.fields(table)}
        return cls(**fields, masks=np.empty(rows.size, object)), rows

    def dump(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return names and arrays from which ``restore`` makes an equal table."""
        header, arrays = super().dump()
        del arrays["masks"]
        ends, indptr = _joined_ends(self.masks.tolist())
        sizes = np.array([runs.size for runs in self.masks], np.int64).reshape(-1, 2)
        return header, arrays | {"ends": ends, "ends_indptr": indptr, "sizes": sizes}

    @classmethod
    def restore(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """Return the table that ``dump`` described."""
        arrays = dict(arrays)
        ends, indptr, sizes = arrays.pop("ends"), arrays.pop("ends_indptr").tolist(), arrays.pop("sizes").tolist()
        runs = np.empty(len(sizes), object)
        for place, (height, width) in enumerate(sizes):
            runs[place] = Runs(height, width, ends[indptr[place] : indptr[place + 1]])
        return super().restore(header, arrays | {"masks": runs})


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class InstanceResult(SelectableObjects):
    """Consolidated objects as masks, those of each item together, the most certain first.

    Attributes:
        masks: the mask of each object, ``Runs``, shape (n_objects,).
        pixel_confidence: mean share of the members who drew the pixels of the mask, 0..1, shape (n_objects,).
    """

    geometry: ClassVar[tuple[str, ...]] = ("masks", "pixel_confidence")

    masks: NDArray[Any]
    pixel_confidence: NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class MaskInstances:
    """Masks of different workers that overlap are one object; its pixels are voted on by those who drew it.

    Pairs are merged in order of their IoU, the most similar first, as long as no worker has two masks in one object. An
    object stays if enough of the workers who looked at the item drew it; its class is the most frequent of its members,
    ties broken by the seed and the names of item and class.

    The confidence says how probable it is that most people would draw the object: with ``v`` of ``n`` workers who did,
    the probability of at most ``v`` heads in ``n + 1`` throws of a coin, times the share of the members that gave the
    class, as for boxes (``MedianBoxes``). A worker's quality is the F1 score of their masks against the merged ones.

    Attributes:
        quorum: the least share of the item's workers, 0 to 1.
        iou: least intersection over union of two masks that may be one object, above 0 and at most 1.
        threshold: a pixel is in the object if more than this share of its members drew it.
        ties: what a pixel becomes that just as many members drew: two who differ keep what both drew, by default.
        same_class: whether only masks of one class may be one object; otherwise the class is voted on.
        seed: breaks ties between classes.
    """

    merges: ClassVar[str] = "instance masks"

    quorum: float = 0.5
    iou: float = 0.4
    threshold: float = 0.5
    ties: BinaryTies = "background"
    same_class: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_binary(self.threshold, self.ties)
        if not 0 <= self.quorum <= 1:
            raise ValueError(f"quorum is {self.quorum!r}; expected 0 to 1")
        if not 0 < self.iou <= 1:
            raise ValueError(f"iou is {self.iou!r}; expected above 0 to 1")

    @property
    def name(self) -> str:
        """The registry's name."""
        return "mask_instances"

    def fit(self, annotations: InstanceMasks) -> InstanceResult:
        """Merge the masks of each item."""
        table = annotations
        objects = table.object_indptr.tolist()
        found: list[_Found] = []
        counts = np.zeros(table.n_items, np.int64)
        for item in range(table.n_items):
            n_workers = int(table.item_indptr[item + 1] - table.item_indptr[item])
            made = [
                self._merged(table, item, n_workers, members)
                for members in self._clusters(table, range(objects[item], objects[item + 1]))
                if len(members) >= self.quorum * n_workers * (1 - _SLACK)
            ]
            made = [one for one in made if one.mask.area]
            made.sort(key=lambda one: (-one.confidence, one.members[0]))
            counts[item] = len(made)
            found += made
        members = np.array([member for one in found for member in one.members], np.int64)
        masks = np.empty(len(found), object)
        masks[:] = [one.mask for one in found]
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return InstanceResult(
            items=table.items,
            classes=table.classes,
            workers=table.workers,
            indptr=indptr,
            label_codes=np.array([one.label for one in found], np.int64),
            confidence=np.array([one.confidence for one in found], np.float64),
            member_indptr=np.concatenate([[0], np.cumsum([len(one.members) for one in found])]).astype(np.int64),
            members=members,
            worker_quality=_agreement(table, members, counts),
            masks=masks,
            pixel_confidence=np.array([one.pixel_confidence for one in found], np.float64),
        )

    def state(self) -> MaskInstancesState:
        """Start an empty stream."""
        return MaskInstancesState(self)

    def _clusters(self, table: InstanceMasks, objects: range) -> list[list[int]]:
        """Return the members of each object of an item, ascending, in the order of their first members."""
        masks = table.masks[objects.start : objects.stop].tolist()
        if not masks:
            return []
        worker = table.answer_of_object[objects.start : objects.stop]
        similarity = iou_matrix(masks, masks)
        allowed = (similarity >= self.iou) & (worker[:, None] != worker[None, :])
        if self.same_class:
            label = table.label[objects.start : objects.stop]
            allowed &= label[:, None] == label[None, :]
        one, other = np.nonzero(np.triu(allowed, 1))
        order = np.argsort(-similarity[one, other], kind="stable")
        cluster = np.arange(len(masks), dtype=np.int64)
        _link(one[order], other[order], worker - worker.min(), cluster)
        members: dict[int, list[int]] = {}
        for place, root in enumerate(cluster.tolist()):
            members.setdefault(root, []).append(objects.start + place)
        return list(members.values())

    def _merged(self, table: InstanceMasks, item: int, n_workers: int, members: list[int]) -> _Found:
        masks: list[Runs] = table.masks[members].tolist()
        ends, starts = _joined_ends(masks)
        height, width = masks[0].size
        out = np.empty(int(starts[-1]) + 1, np.uint32)
        needed = raters_needed(len(masks), self.threshold, self.ties)
        n = merging_kernel(len(masks))(ends, starts, needed, height * width, out)
        mask = Runs(height, width, out[:n].copy())
        votes = np.bincount(table.label[members], minlength=table.n_classes).astype(np.float64)[None, :]
        label = int(choose_labels(votes, table.items[item : item + 1], table.classes, self.seed)[0])
        drawn = sum(mask.intersection(one) for one in masks)
        return _Found(
            members=members,
            mask=mask,
            label=label,
            confidence=_probability_of_most(len(members), n_workers) * float(votes[0, label]) / len(members),
            pixel_confidence=drawn / (len(masks) * mask.area) if mask.area else 0.0,
        )


class MaskInstancesState(RefitState[InstanceMasks, InstanceResult]):
    """The stream of ``MaskInstances``: always equal to the batch."""

    method_type = MaskInstances
    table_type = InstanceMasks


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class _Bare(StreamedObjects):
    """A table before its masks are put in order."""


@dataclasses.dataclass(frozen=True)
class _Found:
    """An object that was made."""

    members: list[int]
    mask: Runs
    label: int
    confidence: float
    pixel_confidence: float


def _check_sizes(table: StreamedObjects, masks: NDArray[Any]) -> None:
    objects = table.object_indptr.tolist()
    for item, name in enumerate(table.items.tolist()):
        if table.item_indptr[item + 1] - table.item_indptr[item] > _MOST_MEMBERS:
            raise MaskError(f"item {name!r} has more than {_MOST_MEMBERS} workers, which is the most")
        sizes = {runs.size for runs in masks[objects[item] : objects[item + 1]]}
        if len(sizes) > 1:
            first, second = sorted(sizes)[:2]
            raise MaskError(
                f"item {name!r} has masks of {first[0]} x {first[1]} and of {second[0]} x {second[1]} pixels; "
                "expected one size"
            )


def _joined_ends(masks: Sequence[Runs]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Return the ends of all masks, with one 0 behind, and where each mask's begin."""
    indptr = np.concatenate([[0], np.cumsum([mask.ends.size for mask in masks])]).astype(np.int64)
    return np.concatenate([*(mask.ends for mask in masks), np.zeros(1, np.uint32)]), indptr


def _probability_of_most(marked: int, looked: int) -> float:
    """Return the probability that more than half of all people would mark what ``marked`` of ``looked`` did."""
    return float(sum(math.comb(looked + 1, v) for v in range(marked + 1)) / 2 ** (looked + 1))


def _agreement(table: InstanceMasks, members: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the F1 score of each worker's masks against the merged ones of the items they looked at, (n_workers,)."""
    n_workers = table.n_workers
    right = np.bincount(table.worker_of_object[members], minlength=n_workers)
    drawn = np.bincount(table.worker, np.diff(table.answer_indptr), n_workers)
    there = np.bincount(table.worker, counts[table.item_of_answer], n_workers)
    with np.errstate(invalid="ignore"):
        quality: NDArray[np.float64] = 2 * right / (drawn + there)
    return quality


@kernel
def _link(
    one: NDArray[np.int64], other: NDArray[np.int64], worker: NDArray[np.int64], cluster: NDArray[np.int64]
) -> None:
    """Join the pairs in their order where no worker would be twice in a cluster; ``cluster`` gets its first member."""
    n = cluster.size
    workers = np.empty(n, np.uint64)  # of each cluster, a bit each
    for place in range(n):
        workers[place] = np.uint64(1) << np.uint64(worker[place])
    for pair in range(one.size):
        a, b = cluster[one[pair]], cluster[other[pair]]
        if a == b or workers[a] & workers[b]:
            continue
        if b < a:
            a, b = b, a
        workers[a] |= workers[b]
        for place in range(b, n):
            if cluster[place] == b:
                cluster[place] = a
