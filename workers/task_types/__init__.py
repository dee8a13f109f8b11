"""Task types by name. A user's own is found through the entry point group ``voxpop.task_types``."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import Final

from voxpop.broker.errors import InvalidInputError
from voxpop.workers.task_types.base import TaskType

__all__ = ["TaskType", "UnknownTaskTypeError", "get_task_type", "task_type_names"]

ENTRY_POINTS: Final = "voxpop.task_types"


class UnknownTaskTypeError(InvalidInputError):
    """No task type is registered under this name."""


def task_type_names() -> list[str]:
    """Return the names of all registered task types, sorted."""
    return sorted({entry.name for entry in entry_points(group=ENTRY_POINTS)})


@cache
def get_task_type(name: str) -> TaskType:
    """Return the task type registered as ``name``.

    Raises:
        UnknownTaskTypeError: there is none; the message lists those that exist.
    """
    for entry in entry_points(group=ENTRY_POINTS):
        if entry.name == name:
            found = entry.load()
            if not isinstance(found, TaskType) or found.name != name:
                raise UnknownTaskTypeError(
                    f"the entry point {name!r} = {entry.value!r} gives {found!r:.80}; expected a TaskType of that name"
                )
            return found
    raise UnknownTaskTypeError(f"unknown task type {name!r}; known task types: {', '.join(task_type_names())}")
