"""Files to items, annotations and labels, and back: one module a format, and `storage` for where the files are.

Nothing here knows the broker, a task queue or a terminal. The types and errors are named here; functions are imported
from the module of their format. See ``docs/formats.md`` and ``docs/storage.md``.
"""

from __future__ import annotations

from voxpop.formats.errors import StorageError
from voxpop.formats.model import Annotation, FormatError, Item, Label, Problem, Version

__all__ = ["Annotation", "FormatError", "Item", "Label", "Problem", "StorageError", "Version"]
