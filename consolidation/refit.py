"""The stream of a method whose fit is quick: it keeps every annotation, and fits them all anew when asked.

For annotations other than votes on categories, whose streams stand in ``votes/state.py``. What a table must be able to
do for it says ``Annotations``.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, Self, TypeVar

from voxpop.consolidation.votes.columns import VotesError
from voxpop.consolidation.votes.snapshot import SnapshotError, pack, unpack

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from voxpop.consolidation.method import Method

__all__ = ["Annotations", "RefitState"]

_MOST_PARTS = 64  # tables kept apart before they are joined


class Annotations(Protocol):
    """A table that can be joined with others and written down."""

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return all rows of one or more tables, in order; what is known later replaces what was known before."""

    def dump(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return a header for JSON and arrays from which ``restore`` makes an equal table."""

    @classmethod
    def restore(cls, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """Return the table that ``dump`` described."""

    def __len__(self) -> int: ...


class Selectable(Protocol):
    """A result of which a part can be had."""

    def of_items(self, items: Sequence[Any]) -> Self:
        """Return the result of these items, in this order; KeyError for one that is not known."""


A = TypeVar("A", bound=Annotations)
R = TypeVar("R", bound=Selectable)


class RefitState(Generic[A, R]):
    """A stream of annotations; a subclass names its method's class and its table's class, and nothing else.

    ``posterior`` fits all annotations if any came since the last time, so it is always equal to the batch, and costs as
    much. It is used by one thread at a time; many actors keep one each and merge them.
    """

    method_type: ClassVar[type[Any]]
    table_type: ClassVar[type[Any]]

    def __init__(self, method: Method[A, R]) -> None:
        self.method = method
        self._parts: list[A] = []
        self._result: R | None = None

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts)

    def add(self, annotations: A) -> None:
        """Take new annotations; names not seen before are added.

        Every annotation counts: whoever delivers one twice must drop the second.
        """
        self._parts.append(annotations)
        self._result = None
        if len(self._parts) > _MOST_PARTS:
            self._parts = [self.annotations()]

    def merge(self, other: Self) -> None:
        """Take over all annotations of another stream of the same method, which is left as it is.

        Raises:
            ValueError: the other stream has another method or other parameters.
        """
        if other.method != self.method:
            raise ValueError(f"cannot merge a stream of {other.method} into one of {self.method}; make them equal")
        if other._parts:
            self.add(other.annotations())

    def annotations(self) -> A:
        """Return everything seen so far as one table.

        Raises:
            VotesError: nothing was added yet.
        """
        if not self._parts:
            raise VotesError("there are no answers yet; add some before asking for labels")
        if len(self._parts) > 1:
            self._parts = [self.table_type.joined(self._parts)]
        return self._parts[0]

    def posterior(self, items: Iterable[Any] | None = None) -> R:
        """Return the result of the items asked for, in that order; of all items if None.

        Raises:
            KeyError: nothing was said about one of the items.
            VotesError: nothing was added yet.
        """
        if self._result is None:
            self._result = self.method.fit(self.annotations())
        return self._result if items is None else self._result.of_items(list(items))

    def save(self) -> bytes:
        """Return a self-describing snapshot: a header with version, method and names, arrays, and a checksum.

        Raises:
            TypeError: a name is neither text nor a number.
        """
        parameters: dict[str, Any] = {
            field.name: getattr(self.method, field.name)
            for field in dataclasses.fields(self.method)  # type: ignore[arg-type]  # every method is a dataclass
        }
        header: dict[str, Any] = {"method": self.method.name, "parameters": parameters}
        if not self._parts:
            return pack(header, {})
        names, arrays = self.annotations().dump()
        for kind, listed in names.items():
            for name in listed:
                if not isinstance(name, (str, int, float)):
                    raise TypeError(
                        f"{kind} has the name {name!r} ({type(name).__name__}); only text and numbers can be saved"
                    )
        return pack(header | {"names": names}, arrays)

    @classmethod
    def load(cls, data: bytes) -> Self:
        """Return the stream that ``save`` wrote.

        Raises:
            SnapshotError: not a snapshot, damaged, of another version, or of another method.
        """
        header, arrays = unpack(data)
        expected = cls.method_type().name
        try:
            if header["method"] != expected:
                raise SnapshotError(f"the snapshot is of method {header['method']!r}; expected {expected!r}")
            state = cls(cls.method_type(**header["parameters"]))
            if "names" in header:
                state.add(cls.table_type.restore(header["names"], arrays))
        except (KeyError, TypeError) as error:
            raise SnapshotError(f"the snapshot's header does not fit this version: {error}") from error
        return state
