"""Sets of labels by any method for votes: each class is a question of its own, answered yes or no.

Tables that stack the classes in one fit were tried instead (simulated workers with a sensitivity and a specificity
each, alike or different from class to class; mean over 72 crowds, Dawid-Skene): a class's share and the ease of its
question differ too much. One table a class had F1 .894, items x classes answered by workers .878, items x classes
answered by workers x classes .812, below majority's .869.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import numpy as np

from voxpop.consolidation.method import get_method
from voxpop.consolidation.multilabel.result import MultiLabelResult
from voxpop.consolidation.votes.columns import VotesError, name_array, sort_names
from voxpop.consolidation.votes.dawid_skene import DawidSkene
from voxpop.consolidation.votes.majority import Majority, MajorityState
from voxpop.consolidation.votes.snapshot import SnapshotError, pack, unpack

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from voxpop.consolidation.method import Method, State
    from voxpop.consolidation.multilabel.table import MultiLabelVotes
    from voxpop.consolidation.votes.result import VoteResult
    from voxpop.consolidation.votes.table import Votes

__all__ = ["MultiLabel", "MultiLabelState"]

_TOLERANCE: Final = 1e-9  # this close to the threshold is at it: sums in another order must not decide


@dataclasses.dataclass(frozen=True)
class MultiLabel:
    """Per-class consolidation: whether a class applies is a vote with two classes, for every class by itself.

    An answer in which nothing was ticked is a vote against every class. The probability of a class is what the method
    gives to "applies"; a class is a label if that is at least ``threshold``. Each class has its own fit, so the cost is
    that of the method times the number of classes.

    Attributes:
        method: any method for votes.
        threshold: how probable a class must be, between 0 and 1.
    """

    merges: ClassVar[str] = "sets of labels"

    method: Method[Votes, VoteResult] = dataclasses.field(default_factory=DawidSkene)
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold is {self.threshold!r}; expected a number between 0 and 1")

    @property
    def name(self) -> str:
        """The registry's name."""
        return "multi_label"

    def fit(self, annotations: MultiLabelVotes) -> MultiLabelResult:
        """Decide on every class of all items."""
        classes = annotations.classes.tolist()
        return self.combined(classes, [self.method.fit(annotations.of_class(label)) for label in classes])

    def state(self) -> MultiLabelState:
        """Start an empty stream."""
        return MultiLabelState(self)

    def combined(self, classes: list[Any], results: list[VoteResult]) -> MultiLabelResult:
        """Return the sets that the results of the classes make together; one result a class, of the same items."""
        probability = np.stack([result.posterior[:, 1].astype(np.float64) for result in results], axis=1)
        return MultiLabelResult(
            items=results[0].items,
            classes=name_array(classes),
            workers=results[0].workers,
            applies=probability >= self.threshold - _TOLERANCE,
            probability=probability,
            worker_quality=np.stack([result.worker_quality for result in results], axis=1),
        )


class MultiLabelState:
    """The stream of ``MultiLabel``: one stream of the method for each class, all with the same answers.

    A class that appears later was not ticked in the answers before. Items of which everybody abstained are unknown to
    the stream.
    """

    def __init__(self, method: MultiLabel) -> None:
        self.method = method
        self._classes: list[Any] = []
        self._streams: dict[Any, State[Votes, VoteResult]] = {}
        self._answers = Majority().state()  # a vote against, for each answer: the past of classes that come later

    @property
    def n_answers(self) -> int:
        """Number of answers seen so far."""
        return self._answers.n_votes

    def add(self, annotations: MultiLabelVotes) -> None:
        """Take new answers; items, workers and classes not seen before are added.

        Every answer counts: whoever delivers one twice must drop the second.
        """
        self._open(annotations.classes.tolist())
        for label, stream in self._streams.items():
            stream.add(annotations.of_class(label))
        self._answers.add(annotations.against_all())

    def merge(self, other: Self) -> None:
        """Take over all answers of another stream of the same method, which is left as it is.

        Raises:
            ValueError: the other stream has another method or other parameters.
        """
        if other.method != self.method:
            raise ValueError(f"cannot merge a stream of {other.method} into one of {self.method}; make them equal")
        if other.n_answers == 0:
            return
        self._open(other._classes)
        against = other._answers.votes()
        for label, stream in self._streams.items():
            if label in other._streams:
                stream.merge(other._streams[label])
            else:
                stream.add(against)
        self._answers.merge(other._answers)

    def posterior(self, items: Iterable[Any] | None = None) -> MultiLabelResult:
        """Return the labels of the items asked for, in that order; of all items if None.

        Raises:
            KeyError: nothing was said about one of the items.
            VotesError: there are no answers yet.
        """
        if self.n_answers == 0:
            raise VotesError("there are no answers yet; add some before asking for labels")
        asked = None if items is None else list(items)
        return self.method.combined(self._classes, [self._streams[label].posterior(asked) for label in self._classes])

    def save(self) -> bytes:
        """Return a self-describing snapshot: a header with method and classes, the snapshot of each stream, a checksum.

        Raises:
            TypeError: a name is neither text nor a number.
        """
        for label in self._classes:
            if not isinstance(label, (str, int, float)):
                raise TypeError(f"class {label!r} is {type(label).__name__}; only text and numbers can be saved")
        inner = self.method.method
        parts = [self._answers.save(), *(self._streams[label].save() for label in self._classes)]
        header = {
            "method": self.method.name,
            "threshold": self.method.threshold,
            "inner": inner.name,
            "parameters": {field.name: getattr(inner, field.name) for field in dataclasses.fields(inner)},  # type: ignore[arg-type]  # every method is a dataclass
            "classes": self._classes,
            "lengths": [len(part) for part in parts],
        }
        return pack(header, {str(i): _words(part) for i, part in enumerate(parts)})

    @classmethod
    def load(cls, data: bytes) -> Self:
        """Return the stream that ``save`` wrote.

        Raises:
            SnapshotError: not a snapshot, damaged, of another version, or of another method.
            UnknownMethodError: the method of its votes is not installed.
        """
        header, arrays = unpack(data)
        try:
            if header["method"] != "multi_label":
                raise SnapshotError(f"the snapshot is of method {header['method']!r}; expected 'multi_label'")
            inner: Any = get_method(header["inner"], **header["parameters"])
            state = cls(MultiLabel(inner, header["threshold"]))
            parts = [arrays[str(i)].tobytes()[:length] for i, length in enumerate(header["lengths"])]
            state._answers = MajorityState.load(parts[0])
            stream_type = type(inner.state())
            for label, part in zip(header["classes"], parts[1:], strict=True):
                state._classes.append(label)
                state._streams[label] = stream_type.load(part)
        except (KeyError, TypeError) as error:
            raise SnapshotError(f"the snapshot's header does not fit this version: {error}") from error
        return state

    def _open(self, classes: list[Any]) -> None:
        """Start a stream for each new class, with every answer so far against it."""
        new = [label for label in classes if label not in self._streams]
        for label in new:
            self._streams[label] = self.method.method.state()
            if self.n_answers:
                self._streams[label].add(self._answers.votes())
        if new:  # the order given while it stays the same, else sorted
            known = self._classes + new
            self._classes = [known[i] for i in sort_names(known)] if self._classes else known


def _words(data: bytes) -> NDArray[np.uint32]:
    """Return bytes as 32-bit words, which a snapshot can hold; zeros fill the last one."""
    return np.frombuffer(data + bytes(-len(data) % 4), "<u4")
