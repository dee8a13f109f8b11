"""The receipt of a job's input: that it was found right, in which version, and what is in it.

Written once, after the whole input was checked and before the first item is queued. Whoever goes on after a crash reads
it instead of checking again, and takes the same version of the input or none.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import msgspec

from voxpop.formats import storage
from voxpop.formats.errors import AlreadyExistsError, NotThereError
from voxpop.formats.model import Version  # noqa: TC001 - msgspec reads the annotation when it decodes

if TYPE_CHECKING:
    from voxpop.workers.services import Services

__all__ = ["InputReceipt", "keep", "read"]


class InputReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in the input of a job."""

    uri: str
    version: Version
    count: int
    already_labeled: int  # items that carry the job's label attribute: they keep their label
    own_categories: bool  # some item offers a part of the categories only


def read(services: Services, job: str) -> InputReceipt | None:
    """Return the receipt of a job's input; None if it was not checked yet, or its items are pushed."""
    try:
        data = storage.read_bytes(services.uri(job, "input.json"))
    except NotThereError:
        return None
    return msgspec.json.decode(data, type=InputReceipt)


def keep(services: Services, job: str, receipt: InputReceipt) -> InputReceipt:
    """Keep a receipt, unless there is one already; returns the one that stands."""
    with contextlib.suppress(AlreadyExistsError):
        storage.create(services.uri(job, "input.json"), msgspec.json.encode(receipt))
    standing = read(services, job)
    assert standing is not None
    return standing
