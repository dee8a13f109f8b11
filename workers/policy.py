"""When an item is done, and how it ends. Pure functions: evidence in, verdict out; no server, no clock.

The broker does not consolidate and the methods do not decide: this is the one place between them.
"""

from __future__ import annotations

import msgspec

from voxpop.broker.models import ItemEnd, ShardState

__all__ = ["Evidence", "Extend", "Settle", "Verdict", "Wait", "decide", "stops_open_items"]


class Evidence(msgspec.Struct, frozen=True):
    """What is known of an item."""

    ready: bool  # every granted ticket is answered, or it is closed
    closed: bool  # it gives out no more tickets although not all were answered: it was declined too often
    usable: int  # answers that can be counted
    unusable: int = 0  # answers that were counted by the broker and cannot be used
    wanted: int = 0  # usable answers that the requester asked for; 0 if the item names who is to answer it
    extendable: bool = True  # the job goes on, and the pool has people who did not have the item
    stopped: bool = False  # the job was stopped, and nobody holds a lease any more


class Wait(msgspec.Struct, frozen=True):
    """More answers are on their way."""


class Extend(msgspec.Struct, frozen=True):
    """The item needs one more answer, from somebody who did not have it.

    One at a time: of several tickets some might wait for people whom the pool does not have.
    """

    maximum: int  # tickets that the item then has: granting twice does not exceed it


class Settle(msgspec.Struct, frozen=True):
    """The item ends; a reason is given unless it is labeled."""

    end: ItemEnd
    reason: str = ""


Verdict = Wait | Extend | Settle

WAIT = Wait()
LABELED = Settle(ItemEnd.LABELED)
DECLINED = Settle(ItemEnd.FAILED, "declined by everybody who was asked")
UNUSABLE = Settle(ItemEnd.FAILED, "no answer could be used")
STOPPED = Settle(ItemEnd.UNLABELED, "stopped")


def decide(evidence: Evidence) -> Verdict:
    """Return the verdict on an item.

    An answer that cannot be used is asked for again, from somebody else, until there are twice as many answers as were
    wanted: a client that sends nonsense must not use up a whole pool. An item with at least one usable answer is
    labeled once no more answers are to come. What was begun when the job stopped stays unlabeled: its answers are kept,
    but fewer people than the requester asked for have spoken.
    """
    if evidence.ready:
        answers = evidence.usable + evidence.unusable
        wanting = evidence.usable < evidence.wanted and answers < 2 * evidence.wanted
        if wanting and evidence.unusable and evidence.extendable and not evidence.closed:
            return Extend(maximum=answers + 1)
        if evidence.usable:
            return LABELED
        return DECLINED if evidence.closed else UNUSABLE
    return STOPPED if evidence.stopped else WAIT


def stops_open_items(state: ShardState) -> bool:
    """Return whether items that are not ready have no answers to wait for: the job stopped and nobody holds a lease."""
    return state.stopping and (state.revoked or state.leased == 0)
