"""What the cases and systems of the suite are called, and how large they are: raw runs are found by these names."""

from __future__ import annotations

from typing import Final

from benchmarks.suites.votes.data import Size

OURS: Final = "voxpop"
THREADS: Final = 2
OURS_ON_ONE: Final = "voxpop, 1 thread"
FLOAT32: Final = "voxpop, float32"
FRESH_MACHINE: Final = "voxpop, first time"
CACHED: Final = "voxpop, cached"
CROWD_KIT: Final = "crowd-kit"

ITERATIONS: Final = 20
PARITY_ITERATIONS: Final = 10

SMALL: Final = Size(100_000, 500, 4)
MANY_CLASSES: Final = Size(1_000_000, 2_000, 10)
LARGE: Final = Size(10_000_000, 20_000, 4)
HUGE: Final = Size(100_000_000, 20_000, 4)
QUICK_SMALL: Final = Size(20_000, 100, 4)
QUICK_MANY_CLASSES: Final = Size(200_000, 400, 10)
QUICK_LARGE: Final = Size(2_000_000, 4_000, 4)


def speed(size: Size) -> str:
    return f"dawid_skene, {size.title}"


def from_codes(size: Size) -> str:
    return f"codes to labels, {size.title}"


def from_strings(size: Size) -> str:
    return f"strings to labels, {size.title}"


def stream(size: Size) -> str:
    return f"1,000 votes added to {size.title}"


def stream_refit(size: Size) -> str:
    return f"stream refitted, {size.title}"


def first_use(method: str) -> str:
    return f"first use, {method}"


def beside(method: str, size: Size, *, as_strings: bool) -> str:
    """The same work by both, from columns to labels."""
    return f"{method}, {'strings' if as_strings else 'numbers'} to labels, {size.title}"


def em_alone(size: Size) -> str:
    return f"dawid_skene, iterations alone, {size.title}"


def parity(of: str) -> str:
    return f"parity, {PARITY_ITERATIONS} iterations, {of}"


PARITY_PREFIX: Final = parity("")
FIRST_USE_PREFIX: Final = first_use("")
ACCURACY_PREFIX: Final = "accuracy, "
BIRDS: Final = "Ground Truth's own labels, birds"
