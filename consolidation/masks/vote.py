"""Votes on pixels: majority of binary masks, plurality of classes. Every rater counts the same."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TYPE_CHECKING, ClassVar, Final, Literal

import numpy as np

from voxpop.consolidation.jit import kernel
from voxpop.consolidation.masks.errors import MaskError
from voxpop.consolidation.masks.result import MaskResult, decided_by_share
from voxpop.consolidation.masks.rle import Runs
from voxpop.consolidation.masks.state import MaskState
from voxpop.consolidation.masks.sweep import merging_kernel
from voxpop.consolidation.masks.vectors import PIXELS, SCRATCH, STEPS, all_same, challenge, vote
from voxpop.consolidation.votes.ties import mix, name_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from voxpop.consolidation.masks.table import Masks

__all__ = [
    "BinaryTies", "ClassTies", "MaskMajority", "MaskMajorityState", "MaskPlurality", "MaskPluralityState",
    "need_form", "packed_majority", "preferences", "raters_needed",
]  # fmt: skip

BinaryTies = Literal["background", "foreground"]
ClassTies = Literal["seeded", "undecided"]
_TOLERANCE: Final = 1e-9  # a share this close to the threshold is at it
_ALL_BITS: Final = 0xFF


def raters_needed(n_raters: int, threshold: float, ties: BinaryTies) -> int:
    """Return how many of the raters make foreground: more than the share ``threshold``, or as many if ties are."""
    share = threshold * n_raters
    at = round(share)
    tied = abs(share - at) <= _TOLERANCE
    needed = at if tied and ties == "foreground" else (at if tied else math.floor(share)) + 1
    return min(max(needed, 1), n_raters)


@dataclasses.dataclass(frozen=True)
class MaskMajority:
    """A pixel is foreground if more than a share of the raters drew it; an empty mask counts like any other.

    The probability of foreground is the share of the raters who drew the pixel, no calibrated probability. A tie is a
    share just at the threshold: background by default, foreground with ``ties="foreground"``, which is what crowd-kit's
    majority does. SimpleITK's LabelVoting gives ties a label of their own: that is ``mask_plurality`` with
    ``ties="undecided"`` on the same arrays as label images.

    Run lengths are merged without decoding them, and give run lengths.

    Attributes:
        threshold: the share, above 0, 1 at most; with 1 all must agree.
        ties: what a pixel becomes that just as many raters drew as the threshold says.
    """

    merges: ClassVar[str] = "masks"

    threshold: float = 0.5
    ties: BinaryTies = "background"

    def __post_init__(self) -> None:
        check_binary(self.threshold, self.ties)

    @property
    def name(self) -> str:
        """The registry's name."""
        return "mask_majority"

    def fit(self, annotations: Masks) -> MaskResult:
        """Merge the masks of each item.

        Raises:
            MaskError: the masks are label images.
        """
        masks = annotations
        need_form(masks, self.name, "dense", "runs")

        def decide(voted: NDArray[np.int64], item: int) -> NDArray[np.uint8]:
            enough: NDArray[np.uint8] = (voted[:, 1] >= self._needed(masks, item)).astype(np.uint8)
            return enough

        return MaskResult(
            masks=masks,
            decisions=lambda item: decided_by_share(masks, item, decide),
            merged=tuple(self._merged(masks, item) for item in range(masks.n_items)),
        )

    def state(self) -> MaskMajorityState:
        """Start an empty stream."""
        return MaskMajorityState(self)

    def _needed(self, masks: Masks, item: int) -> int:
        return raters_needed(len(masks.answers(item)), self.threshold, self.ties)

    def _merged(self, masks: Masks, item: int) -> NDArray[np.uint8] | Runs:
        needed = self._needed(masks, item)
        if masks.form == "dense":
            arrays = masks.dense(item)
            dense = np.empty(arrays[0].shape, np.uint8)
            _majority(tuple(array.reshape(-1) for array in arrays), needed, 1, dense.reshape(-1))
            return dense
        ends, starts = masks.runs(item)
        height, width = masks.size(item)
        out = np.empty(int(starts[-1]) + 1, np.uint32)
        n = merging_kernel(starts.size - 1)(ends, starts, needed, height * width, out)
        return Runs(height, width, out[:n].copy())


class MaskMajorityState(MaskState):
    """The stream of ``MaskMajority``: always equal to the batch."""

    method_type = MaskMajority


@dataclasses.dataclass(frozen=True)
class MaskPlurality:
    """Each pixel of a label image has the class that most raters gave it.

    The probability of a class is its share of the raters. Among classes with as many raters the one with the highest
    hash of (seed, item name, class name) wins, everywhere in an item the same; with ``ties="undecided"`` such pixels
    get K, the number of classes, which is no class: so does SimpleITK's LabelVoting when the last class occurs.

    Attributes:
        ties: what becomes of a pixel for which several classes have as many raters.
        seed: breaks ties.
    """

    merges: ClassVar[str] = "masks"

    ties: ClassTies = "seeded"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.ties not in {"seeded", "undecided"}:
            raise ValueError(f"ties is {self.ties!r}; expected 'seeded' or 'undecided'")

    @property
    def name(self) -> str:
        """The registry's name."""
        return "mask_plurality"

    def fit(self, annotations: Masks) -> MaskResult:
        """Merge the label images of each item.

        Raises:
            MaskError: the masks are binary.
        """
        masks = annotations
        need_form(masks, self.name, "labels")
        order = preferences(masks, self.seed)
        undecided = masks.classes.size if self.ties == "undecided" else -1

        def decide(voted: NDArray[np.int64], item: int) -> NDArray[np.uint8]:
            return self._decided(voted, order[item])

        merged = []
        for item in range(masks.n_items):
            arrays = masks.dense(item)
            out = np.empty(arrays[0].shape, np.uint8)
            _plurality(tuple(array.reshape(-1) for array in arrays), order[item], undecided, out.reshape(-1))
            merged.append(out)
        return MaskResult(
            masks=masks, decisions=lambda item: decided_by_share(masks, item, decide), merged=tuple(merged)
        )

    def state(self) -> MaskPluralityState:
        """Start an empty stream."""
        return MaskPluralityState(self)

    def _decided(self, voted: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.uint8]:
        labels = order[voted[:, order].argmax(axis=1)]
        if self.ties == "undecided":
            best = voted.max(axis=1, keepdims=True)
            labels = np.where((voted == best).sum(axis=1) > 1, voted.shape[1], labels)
        chosen: NDArray[np.uint8] = labels.astype(np.uint8)
        return chosen


class MaskPluralityState(MaskState):
    """The stream of ``MaskPlurality``: always equal to the batch."""

    method_type = MaskPlurality


def packed_majority(masks: Sequence[NDArray[np.uint8]], needed: int) -> NDArray[np.uint8]:
    """Return the bits that at least ``needed`` of up to 64 masks have, packed as they are (``numpy.packbits``).

    Args:
        masks: contiguous arrays of one shape, eight pixels a byte.
        needed: 1 to the number of masks.
    """
    out = np.empty(masks[0].shape, np.uint8)
    _majority(tuple(mask.reshape(-1) for mask in masks), needed, _ALL_BITS, out.reshape(-1))
    return out


def check_binary(threshold: float, ties: BinaryTies) -> None:
    """Refuse parameters of a binary decision with a ValueError."""
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold is {threshold!r}; expected a number above 0, 1 at most")
    if ties not in {"background", "foreground"}:
        raise ValueError(f"ties is {ties!r}; expected 'background' or 'foreground'")


def need_form(masks: Masks, method: str, *forms: str) -> None:
    """Raise MaskError unless the masks have one of these forms."""
    if masks.form not in forms:
        instead = "mask_plurality or mask_multilabel_staple" if masks.form == "labels" else "from_labels"
        raise MaskError(f"{method} takes {' or '.join(forms)} masks, found {masks.form}; use {instead}")


def preferences(masks: Masks, seed: int) -> NDArray[np.int64]:
    """Return the classes of each item, the one that wins ties first, (n_items, K), as ``choose_labels`` has it."""
    item_keys = mix(name_keys(masks.items) + np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64))
    scores = mix(item_keys[:, None] ^ mix(name_keys(masks.classes))[None, :])
    return np.argsort(~scores, axis=1, kind="stable").astype(np.int64)


def _majority(masks: tuple[NDArray[np.uint8], ...], needed: int, kept: int, out: NDArray[np.uint8]) -> None:
    _with_padded_end(_majority_kernel(needed, kept), masks, out)


def _plurality(
    masks: tuple[NDArray[np.uint8], ...],
    order: NDArray[np.int64],
    undecided: int,
    out: NDArray[np.uint8],
) -> None:
    _with_padded_end(lambda arrays, target, n: _plurality_kernel(arrays, order, undecided, target, n), masks, out)


def _with_padded_end(run: Callable[..., None], masks: tuple[NDArray[np.uint8], ...], out: NDArray[np.uint8]) -> None:
    """Run a kernel on all whole steps, and on a copy of what is left."""
    whole = out.size // PIXELS * PIXELS
    run(masks, out, whole)
    if whole < out.size:
        ends = tuple(np.pad(mask[whole:], (0, PIXELS + whole - out.size)) for mask in masks)
        last = np.empty(PIXELS, np.uint8)
        run(ends, last, PIXELS)
        out[whole:] = last[: out.size - whole]


@functools.cache
def _majority_kernel(needed: int, kept: int) -> Callable[..., None]:
    @kernel
    def majority(masks: tuple[NDArray[np.uint8], ...], out: NDArray[np.uint8], n: int) -> None:
        scratch = np.empty(SCRATCH, np.uint8)
        for at in range(0, n, STEPS * PIXELS):
            vote(masks, at, min(STEPS, (n - at) // PIXELS), needed, kept, scratch, out)

    made: Callable[..., None] = majority
    return made


@kernel
def _plurality_kernel(
    masks: tuple[NDArray[np.uint8], ...], order: NDArray[np.int64], undecided: int, out: NDArray[np.uint8], n: int
) -> None:
    best = np.empty(PIXELS, np.uint8)
    tied = np.empty(PIXELS, np.uint8)
    for at in range(0, n, PIXELS):
        if all_same(masks, at):
            out[at : at + PIXELS] = masks[0][at : at + PIXELS]
            continue
        best[:] = 0
        for k in range(order.size):
            challenge(masks, at, order[k], best, out, tied)
        if undecided >= 0:
            for i in range(PIXELS):
                if tied[i]:
                    out[at + i] = undecided
