"""The stream of a method for masks: it keeps every mask, and merges those items that are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from voxpop.consolidation.masks.result import MaskResult
from voxpop.consolidation.masks.table import Masks
from voxpop.consolidation.refit import RefitState

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MaskState"]


class MaskState(RefitState[Masks, MaskResult]):
    """A stream of masks; a subclass names its method's class."""

    table_type: ClassVar[type[Any]] = Masks

    def posterior(self, items: Iterable[Any] | None = None) -> MaskResult:
        """Return the result of the items asked for, in that order; of all items if None.

        Each item is merged on its own, so only these are, unless the method learns of workers from all items.

        Raises:
            KeyError: nobody drew anything for one of the items.
            VotesError: nothing was added yet.
        """
        if items is None or getattr(self.method, "pooled", False):
            return super().posterior(items)
        return self.method.fit(self.annotations().of_items(list(items)))
