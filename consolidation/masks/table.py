"""Who drew which mask in which item: dense masks, label images or run lengths, all of one size in an item.

An empty mask is an answer: it says that nothing is there. Nothing here computes a consensus.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import numpy as np

from voxpop.consolidation.masks.errors import MaskError
from voxpop.consolidation.masks.patterns import DensePatterns, Patterns, RunPatterns, bits_for
from voxpop.consolidation.masks.rle import Runs, binary_array, parse_strings
from voxpop.consolidation.votes.columns import Column, VotesError, intern, name_array, read_column, sort_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["MAX_CLASSES", "MAX_RATERS", "Form", "Masks", "known_place"]

MAX_RATERS: Final = 64  # of one item: a pattern of their answers is a word
MAX_CLASSES: Final = 255  # one more, 255, marks what nobody decided

Form = Literal["dense", "labels", "runs"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Masks:
    """Items, and the mask of each worker who looked at them. Build it with one of the ``from_`` methods.

    Items stand in order of first appearance, workers in sorted order, the answers of an item by worker.

    Attributes:
        form: what the masks are: ``"dense"``, 0 and 1; ``"labels"``, the place of each pixel's class; ``"runs"``.
        items: names of the items, shape (n_items,).
        workers: names of the workers, shape (n_workers,).
        classes: names of the classes, shape (K,); those of binary masks are ``background`` and ``foreground``.
        sizes: height and width of each item, pixels, int64, shape (n_items, 2).
        indptr: item ``i`` has the answers ``indptr[i]:indptr[i + 1]``, int64, shape (n_items + 1,).
        worker: place of each answer's worker, int64, shape (n_answers,).
        arrays: each answer's mask or label image, uint8, in rows; none if the masks are run lengths.
        ends: the ends of all run lengths (see ``rle.py``), uint32, with one 0 behind the last; else empty.
        ends_indptr: answer ``a`` has ``ends[ends_indptr[a]:ends_indptr[a + 1]]``, int64, shape (n_answers + 1,).
    """

    form: Form
    items: NDArray[Any]
    workers: NDArray[Any]
    classes: NDArray[Any]
    sizes: NDArray[np.int64]
    indptr: NDArray[np.int64]
    worker: NDArray[np.int64]
    arrays: tuple[NDArray[np.uint8], ...] = ()
    ends: NDArray[np.uint32]
    ends_indptr: NDArray[np.int64]

    @classmethod
    def from_dense(cls, items: Column, workers: Column, masks: Sequence[ArrayLike]) -> Self:
        """Read one binary mask a row: bool, or whole numbers of which 0 is background.

        Boolean arrays, and uint8 arrays of 0 and 1, are not copied: leave them as they are until they were merged.

        Args:
            items: the name of each row's item; text or numbers.
            workers: the name of each row's worker.
            masks: shape (height, width) each; the same for all masks of an item.

        Raises:
            MaskError: what ``assembled`` refuses, or a mask that is none; the message names the row.
        """
        arrays = [_at_row(row, binary_array, mask) for row, mask in enumerate(masks)]
        return cls.assembled("dense", items, workers, arrays)

    @classmethod
    def from_labels(
        cls,
        items: Column,
        workers: Column,
        images: Sequence[ArrayLike],
        classes: Sequence[Any] | None = None,
    ) -> Self:
        """Read one label image a row: each pixel holds the place of its class, from 0.

        Args:
            items: the name of each row's item; text or numbers.
            workers: the name of each row's worker.
            images: whole numbers, shape (height, width) each; uint8 is not copied.
            classes: names of the classes; by default the numbers up to the largest that occurs.

        Raises:
            MaskError: what ``assembled`` refuses, more than 255 classes, or a number that stands for no class.
        """
        given = [np.asarray(image) for image in images]
        largest = 0
        for row, image in enumerate(given):
            if image.ndim != 2 or image.dtype.kind not in "iu" or not image.size:
                raise MaskError(
                    f"row {row}: a label image has shape {image.shape} and type {image.dtype}; "
                    "expected whole numbers, (height, width)"
                )
            low, high = int(image.min()), int(image.max())
            most = MAX_CLASSES if classes is None else min(MAX_CLASSES, len(classes))
            if low < 0 or high >= most:
                raise MaskError(f"row {row}: a pixel is {low if low < 0 else high}; expected 0 to {most - 1}")
            largest = max(largest, high)
        names = list(range(largest + 1)) if classes is None else list(classes)
        if not 0 < len(names) <= MAX_CLASSES:
            raise MaskError(f"there are {len(names)} classes; expected 1 to {MAX_CLASSES}")
        arrays = [np.ascontiguousarray(image, np.uint8) for image in given]
        return cls.assembled("labels", items, workers, arrays, classes=names)

    @classmethod
    def from_runs(cls, items: Column, workers: Column, masks: Sequence[Runs]) -> Self:
        """Read one mask a row, as run lengths.

        Raises:
            MaskError: what ``assembled`` refuses.
        """
        indptr = np.concatenate([[0], np.cumsum([mask.ends.size for mask in masks])]).astype(np.int64)
        ends = np.concatenate([*(mask.ends for mask in masks), np.zeros(1, np.uint32)])
        return cls.assembled("runs", items, workers, [mask.size for mask in masks], ends=ends, ends_indptr=indptr)

    @classmethod
    def from_coco(cls, items: Column, workers: Column, records: Sequence[Mapping[str, Any]]) -> Self:
        """Read one of COCO's run-length objects a row (see ``Runs.from_coco``).

        Raises:
            MaskError: what ``assembled`` and ``Runs.from_coco`` refuse.
        """
        texts = [record.get("counts") for record in records]
        if all(isinstance(text, (str, bytes)) for text in texts):
            sizes = [tuple(record.get("size") or ()) for record in records]
            if all(len(size) == 2 and all(isinstance(one, int) for one in size) for size in sizes):
                ends, indptr = parse_strings(texts, sizes)  # type: ignore[arg-type] # just checked
                return cls.assembled("runs", items, workers, sizes, ends=ends, ends_indptr=indptr)
        return cls.from_runs(
            items, workers, [_at_row(row, Runs.from_coco, record) for row, record in enumerate(records)]
        )

    @classmethod
    def assembled(
        cls,
        form: Form,
        items: Column,
        workers: Column,
        masks: Sequence[Any],
        *,
        classes: Sequence[Any] = ("background", "foreground"),
        ends: NDArray[np.uint32] | None = None,
        ends_indptr: NDArray[np.int64] | None = None,
    ) -> Self:
        """Put rows in order; ``masks`` are checked arrays, or the sizes of run lengths.

        Raises:
            MaskError: no rows, columns of different lengths, a missing name, two masks of one worker for one item,
                masks of different sizes in one item, or more than 64 raters of one.
        """
        item_names, item_codes = _interned(items, "item", len(masks))
        worker_names, worker_codes = _interned(workers, "worker", len(masks))
        by_name = sort_names(worker_names)
        rank = np.empty_like(by_name)
        rank[by_name] = np.arange(by_name.size)
        worker = rank[worker_codes]
        rows = np.lexsort((worker, item_codes))
        indptr = np.searchsorted(item_codes[rows], np.arange(len(item_names) + 1)).astype(np.int64)
        sizes = np.array([mask if form == "runs" else mask.shape for mask in masks], np.int64)
        table = cls(
            form=form,
            items=name_array(item_names),
            workers=name_array(worker_names[w] for w in by_name.tolist()),
            classes=name_array(classes),
            sizes=sizes[rows[indptr[:-1]]],
            indptr=indptr,
            worker=worker[rows],
            arrays=() if form == "runs" else tuple(masks[row] for row in rows.tolist()),
            **_gathered(ends, ends_indptr, rows),
        )
        table._check(sizes[rows])
        return table

    @property
    def n_items(self) -> int:
        """Number of items."""
        return int(self.items.size)

    @property
    def n_workers(self) -> int:
        """Number of workers."""
        return int(self.workers.size)

    @property
    def n_answers(self) -> int:
        """Number of masks."""
        return int(self.worker.size)

    @property
    def item_of_answer(self) -> NDArray[np.int64]:
        """Place of each answer's item, shape (n_answers,)."""
        return np.repeat(np.arange(self.n_items, dtype=np.int64), np.diff(self.indptr))

    def answers(self, item: int) -> range:
        """Return the places of an item's answers."""
        return range(int(self.indptr[item]), int(self.indptr[item + 1]))

    def size(self, item: int) -> tuple[int, int]:
        """Return an item's height and width, pixels."""
        return int(self.sizes[item, 0]), int(self.sizes[item, 1])

    def dense(self, item: int) -> tuple[NDArray[np.uint8], ...]:
        """Return the masks or label images of an item, which are no run lengths."""
        return self.arrays[self.indptr[item] : self.indptr[item + 1]]

    def runs(self, item: int) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Return the ends of an item's run lengths, with at least one number behind, and where each answer's begin."""
        answers = self.answers(item)
        starts = self.ends_indptr[answers.start : answers.stop + 1]
        return self.ends[starts[0] : starts[-1] + 1], starts - starts[0]

    def patterns(self, item: int) -> Patterns:
        """Return what the raters of an item say of its pixels, as patterns."""
        if self.form == "runs":
            ends, starts = self.runs(item)
            return RunPatterns.of(ends, starts, self.size(item))
        bits = 1 if self.form == "dense" else bits_for(self.classes.size)
        return DensePatterns.of(self.dense(item), bits)

    def of_items(self, names: Sequence[Any]) -> Self:
        """Return the masks of these items, in this order; KeyError for one that is not known."""
        place = {name: i for i, name in enumerate(self.items.tolist())}
        items = [known_place(place, name) for name in names]
        rows = np.array([row for item in items for row in self.answers(item)], np.int64)
        return dataclasses.replace(
            self,
            items=self.items[items],
            sizes=self.sizes[items],
            indptr=np.concatenate([[0], np.cumsum([len(self.answers(item)) for item in items])]).astype(np.int64),
            worker=self.worker[rows],
            arrays=tuple(self.arrays[row] for row in rows.tolist()) if self.arrays else (),
            **_gathered(self.ends, self.ends_indptr, rows),
        )

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return all rows of one or more tables of one form.

        Raises:
            MaskError: masks of different forms or classes, or what ``assembled`` refuses.
        """
        first = parts[0]
        for part in parts:
            if part.form != first.form or part.classes.tolist() != first.classes.tolist():
                raise MaskError(
                    f"{first.form} with classes {first.classes.tolist()} and {part.form} with classes "
                    f"{part.classes.tolist()} cannot be joined; bring them to one form"
                )
        masks: list[Any] = [array for part in parts for array in part.arrays]
        if first.form == "runs":
            masks = [size for part in parts for size in part.sizes[part.item_of_answer].tolist()]
        offsets = np.cumsum([0, *(part.ends.size - 1 for part in parts)])
        return cls.assembled(
            first.form,
            [name for part in parts for name in part.items[part.item_of_answer].tolist()],
            [name for part in parts for name in part.workers[part.worker].tolist()],
            masks,
            classes=first.classes.tolist(),
            ends=np.concatenate([*(part.ends[:-1] for part in parts), np.zeros(1, np.uint32)]),
            ends_indptr=np.concatenate(
                [[0], *(part.ends_indptr[1:] + offset for part, offset in zip(parts, offsets, strict=False))]
            ),
        )

    def dump(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return a header for JSON and arrays from which ``restore`` makes an equal table."""
        pixels = b"".join(array.tobytes() for array in self.arrays)
        header = {
            "form": [self.form],
            "items": self.items.tolist(),
            "workers": self.workers.tolist(),
            "classes": self.classes.tolist(),
        }
        return header, {
            "sizes": self.sizes,
            "indptr": self.indptr,
            "worker": self.worker,
            "pixels": np.frombuffer(pixels + bytes(-len(pixels) % 4), np.uint32),
            "ends": self.ends,
            "ends_indptr": self.ends_indptr,
        }

    @classmethod
    def restore(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """Return the table that ``dump`` described."""
        sizes, indptr = arrays["sizes"], arrays["indptr"]
        form: Form = header["form"][0]
        dense: tuple[NDArray[np.uint8], ...] = ()
        if form != "runs":
            of_answer = np.repeat(sizes, np.diff(indptr), axis=0)
            bounds = np.concatenate([[0], np.cumsum(of_answer.prod(axis=1))]).tolist()
            pixels = np.frombuffer(arrays["pixels"].tobytes(), np.uint8)
            dense = tuple(pixels[bounds[a] : bounds[a + 1]].reshape(size) for a, size in enumerate(of_answer.tolist()))
        return cls(
            form=form,
            items=name_array(header["items"]),
            workers=name_array(header["workers"]),
            classes=name_array(header["classes"]),
            sizes=sizes,
            indptr=indptr,
            worker=arrays["worker"],
            arrays=dense,
            ends=arrays["ends"],
            ends_indptr=arrays["ends_indptr"],
        )

    def __len__(self) -> int:
        return self.n_answers

    def _check(self, sizes: NDArray[np.int64]) -> None:
        """Refuse what cannot be merged; ``sizes`` are those of the answers."""
        for item, name in enumerate(self.items.tolist()):
            answers = self.answers(item)
            if len(answers) > MAX_RATERS:
                raise MaskError(f"item {name!r} has {len(answers)} raters; the most is {MAX_RATERS}")
            names = self.workers[self.worker[answers.start : answers.stop]].tolist()
            for answer, worker in zip(answers[1:], names[1:], strict=True):
                if self.worker[answer] == self.worker[answer - 1]:
                    raise MaskError(f"item {name!r}: worker {worker!r} has two masks; leave out one, or join them")
                if (sizes[answer] != sizes[answers.start]).any():
                    raise MaskError(
                        f"item {name!r}: the mask of worker {worker!r} has {_shown(sizes[answer])} pixels, that of "
                        f"{names[0]!r} {_shown(sizes[answers.start])}; expected one size"
                    )

    def __repr__(self) -> str:
        return (
            f"Masks({self.form}, {self.n_answers} masks, {self.n_items} items, {self.n_workers} workers, "
            f"{self.classes.size} classes)"
        )


def known_place(place: Mapping[Any, int], name: Any) -> int:
    """Return the place of an item; KeyError for one that nobody looked at."""
    if name not in place:
        raise KeyError(f"no answers to item {name!r}; ask for items that somebody looked at")
    return place[name]


def _interned(column: Column, name: str, n_rows: int) -> tuple[list[Any], NDArray[np.int64]]:
    try:
        names, codes = intern(read_column(column, f"{name}s"), name)
    except VotesError as error:
        raise MaskError(str(error)) from None
    if codes.size != n_rows:
        raise MaskError(f"there are {codes.size} {name}s and {n_rows} masks; expected one a row in each")
    if not n_rows:
        raise MaskError("there are no masks; expected at least one")
    return names, codes.astype(np.int64)


def _gathered(ends: NDArray[np.uint32] | None, indptr: NDArray[np.int64] | None, rows: NDArray[np.int64]) -> Any:
    """Return the ends of the run lengths in the order of ``rows``, and where each begins."""
    if ends is None or indptr is None or indptr.size < 2:
        return {"ends": np.zeros(1, np.uint32), "ends_indptr": np.zeros(1, np.int64)}
    if np.array_equal(rows, np.arange(indptr.size - 1)):
        return {"ends": ends, "ends_indptr": indptr}
    pieces = [ends[indptr[row] : indptr[row + 1]] for row in rows.tolist()]
    return {
        "ends": np.concatenate([*pieces, np.zeros(1, np.uint32)]),
        "ends_indptr": np.concatenate([[0], np.cumsum([piece.size for piece in pieces])]).astype(np.int64),
    }


def _at_row(row: int, read: Any, given: Any) -> Any:
    try:
        return read(given)
    except MaskError as error:
        raise MaskError(f"row {row}: {error}") from None


def _shown(size: NDArray[np.int64]) -> str:
    return f"{size[0]} x {size[1]}"
