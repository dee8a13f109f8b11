"""The two protocols of consolidation and the registry of methods.

A *method* is a small immutable object of its parameters. ``fit`` takes what everybody said about many items at once and
returns a *result*; ``state`` starts the streaming form of the same method, which a running job feeds answer by answer.
Nothing here reads files or talks to a server.

To add a method, follow ``docs/adding-a-method.md``.
"""

from __future__ import annotations

import inspect
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Protocol, Self, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Method", "State", "UnknownMethodError", "get_method", "method_names", "parameter_problem"]

A_contra = TypeVar("A_contra", contravariant=True)  # what people said, e.g. Votes
R_co = TypeVar("R_co", covariant=True)  # labels with confidences, and what was learned of each worker

ENTRY_POINTS = "voxpop.methods"


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
    """No consolidation method is registered under this name."""

    def __init__(self, name: str) -> None:
        known = ", ".join(method_names())
        super().__init__(f"unknown consolidation method {name!r}; known methods: {known}")
        self.name = name


def method_names() -> list[str]:
    """Return the names of all registered methods, sorted."""
    return sorted({entry.name for entry in entry_points(group=ENTRY_POINTS)})


def get_method(name: str, **parameters: object) -> Method[object, object]:
    """Return the method registered as ``name`` with ``parameters``; loads only the module of that method.

    Raises:
        UnknownMethodError: no such method; the message lists those that exist.
        TypeError: the method does not take one of the parameters.
    """
    for entry in entry_points(group=ENTRY_POINTS):
        if entry.name == name:
            made: Method[object, object] = entry.load()(**parameters)
            return made
    raise UnknownMethodError(name)


def parameter_problem(name: str, given: Mapping[str, object], error: Exception) -> str:
    """Say what is wrong with the parameters that ``get_method`` refused with ``error``, and which ones there are."""
    try:
        known = list(inspect.signature(type(get_method(name))).parameters)
    except (TypeError, ValueError):  # one that cannot be made without parameters speaks for itself
        return str(error)
    takes = f"{name} takes {', '.join(known) or 'none'}"
    unknown = ", ".join(repr(one) for one in given if one not in known)
    return f"found {unknown}; {takes}" if unknown else f"{error}; {takes}"
