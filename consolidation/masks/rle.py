"""One mask as run lengths, in COCO's forms: counts, the compressed string, dense arrays, and areas without decoding.

Pixels are counted down the columns, the first column first; runs of background and foreground take turns, background
first, so that a mask whose first pixel is foreground begins with a run of length 0 (Lin et al., 2014; the reference is
``maskApi.c`` of pycocotools). Votes on run lengths stand in ``vote.py``; kernels in ``runs.py``.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from voxpop.consolidation.masks import runs as kernels
from voxpop.consolidation.masks.errors import MaskError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["MAX_PIXELS", "Runs", "binary_array", "intersection_matrix", "iou_matrix", "parse_strings"]

MAX_PIXELS: Final = 2**32 - 1  # the boundaries of runs are uint32
_BLOCK_PIXELS: Final = 1 << 20  # of a dense mask that is encoded at a time


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Runs:
    """A binary mask as the ends of its runs.

    Build it with ``from_mask``, ``from_counts``, ``from_string`` or ``from_coco``. Runs of length 0 inside, which some
    tools write, are joined: equal masks have equal ends.

    Attributes:
        height: rows, pixels.
        width: columns, pixels.
        ends: the running sum of the counts, uint32; the last is ``height * width``.
    """

    height: int
    width: int
    ends: NDArray[np.uint32]

    @classmethod
    def from_mask(cls, mask: ArrayLike) -> Self:
        """Encode a dense mask, bool or whole numbers of which 0 is background, shape (height, width).

        Raises:
            MaskError: not two-dimensional, of another type, or without pixels.
        """
        dense = binary_array(mask)
        height, width = dense.shape
        columns = max(1, _BLOCK_PIXELS // height)
        state = np.zeros(2, np.int64)  # how many boundaries were written, and the value of the last pixel
        ends = np.empty(1024, np.uint32)
        for first in range(0, width, columns):
            block = np.ascontiguousarray(dense[:, first : first + columns].T).reshape(-1)
            while not kernels.encode(block, first * height, state, ends):
                ends = np.concatenate([ends, np.empty_like(ends)])
        ends[state[0]] = dense.size
        return cls(height, width, ends[: state[0] + 1].copy())

    @classmethod
    def from_counts(cls, counts: ArrayLike, height: int, width: int) -> Self:
        """Take uncompressed counts, a list or an array of whole numbers.

        Raises:
            MaskError: a count is negative or no whole number, their sum is not ``height * width``, or zero size.
        """
        n_pixels = _checked_size(height, width, "the mask")
        given = np.asarray(counts)
        if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
            raise MaskError(
                f"counts have shape {given.shape} and type {given.dtype}; expected a list of whole numbers, one a run"
            )
        if given.size and int(given.min()) < 0:
            at = int(np.argmax(given < 0))
            raise MaskError(f"count {at} is {given[at]}; expected 0 or more: the run lengths are corrupt")
        total = sum(given.tolist()) if given.size and int(given.max()) > n_pixels else int(given.sum(dtype=np.int64))
        if total != n_pixels:
            raise MaskError(_wrong_sum(total, height, width))
        ends = np.empty(given.size + 1, np.uint32)
        return cls(height, width, ends[: kernels.accumulate(given.astype(np.int64), ends)].copy())

    @classmethod
    def from_string(cls, text: str | bytes, height: int, width: int) -> Self:
        """Take COCO's compressed string.

        Raises:
            MaskError: a character that does not belong there, a string cut off, a negative count, counts that do not
                sum to ``height * width``, or zero size.
        """
        ends, _ = parse_strings([text], [(height, width)])
        return cls(height, width, ends[:-1])

    @classmethod
    def from_coco(cls, record: Mapping[str, Any]) -> Self:
        """Take COCO's object: ``size`` is ``[height, width]``, ``counts`` a list or the compressed string.

        Raises:
            MaskError: a member is missing, or anything the other forms refuse.
        """
        size, counts = record.get("size"), record.get("counts")
        if not isinstance(size, (list, tuple)) or len(size) != 2 or not all(isinstance(one, int) for one in size):
            raise MaskError(f"size is {size!r}; expected [height, width] in whole pixels")
        if isinstance(counts, (str, bytes)):
            return cls.from_string(counts, *size)
        if counts is None:
            raise MaskError("there is no 'counts'; expected a list of run lengths or the compressed string")
        return cls.from_counts(counts, *size)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.height, self.width

    @property
    def n_pixels(self) -> int:
        """Number of pixels of the image."""
        return self.height * self.width

    @property
    def counts(self) -> NDArray[np.uint32]:
        """COCO's counts, one a run, uint32."""
        return np.diff(self.ends, prepend=np.uint32(0))

    @property
    def area(self) -> int:
        """Number of foreground pixels."""
        return int(kernels.area(self.ends, 0, self.ends.size))

    @property
    def box(self) -> tuple[int, int, int, int]:
        """The smallest box around the foreground as (left, top, width, height), pixels; zeros if there is none."""
        left, top, right, bottom = kernels.bounding_box(self.ends, 0, self.ends.size, self.height)
        return int(left), int(top), int(right - left), int(bottom - top)

    def intersection(self, other: Runs) -> int:
        """Return how many pixels are foreground in both; MaskError if the sizes differ."""
        return int(intersection_matrix([self], [other])[0, 0])

    def union(self, other: Runs) -> int:
        """Return how many pixels are foreground in either; MaskError if the sizes differ."""
        return self.area + other.area - self.intersection(other)

    def iou(self, other: Runs) -> float:
        """Return intersection over union, 1 for two empty masks; MaskError if the sizes differ."""
        return float(iou_matrix([self], [other])[0, 0])

    def to_mask(self) -> NDArray[np.uint8]:
        """Decode into 0 and 1, shape (height, width), in rows."""
        dense = np.zeros((self.height, self.width), np.uint8)
        kernels.decode(self.ends, dense)
        return dense

    def to_string(self) -> str:
        """Return COCO's compressed string."""
        text = np.empty(kernels.MOST_CHARACTERS * self.ends.size, np.uint8)
        return text[: kernels.write_string(self.ends, text)].tobytes().decode("ascii")

    def to_coco(self) -> dict[str, Any]:
        """Return COCO's object with the compressed string."""
        return {"size": [self.height, self.width], "counts": self.to_string()}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Runs):
            return NotImplemented
        return self.size == other.size and np.array_equal(self.ends, other.ends)

    def __hash__(self) -> int:
        return hash((self.size, self.ends.tobytes()))

    def __repr__(self) -> str:
        return f"Runs({self.height} x {self.width}, {self.ends.size} runs, area {self.area})"


def binary_array(mask: ArrayLike) -> NDArray[np.uint8]:
    """Return a dense mask as 0 and 1 in rows, without copying one that already is.

    Raises:
        MaskError: not two-dimensional, neither bool nor whole numbers, or without pixels.
    """
    given = np.asarray(mask)
    if given.ndim != 2 or given.dtype.kind not in "biu":
        raise MaskError(
            f"a mask has shape {given.shape} and type {given.dtype}; expected bool or whole numbers, (height, width)"
        )
    _checked_size(given.shape[0], given.shape[1], "the mask")
    if given.dtype == np.bool_:
        return np.ascontiguousarray(given).view(np.uint8)
    if given.dtype != np.uint8 or given.max() > 1:
        return np.ascontiguousarray(given != 0).view(np.uint8)
    return np.ascontiguousarray(given)


def parse_strings(
    texts: Sequence[str | bytes], sizes: Sequence[tuple[int, int]]
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Read many of COCO's compressed strings at once.

    Args:
        texts: the strings.
        sizes: height and width of each mask, pixels.

    Returns:
        The ends of all masks, one after the other, with one 0 behind the last; and where each mask's begin, int64,
        shape (n_masks + 1,).

    Raises:
        MaskError: what ``Runs.from_string`` refuses; the message names the place of the mask if there are several.
    """
    where = ["the mask" if len(texts) == 1 else f"mask {place}" for place in range(len(texts))]
    n_pixels = np.array(
        [_checked_size(size[0], size[1], name) for size, name in zip(sizes, where, strict=True)], np.int64
    )
    try:
        encoded = [text.encode("ascii") if isinstance(text, str) else text for text in texts]
    except UnicodeEncodeError as error:
        raise MaskError(f"the run lengths hold {error.object[error.start]!r}; expected characters '0' to 'o'") from None
    lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
    data = np.frombuffer(b"".join([*encoded, kernels.PADDING]), np.uint8)
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    ends = np.empty(int(bounds[-1]) + len(encoded) + 1, np.uint32)
    indptr = np.zeros(len(encoded) + 1, np.int64)
    problem = np.zeros(2, np.int64)
    failed = kernels.parse_all(data, bounds, n_pixels, ends, indptr, problem)
    if failed >= 0:
        raise MaskError(f"{where[failed]}: {_told(encoded[failed], sizes[failed], *problem.tolist())}")
    ends[indptr[-1]] = 0
    return ends[: indptr[-1] + 1], indptr


def intersection_matrix(ones: Sequence[Runs], others: Sequence[Runs]) -> NDArray[np.int64]:
    """Return how many pixels each of ``ones`` shares with each of ``others``, shape (n_ones, n_others).

    Raises:
        MaskError: the masks have different sizes.
    """
    result = np.zeros((len(ones), len(others)), np.int64)
    if not result.size:
        return result
    size = ones[0].size
    for runs in (*ones, *others):
        if runs.size != size:
            raise MaskError(f"a mask has {runs.height} x {runs.width} pixels, another {size[0]} x {size[1]}")
    kernels.intersections(*_flat(ones), *_flat(others), size[0], result)
    return result


def iou_matrix(ones: Sequence[Runs], others: Sequence[Runs]) -> NDArray[np.float64]:
    """Return intersection over union of each of ``ones`` with each of ``others``, shape (n_ones, n_others).

    Two empty masks have 1.

    Raises:
        MaskError: the masks have different sizes.
    """
    shared = intersection_matrix(ones, others)
    area = np.array([runs.area for runs in ones], np.int64)[:, None]
    union = area + np.array([runs.area for runs in others], np.int64)[None, :] - shared
    return np.where(union > 0, shared / np.maximum(union, 1), 1.0)


def _flat(masks: Sequence[Runs]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    indptr = np.concatenate([[0], np.cumsum([runs.ends.size for runs in masks])]).astype(np.int64)
    return np.concatenate([runs.ends for runs in masks]), indptr


def _checked_size(height: int, width: int, where: str) -> int:
    """Return the number of pixels."""
    if height <= 0 or width <= 0:
        raise MaskError(f"{where} has {height} x {width} pixels; expected at least one row and one column")
    if height * width > MAX_PIXELS:
        raise MaskError(f"{where} has {height} x {width} pixels; the most is {MAX_PIXELS:,}: cut the image into tiles")
    return int(height * width)


def _wrong_sum(total: int, height: int, width: int) -> str:
    return (
        f"the run lengths sum to {total}; expected {height} x {width} = {height * width}: "
        "they are corrupt, or of another size"
    )


def _told(text: bytes, size: tuple[int, int], problem: int, value: int) -> str:
    """Say what ``parse_all`` found wrong."""
    if problem == kernels.BAD_CHARACTER:
        return f"character {value} of the run lengths is {chr(text[value])!r}; expected '0' to 'o'"
    if problem == kernels.CUT_OFF:
        return f"the run lengths are cut off: character {len(text) - 1}, the last, says that more follows"
    if problem == kernels.NEGATIVE:
        return f"run {value} is shorter than 0; the run lengths are corrupt"
    return _wrong_sum(value, *size)
