"""The stream of votes that all vote methods share: a log of what was said, fed answer by answer by a running job.

A stream keeps every vote (18 bytes each, and the names once), so it can be merged, saved, and fitted anew exactly as
the batch would. It is used by one thread at a time; many actors keep one each and merge them.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

from voxpop.consolidation.votes.log import VoteLog
from voxpop.consolidation.votes.snapshot import SnapshotError, pack, unpack

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from voxpop.consolidation.method import Method
    from voxpop.consolidation.votes.result import VoteResult
    from voxpop.consolidation.votes.table import Votes

__all__ = ["SnapshotError", "VoteState"]

M = TypeVar("M", bound="Method[Votes, VoteResult]")


class VoteState(Generic[M]):
    """The stream of a method that is a frozen dataclass.

    A subclass names the method's class as ``method_type``. It is complete as it stands for methods that are quick
    enough to fit the votes of the items asked for each time; a method that learns of workers overrides ``posterior``,
    and ``_learned`` and ``_recall`` for what it saves besides the votes.
    """

    method_type: ClassVar[type[Any]]

    def __init__(self, method: M) -> None:
        self.method = method
        self._log = VoteLog()

    @property
    def n_votes(self) -> int:
        """Number of votes seen so far."""
        return self._log.n_votes

    def add(self, annotations: Votes) -> None:
        """Take new votes and gold labels; names not seen before are added. A later gold label replaces a former one.

        Every vote counts: whoever delivers an answer twice must drop the second.
        """
        self._log.add(annotations)

    def merge(self, other: Self) -> None:
        """Take over all votes and gold labels of another stream of the same method, which is left as it is.

        Raises:
            ValueError: the other stream has another method or other parameters.
        """
        if other.method != self.method:
            raise ValueError(f"cannot merge a stream of {other.method} into one of {self.method}; make them equal")
        if other.n_votes:
            self._log.add(other._log.votes())

    def votes(self) -> Votes:
        """Return everything seen so far as one table, items in order of arrival.

        Raises:
            VotesError: there are no votes yet.
        """
        return self._log.votes()

    def save(self) -> bytes:
        """Return a self-describing snapshot: a header with version, method and names, arrays, and a checksum.

        Raises:
            TypeError: a name is neither text nor a number.
        """
        header, arrays = self._log.dump()
        header |= {"method": self.method.name, "parameters": _parameters(self.method)}
        return pack(header, arrays | self._learned())

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
            state._log = VoteLog.restore(header, arrays)
            state._recall(arrays)
        except (KeyError, TypeError) as error:
            raise SnapshotError(f"the snapshot's header does not fit this version: {error}") from error
        return state

    def posterior(self, items: Iterable[Any] | None = None) -> VoteResult:
        """Return labels of the items asked for, in that order; of all items if None.

        Workers' quality is judged by these items only.

        Raises:
            KeyError: nothing was said about one of the items.
            VotesError: there are no votes yet.
        """
        return self.method.fit(self._log.votes(items))

    def _learned(self) -> dict[str, NDArray[Any]]:
        return {}

    def _recall(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Take back what ``_learned`` gave."""


def _parameters(method: Any) -> dict[str, Any]:
    return {field.name: getattr(method, field.name) for field in dataclasses.fields(method)}
