"""The decorator of kernels that must give the same bits as plain Python: no reordered sums, no fused operations.

Everything else takes ``kernel`` of ``consolidation/jit.py``, which is quicker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numba

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["strict_kernel"]

F = TypeVar("F", bound="Callable[..., Any]")


def strict_kernel(function: F) -> F:
    """Compile ``function`` when it is first called, every operation as IEEE 754 says it, one after the other."""
    flags: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        compiled: F = numba.njit(cache=True, **flags)(function)
    except RuntimeError:  # numba found no folder to write to
        compiled = numba.njit(**flags)(function)
    return compiled
