"""What a worker does: claim, submit, renew, release, decline. Everything passes the access check first."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import msgspec

from voxpop.broker.access import Verdict, check_address
from voxpop.broker.errors import BusyError, InvalidInputError, NotFoundError, UnknownLeaseError
from voxpop.broker.limits import (
    MAX_ANSWER_BYTES,
    MAX_ANSWER_SECONDS,
    MAX_CLAIM_ITEMS,
    MAX_LEASE_SECONDS,
    MAX_SUBMIT_ANSWERS,
    MAX_WAIT_SECONDS,
)
from voxpop.broker.models import (
    Answer,
    Claim,
    ClaimStatus,
    JobSpec,
    Lease,
    Receipt,
    SubmitStatus,
    Token,
    check_count,
    check_list,
    check_range,
    check_worker,
)
from voxpop.broker.pools import DAY_SECONDS, REFUSAL_DAYS
from voxpop.broker.steps import Command, Run, Step, Wait, text
from voxpop.broker.upkeep import UpkeepOperations
from voxpop.broker.wire import Code, pack_tokens, unpack_items

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["WorkOperations"]

RECHECKS: Final = 8
MAX_REFUSALS_A_DAY: Final = 10_000  # kept by name; beyond, by minute and reason only
SUBMIT_STATUS: Final = {
    Code.DONE: SubmitStatus.ACCEPTED,
    Code.REPEATED: SubmitStatus.ACCEPTED,
    Code.EXPIRED: SubmitStatus.EXPIRED,
    Code.SETTLED: SubmitStatus.SETTLED,
    Code.CONFLICT: SubmitStatus.CONFLICT,
}


class WorkOperations(UpkeepOperations):
    """Operations of workers. The address is required: an allowlist that can be left out protects nothing."""

    def _admit(self, job: str, worker: str, address: str) -> Step[tuple[JobSpec, Verdict]]:
        """Return the verdict on a caller; outside looks exactly like a job that does not exist."""
        check_worker(worker)
        check_address(address)
        try:
            spec = yield from self._spec(job)
        except NotFoundError:
            raise NotFoundError(not_found(job)) from None
        verdict = self.access.verdict(spec.pool, worker, address)
        if verdict is None:
            keys = self._pool_keys(spec.pool)
            epoch, index = yield Run("verdict", keys, (worker,))
            if index < 0 or not (yield from self._is_allowed(spec.pool, epoch, address)):
                yield from self._count_refusal(spec.pool, "address" if index >= 0 else "member", worker)
                raise NotFoundError(not_found(job))
            verdict = Verdict(index, epoch)
            self.access.remember(spec.pool, worker, address, verdict)
        return spec, verdict

    def _is_allowed(self, pool: str, epoch: int, address: str) -> Step[bool]:
        allowlist = self.access.allowlist(pool, epoch)
        if allowlist is None:
            allow, epoch = yield Command(("HMGET", self.keys.pool(pool), "allow", "epoch"))
            allowlist = self.access.learn(pool, int(epoch), tuple(json.loads(allow)))
        return allowlist.allows(address)

    def _count_refusal(self, pool: str, reason: str, worker: str) -> Step[None]:
        seconds, _ = yield Command(("TIME",))
        key = self.keys.refusals(pool, int(seconds) // DAY_SECONDS)
        # Strangers may call themselves anything, and there may be any number of them: some are counted without a name.
        who = worker if (yield Command(("HLEN", key))) < MAX_REFUSALS_A_DAY else ""
        yield Command(("HINCRBY", key, f"{int(seconds) // 60}|{reason}|{who}", 1))
        yield Command(("EXPIRE", key, REFUSAL_DAYS * DAY_SECONDS))

    def _admitted(self, job: str, worker: str, address: str, script: str, *args: Any) -> Step[tuple[int, list[Any]]]:
        """Run a worker's script under a verdict; a verdict that has grown old is asked for again."""
        now_ms, *rest = args
        for _ in range(RECHECKS):
            spec, verdict = yield from self._admit(job, worker, address)
            keys = self.keys.shard(job).all()
            reply = yield Run(script, keys, (now_ms, verdict.worker, verdict.epoch, *rest))
            if text(reply[0]) != "recheck":
                return verdict.worker, reply
            self.access.forget(spec.pool)
        raise BusyError(f"job {job!r}: its pool changed {RECHECKS} times during one call; try again")

    def claim(
        self,
        job: str,
        worker: str,
        address: str,
        k: int = 1,
        *,
        wait_seconds: float = 0.0,
        lease_seconds: float = 0.0,
        now_ms: int = 0,
    ) -> Step[Claim]:
        """Take up to ``k`` items that this worker has not had.

        Args:
            job: the job's name.
            worker: the worker's id; must be a member of the job's pool.
            address: the IP address that the worker connects from; must lie in the workforce's allowlist.
            k: how many items at most.
            wait_seconds: block that long for work to turn up, if there is none; 0 = do not wait.
            lease_seconds: how long the leases last; 0 = as the job says.
            now_ms: the time, for jobs with ``clock = "caller"``.

        Returns:
            The leases, or why there are none (``wait``, ``none``, ``stopped``).

        Raises:
            NotFoundError: no such job, or not for this worker or address; the two look the same.
            BusyError: the event log is full until the actors have archived it.
            InvalidInputError: ``k`` or a time is out of range, or a wait is asked for while the caller holds the clock.
        """
        check_count("k", k, 1, MAX_CLAIM_ITEMS)
        check_range("wait_seconds", wait_seconds, 0, MAX_WAIT_SECONDS)
        check_range("lease_seconds", lease_seconds, 0, MAX_LEASE_SECONDS)
        spec, _ = yield from self._admit(job, worker, address)
        if wait_seconds and spec.clock == "caller":
            raise InvalidInputError(
                f"job {job!r} has clock = 'caller': its time stands still while a claim waits; pass wait_seconds = 0"
            )
        budget_ms = int(wait_seconds * 1000)
        bell, started_ms = "", 0
        while True:
            index, reply = yield from self._admitted(
                job, worker, address, "claim", now_ms, k, int(lease_seconds * 1000)
            )
            claim = read_claim(job, index, reply)
            if claim.status is ClaimStatus.MORE and not claim.leases:
                continue  # the call looked at its share of a long log; the next one goes on
            if claim.status is not ClaimStatus.WAIT:
                return claim
            if claim.next_ms and claim.next_ms <= claim.now_ms:
                yield from self.expire(job, now_ms=now_ms)
                continue
            started_ms = started_ms or claim.now_ms
            left_ms = started_ms + budget_ms - claim.now_ms
            if left_ms <= 0:
                return claim
            key = self.keys.shard(job).bell
            if not bell:
                # Read the bell's place before looking for work once more: a ring in between is not missed.
                last = yield Command(("XREVRANGE", key, "+", "-", "COUNT", 1))
                bell = text(last[0][0]) if last else "0-0"
                continue
            due_ms = max(1, claim.next_ms - claim.now_ms) if claim.next_ms else left_ms
            yield Wait(key, bell, min(left_ms, due_ms))
            bell = ""

    def submit(
        self, job: str, worker: str, address: str, answers: Sequence[Answer], *, now_ms: int = 0
    ) -> Step[list[Receipt]]:
        """Hand in answers. Repeating a submit is safe: the same answers get the same receipts.

        Raises:
            InvalidInputError: too many answers, one over the size limit, not JSON, or with a time that is none; nothing
                was submitted.
            UnknownLeaseError: some answers name no lease of this worker; the others were handled, and the error has
                their receipts.
            NotFoundError: no such job, or not for this worker or address; nothing was submitted.
        """
        answers = check_list("answers", answers, Answer)
        check_count("answers in one call", len(answers), 1, MAX_SUBMIT_ANSWERS)
        tokens = [Token.decode(answer.token) for answer in answers]
        parts: list[Any] = []
        for answer, token in zip(answers, tokens, strict=True):
            check_range(f"answer to item {token.item}: seconds", answer.seconds, 0, MAX_ANSWER_SECONDS)
            content = encode_content(answer.content, token.item)
            parts += (repr(float(answer.seconds)), content)
        _, reply = yield from self._admitted(job, worker, address, "submit", now_ms, pack_tokens(tokens), *parts)
        _, _, codes, wake = reply
        yield from self._wake(job, wake)
        receipts = [
            Receipt(answer.token, token.item, SUBMIT_STATUS[Code(code)])
            for answer, token, code in zip(answers, tokens, codes, strict=True)
            if code != Code.UNKNOWN
        ]
        if Code.UNKNOWN in codes:
            others = f"; the other {len(receipts)} of the call were handled" if receipts else ""
            raise UnknownLeaseError(
                f"job {job!r}: answer {codes.index(Code.UNKNOWN) + 1} of {len(codes)} names no lease of worker "
                f"{worker!r}{others}",
                receipts,
            )
        return receipts

    def renew(
        self,
        job: str,
        worker: str,
        address: str,
        tokens: Sequence[str],
        *,
        lease_seconds: float = 0.0,
        now_ms: int = 0,
    ) -> Step[dict[str, int]]:
        """Move the deadline of held leases; those of one claim's run of items move together.

        Returns:
            The new deadline (ms) by token; tokens whose lease had ended are missing.
        """
        check_range("lease_seconds", lease_seconds, 0, MAX_LEASE_SECONDS)
        tokens, packed = packed_tokens(tokens)
        _, reply = yield from self._admitted(job, worker, address, "renew", now_ms, packed, int(lease_seconds * 1000))
        _, _, deadline, codes = reply
        return {token: deadline for token, code in zip(tokens, codes, strict=True) if code == Code.DONE}

    def release(self, job: str, worker: str, address: str, tokens: Sequence[str], *, now_ms: int = 0) -> Step[int]:
        """Give tickets back: others may take them, this worker only after the retry time.

        Returns:
            How many were held.
        """
        return (yield from self._give_back(job, worker, address, tokens, "release", now_ms))

    def decline(self, job: str, worker: str, address: str, tokens: Sequence[str], *, now_ms: int = 0) -> Step[int]:
        """Pass items on: this worker will never see them again. Returns how many were held."""
        return (yield from self._give_back(job, worker, address, tokens, "decline", now_ms))

    def _give_back(
        self, job: str, worker: str, address: str, tokens: Sequence[str], how: str, now_ms: int
    ) -> Step[int]:
        _, packed = packed_tokens(tokens)
        _, reply = yield from self._admitted(job, worker, address, "giveback", now_ms, packed, how)
        yield from self._wake(job, reply[3])
        return sum(code in (Code.DONE, Code.REPEATED) for code in reply[2])


def not_found(job: str) -> str:
    """Return what everybody is told who may not work on a job, whether it exists or not."""
    return (
        f"job {job!r} not found: there is none of this name, or none for this worker at this address. "
        "The requester sees members and allowed addresses with `voxpop pool show`"
    )


def packed_tokens(tokens: Sequence[str]) -> tuple[list[str], bytes]:
    """Return the lease tokens of one call as a list, and packed for a script; raises InvalidInputError."""
    found = check_list("tokens", tokens, str)
    check_count("tokens in one call", len(found), 1, MAX_SUBMIT_ANSWERS)
    return found, pack_tokens([Token.decode(token) for token in found])


def encode_content(content: Any, item: int) -> bytes:
    """Return an answer's content as JSON within the size limit; raises InvalidInputError naming the item."""
    try:
        encoded = msgspec.json.encode(content)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"answer to item {item} is not plain JSON values: {error}") from None
    if len(encoded) > MAX_ANSWER_BYTES:
        raise InvalidInputError(
            f"answer to item {item} has {len(encoded)} bytes; at most {MAX_ANSWER_BYTES} (MAX_ANSWER_BYTES) are allowed"
        )
    return encoded


def read_claim(job: str, worker: int, reply: list[Any]) -> Claim:
    """Return the claim that claim.lua's reply describes."""
    status, now, deadline, attempt, first, length, main, others, next_ms = reply
    if text(status) == "busy":
        raise BusyError(f"job {job!r}: its event log waits to be archived; claims go on when the actors catch up")
    leases = [Lease(Token(0, item, worker, attempt, item, 1).encode(), item, deadline) for item in unpack_items(others)]
    leases += [
        Lease(Token(0, item, worker, attempt, first, length).encode(), item, deadline) for item in unpack_items(main)
    ]
    return Claim(ClaimStatus(text(status)), tuple(leases), now, next_ms)
