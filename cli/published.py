"""What a finished job's output tree says, as anybody could read it: the labels, and the answers behind them.

One answer at a time; what they amount to is computed in ``scores.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from voxpop.cli.crowds import item_name
from voxpop.cli.scores import Answers, CountedAnswer, ItemLabel
from voxpop.formats.augmented import read_label
from voxpop.formats.errors import NotThereError
from voxpop.formats.manifest import read_manifest
from voxpop.formats.responses import read_responses
from voxpop.workers.task_types import get_task_type

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from voxpop.broker.models import JobSpec

__all__ = ["given_answers", "published_labels"]

MAX_NAME_CHARS: Final = 200  # an item without a name of its own is called what it shows, which may be a whole text
UNLABELED: Final = "the job ended first"


def published_labels(uri: str, attribute: str, gold: Mapping[str, str]) -> list[ItemLabel]:
    """Return what an output manifest says of each item, in its order.

    Args:
        uri: the manifest.
        attribute: the job's label attribute.
        gold: known labels by name of the item.

    Raises:
        StorageError, FormatError: it cannot be read.
    """
    return list(_labels(uri, attribute, gold))


def _labels(uri: str, attribute: str, gold: Mapping[str, str]) -> Iterator[ItemLabel]:
    for item in read_manifest(uri):
        name = item_name(item)
        known = gold.get(name)
        shown = name if len(name) <= MAX_NAME_CHARS else f"{name[:MAX_NAME_CHARS]}… (item {item.index + 1})"
        label = read_label(item, attribute)
        metadata = (label.metadata if label else None) or {}
        if label is not None and label.failure_reason is not None:
            yield ItemLabel(shown, reason=label.failure_reason, gold=known)
        elif "class-name" in metadata:
            yield ItemLabel(shown, metadata["class-name"], float(metadata["confidence"]), gold=known)
        else:
            yield ItemLabel(shown, reason=UNLABELED, gold=known)


def given_answers(root: str, spec: JobSpec, created_at_ms: int) -> Answers:
    """Return the answers in a job's worker responses; those that choose none of its categories are left out.

    A job that nobody answered has no worker responses.

    Args:
        root: the job's output folder.
        spec: the job.
        created_at_ms: when it was created; times count from there.

    Raises:
        StorageError, FormatError: they cannot be read.
    """
    try:
        return Answers.collect(_answers(root, spec, created_at_ms), spec.categories)
    except NotThereError:
        return Answers.collect((), spec.categories)


def _answers(root: str, spec: JobSpec, created_at_ms: int) -> Iterator[CountedAnswer]:
    kind = get_task_type(spec.task_type)
    for one in read_responses(root):
        place = kind.vote_of(spec, msgspec.json.encode(one.content[kind.element]))
        if place is not None:
            at_seconds = max(0.0, (one.submitted_at_ms - created_at_ms) / 1000)
            yield CountedAnswer(one.item, one.worker, spec.categories[place], at_seconds, one.seconds_spent)
