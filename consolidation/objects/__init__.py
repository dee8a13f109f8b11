"""What all shapes share: who marked which objects in which item, what became one object, and scores against gold."""

from __future__ import annotations

from voxpop.consolidation.objects.result import Objects
from voxpop.consolidation.objects.table import ObjectsError, ObjectTable

__all__ = ["ObjectTable", "Objects", "ObjectsError"]
