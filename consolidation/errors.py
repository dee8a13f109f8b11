"""What is wrong with what people said, as far as consolidation can tell. Nothing heavy is imported here."""

from __future__ import annotations

__all__ = ["ConsolidationError"]


class ConsolidationError(ValueError):
    """Annotations cannot be used: the message says what was found, where, what was expected and what to do."""
