"""The two protocols of consolidation and the registry of methods.

A *method* is a small immutable object of its parameters. ``fit`` takes what everybody said about many items at once and
returns a *result*; ``state`` starts the streaming form of the same method, which a running job feeds answer by answer.
Nothing here reads files or talks to a server.

To add a method, follow ``docs/adding-a-method.md``.
"""

from __future__ import annotations

import inspect
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Method", "State", "UnknownMethodError", "find_method", "get_method", "method_names", "parameter_problem"]

A_contra = TypeVar("A_contra", contravariant=True)  # what people said, e.g. Votes
R_co = TypeVar("R_co", covariant=True)  # labels with confidences, and what was learned of each worker

ENTRY_POINTS = "voxpop.methods"
VOTES = "votes"


@runtime_checkable
class State(Protocol[A_contra, R_co]):
    """Consolidation of a stream: answers arrive in any order, labels can be asked for at any time."""

    def add(self, annotations: A_contra) -> None:
        """Take new answers; items and workers not seen before are added."""

    def merge(self, other: Self) -> None:
        """Take over everything another state of the same method has seen."""

    def posterior(self, items: Iterable[str] | None = None) -> R_co:
        """Return labels and confidences of ``items`` (all of them if None) from all answers seen so far."""

    def save(self) -> bytes:
        """Return a self-describing, versioned snapshot."""

    @classmethod
    def load(cls, data: bytes) -> Self:
        """Return the state that ``save`` wrote; raises ValueError for anything else."""


@runtime_checkable
class Method(Protocol[A_contra, R_co]):
    """One way to turn what several people said into one answer."""

    @property
    def name(self) -> str:
        """The registry's name: lower case with underscores."""

    def fit(self, annotations: A_contra) -> R_co:
        """Consolidate many items at once."""

    def state(self) -> State[A_contra, R_co]:
        """Start an empty streaming state with this method's parameters."""


class UnknownMethodError(ValueError):
    """No consolidation method of the kind wanted is registered under this name."""

    def __init__(self, name: str, merges: str | None = None, *, instead: str = "") -> None:
        kind = f" for {merges}" if merges else ""
        found = f"{name!r} merges {instead}" if instead else f"unknown consolidation method {name!r}"
        super().__init__(f"{found}; known methods{kind}: {', '.join(method_names(merges))}")
        self.name = name


def method_names(merges: str | None = None) -> list[str]:
    """Return the names of all registered methods, sorted; of those for one kind of annotations if it is given.

    To know the kind, the modules of all methods are loaded.
    """
    entries = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    if merges is None:
        return sorted(entries)
    return sorted(name for name, entry in entries.items() if _merges(entry.load()) == merges)


def find_method(name: str, merges: str | None = None) -> Any:
    """Return the class registered as ``name``; loads only the module of that method.

    Args:
        name: as in the entry point.
        merges: the kind of annotations that it has to take: "votes", "numbers", ...; None for any. A method says its
            kind as the class attribute ``merges``; one that says nothing merges votes.

    Raises:
        UnknownMethodError: no such method; the message lists those that exist.
    """
    for entry in entry_points(group=ENTRY_POINTS):
        if entry.name == name:
            found = entry.load()
            if merges is not None and _merges(found) != merges:
                raise UnknownMethodError(name, merges, instead=_merges(found))
            return found
    raise UnknownMethodError(name, merges)


def get_method(name: str, /, *, merges: str | None = None, **parameters: object) -> Method[object, object]:
    """Return the method registered as ``name`` with ``parameters``; the rest as for ``find_method``.

    Raises:
        UnknownMethodError: no such method; the message lists those that exist.
        TypeError: the method does not take one of the parameters.
    """
    made: Method[object, object] = find_method(name, merges)(**parameters)
    return made


def _merges(method: Any) -> str:
    return getattr(method, "merges", VOTES)


def parameter_problem(name: str, given: Mapping[str, object], error: Exception) -> str:
    """Say what is wrong with the parameters that ``get_method`` refused with ``error``, and which ones there are."""
    try:
        known = list(inspect.signature(type(get_method(name))).parameters)
    except (TypeError, ValueError):  # one that cannot be made without parameters speaks for itself
        return str(error)
    takes = f"{name} takes {', '.join(known) or 'none'}"
    unknown = ", ".join(repr(one) for one in given if one not in known)
    return f"found {unknown}; {takes}" if unknown else f"{error}; {takes}"
