"""What every format reads into and writes from: items, annotations, labels, and the problems found on the way.

A format module never invents a type of its own: it turns bytes into these, and these into bytes.
"""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["Annotation", "FormatError", "Item", "Label", "Problem", "Version"]


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One data object to be labeled: one manifest line, one file, or one push.

    Exactly one of ``source`` (inline text) and ``source_ref`` (a URI) is set. ``fields`` is the whole object as it
    came, key order kept, so that everything in it reaches the output untouched.
    """

    index: int  # 0-based place in the input; Ground Truth's datasetObjectId
    fields: dict[str, Any]
    source: str | None = None
    source_ref: str | None = None
    categories: tuple[str, ...] | None = None  # this item's own subset of the job's categories


class Annotation(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker said about one item. Times are milliseconds since the epoch."""

    item: int
    worker: str
    content: Any  # the answer of the job's task type, as plain JSON values
    accepted_at_ms: int
    submitted_at_ms: int
    seconds_spent: float | None = None  # active time only; None if the client did not measure it


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """The consolidated answer to one item, or the reason why there is none."""

    item: int
    version: int
    created_at_ms: int
    value: Any = None  # the label as the output format spells it; None if failure_reason is set
    metadata: dict[str, Any] | None = None  # task-type specific keys in output order: confidence, class-name, ...
    failure_reason: str | None = None  # e.g. "declined: everybody passed this item on"


class Version(msgspec.Struct, frozen=True):
    """Which content a file or object had when it was looked at, so that a change since then is noticed.

    Plain JSON values: a job keeps the version of its input between the check and the ingest.
    """

    size_bytes: int
    tag: str  # the entity tag of an object store; inode, time of change and size of a local file


class Problem(msgspec.Struct, frozen=True):
    """One thing wrong with an input: where, what was found, what was expected."""

    place: str  # e.g. "birds.manifest line 12"
    message: str  # e.g. "both 'source' and 'source-ref' are set; exactly one is expected"
    field: str | None = None

    def __str__(self) -> str:
        where = f"{self.place}, field {self.field!r}" if self.field else self.place
        return f"{where}: {self.message}"


class FormatError(ValueError):
    """An input was refused whole. Carries the first problems and the count of all of them."""

    def __init__(self, problems: list[Problem], count: int | None = None) -> None:
        self.problems = problems
        self.count = len(problems) if count is None else count
        lines = [str(problem) for problem in problems]
        if self.count > len(problems):
            lines.append(f"... and {self.count - len(problems)} more problems")
        super().__init__("\n".join(lines))
