"""What is wrong with masks. Nothing heavy is imported here."""

from __future__ import annotations

from voxpop.consolidation.errors import ConsolidationError

__all__ = ["MaskError"]


class MaskError(ConsolidationError):
    """A mask cannot be used: the message says what was found, where, what was expected and what to do."""
