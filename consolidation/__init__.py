"""What several people said about the same thing, merged into one answer with a confidence.

Pure numpy and numba: no files, no servers. ``Votes`` is the way in for labels; methods are found by name with
``get_method``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxpop.consolidation.method import get_method, method_names

if TYPE_CHECKING:
    from voxpop.consolidation.votes.table import Votes

__all__ = ["Votes", "get_method", "method_names"]


def __getattr__(name: str) -> Any:
    """Load ``Votes`` when it is first asked for: it brings the compiler, which listing the methods does not need."""
    if name == "Votes":
        from voxpop.consolidation.votes.table import Votes  # noqa: PLC0415

        return Votes
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
