"""Who answers in ``voxpop run``: the crowd for a job, and what the job becomes for it. Nothing here runs.

A recorded crowd answers what it answered. Where not everybody answered everything, an item's tickets are named: they
go to the people who did.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from msgspec import UNSET

from voxpop.formats.answers import read_answers, read_gold
from voxpop.simulator.annotators.category import CategoryCrowd, CategorySpec
from voxpop.simulator.crowd import CrowdError
from voxpop.simulator.recorded import RecordedCrowd
from voxpop.simulator.spec import Replay, parse_crowd
from voxpop.workers.task_types import get_task_type

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voxpop.cli.jobfile import JobFile
    from voxpop.formats.model import Item
    from voxpop.simulator.crowd import Crowd

__all__ = ["ITEM_FIELD", "Cast", "Sources", "cast", "item_name", "read_sources"]

ITEM_FIELD: Final = "item"  # as in files of answers and of gold labels
SHOWN_ITEMS: Final = 5  # of those that are wrong
NAMED_PAGE: Final = 500  # items taken at once where it does not matter who is first
# Each has a connection while they wait for work, and many systems give a process 1,024. More take turns on one.
LIVE_PEOPLE: Final = 500


class Sources(NamedTuple):
    """What the command line's files say, read and checked."""

    who: Replay | CategorySpec
    answers: list[tuple[str, str, str]]  # recorded: item, worker, label
    gold: dict[str, str]


class Cast(NamedTuple):
    """A crowd, and the job that it works on."""

    crowd: Crowd
    changes: dict[str, Any]  # of the job's fields
    items: list[dict[str, Any]] | None  # the manifest to write; None: the input stays as it is
    page: int = 0  # items that people take at once, in turns; 0: everybody works in their own time
    note: str = ""  # what the caller should know


def read_sources(who: str, gold: str) -> Sources:
    """Read what ``--crowd`` and ``--gold`` name.

    Raises:
        CrowdError, FormatError, StorageError: they are wrong, or cannot be read.
    """
    kind = parse_crowd(who)
    answers = list(read_answers(kind.uri)) if isinstance(kind, Replay) else []
    return Sources(kind, answers, read_gold(gold) if gold else {})


def item_name(item: Item) -> str:
    """Return what files of answers and of gold labels call an item: its field ``item``, else what it shows."""
    own = item.fields.get(ITEM_FIELD)
    return str(own) if own is not None else item.source or item.source_ref or ""


def cast(sources: Sources, wanted: JobFile, items: Sequence[Item] | None) -> Cast:
    """Return the crowd for a job.

    Args:
        sources: who, and their files.
        wanted: the job file.
        items: the job's input; None if it has none, so that recorded answers bring their own items.

    Raises:
        CrowdError: the crowd does not fit the job.
    """
    allow = () if wanted.workforce.allow is UNSET else wanted.workforce.allow
    if isinstance(sources.who, Replay):
        return _recorded(sources, wanted, items, {"network": allow[0]} if allow else {})
    spec = msgspec.structs.replace(sources.who, network=allow[0]) if allow else sources.who
    truth = [sources.gold.get(item_name(item)) for item in items or ()]
    choices = {item.index: item.categories for item in items or () if item.categories is not None}
    crowd = CategoryCrowd(spec, wanted.categories, truth=truth, choices=choices)
    return Cast(crowd, {}, None, page=spec.k if spec.workers > LIVE_PEOPLE else 0)


def _recorded(sources: Sources, wanted: JobFile, items: Sequence[Item] | None, pace: dict[str, Any]) -> Cast:
    names = None if items is None else [item_name(item) for item in items]
    crowd = RecordedCrowd(sources.answers, names, gold=sources.gold, **pace)
    _check_answerable(sources, wanted, items or (), crowd)
    changes: dict[str, Any] = {} if wanted.categories else {"categories": crowd.categories}
    people = [crowd.people_of(index) for index in range(len(crowd.items))]
    if items is None:
        field = get_task_type(wanted.task_type).source
        fields = [{field: name, ITEM_FIELD: name} for name in crowd.items]
    else:
        fields = [item.fields for item in items]
    everything = all(len(of_item) == len(crowd.workers) for of_item in people)
    note = _left_out(crowd)
    if everything and wanted.replication is not UNSET and wanted.assignment == "open":
        return Cast(
            crowd, changes, fields if items is None else None, page=int(len(crowd.workers) > LIVE_PEOPLE), note=note
        )
    if not everything and wanted.replication is not UNSET:
        note = "; ".join([*filter(None, [note]), "not everybody answered everything, so replication is not used"])
    named = [{**own, wanted.worker_attribute: list(of_item)} for own, of_item in zip(fields, people, strict=True)]
    changes |= {"assignment": "named", "replication": 0}
    return Cast(crowd, changes, named, NAMED_PAGE, note)


def _left_out(crowd: RecordedCrowd) -> str:
    """Say which recorded answers nobody will give."""
    told = []
    if crowd.repeated:
        told.append(f"{crowd.repeated:,} answers were replaced by a later one of the same person")
    if crowd.unused:
        told.append(f"{crowd.unused:,} answers are about items that the job does not have")
    return "; ".join(told)


def _check_answerable(sources: Sources, wanted: JobFile, items: Sequence[Item], crowd: RecordedCrowd) -> None:
    """Refuse a replay that could not say what was recorded.

    Raises:
        CrowdError: a recorded or gold label is none of the categories, or an item has no recorded answer.
    """
    if crowd.unanswered:
        first = ", ".join(
            f"{crowd.items[index]!r} (item {index + 1} of the input)" for index in crowd.unanswered[:SHOWN_ITEMS]
        )
        more = ", ..." if len(crowd.unanswered) > SHOWN_ITEMS else ""
        raise CrowdError(
            f"{len(crowd.unanswered):,} items have no recorded answer: {first}{more}; take them out of the input, or "
            "add their answers"
        )
    own = {item_name(item): item.categories for item in items if item.categories is not None}
    strange: Counter[str] = Counter()
    where: dict[str, str] = {}
    for item, worker, label in sources.answers:
        offered = own.get(item, wanted.categories)
        if offered and label not in offered and crowd.has(item):
            strange[label] += 1
            where.setdefault(label, f"of {worker!r} to item {item!r}")
    if strange:
        label, count = strange.most_common(1)[0]
        others = f" (and {len(strange) - 1} more labels)" if len(strange) > 1 else ""
        raise CrowdError(
            f"{count:,} recorded answers say {label!r}{others}, first the one {where[label]}, which is not among the "
            f"categories that are offered there; add it to categories, or correct the answers"
        )
    for item, label in crowd.gold.items():
        offered = own.get(item, wanted.categories)
        if offered and label not in offered:
            raise CrowdError(
                f"gold label {label!r} of item {item!r} is not among the categories that are offered there, so nobody "
                "could be right; add it to categories, or correct the gold labels"
            )
