"""When an item is done, and how it ends. Pure functions: evidence in, verdict out; no server, no clock.

The broker does not consolidate and the methods do not decide: this is the one place between them. A verdict that asks
for more answers (adaptive replication) is one more type here.
"""

from __future__ import annotations

import msgspec

from voxpop.broker.models import ItemEnd, ShardState

__all__ = ["Evidence", "Settle", "Verdict", "Wait", "decide", "stops_open_items"]


class Evidence(msgspec.Struct, frozen=True):
    """What is known of an item."""

    ready: bool  # every granted ticket is answered, or it is closed
    closed: bool  # it gives out no more tickets although not all were answered: it was declined too often
    usable: int  # answers that can be counted
    stopped: bool = False  # the job was stopped, and nobody holds a lease any more


class Wait(msgspec.Struct, frozen=True):
    """More answers are on their way."""


class Settle(msgspec.Struct, frozen=True):
    """The item ends; a reason is given unless it is labeled."""

    end: ItemEnd
    reason: str = ""


Verdict = Wait | Settle

WAIT = Wait()
LABELED = Settle(ItemEnd.LABELED)
DECLINED = Settle(ItemEnd.FAILED, "declined by everybody who was asked")
UNUSABLE = Settle(ItemEnd.FAILED, "no answer could be used")
STOPPED = Settle(ItemEnd.UNLABELED, "stopped")


def decide(evidence: Evidence) -> Verdict:
    """Return the verdict on an item.

    An item with at least one usable answer is labeled once no more answers are to come. What was begun when the job
    stopped stays unlabeled: its answers are kept, but fewer people than the requester asked for have spoken.
    """
    if evidence.ready:
        if evidence.usable:
            return LABELED
        return DECLINED if evidence.closed else UNUSABLE
    return STOPPED if evidence.stopped else WAIT


def stops_open_items(state: ShardState) -> bool:
    """Return whether items that are not ready have no answers to wait for: the job stopped and nobody holds a lease."""
    return state.stopping and (state.revoked or state.leased == 0)
