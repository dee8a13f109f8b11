"""One suite for both clients on both servers: what every operation on jobs, items and leases promises to its caller."""

import math
import os
import threading

import msgspec
import pytest
import redis
import servers
from callers import INSIDE, Caller, job, wait_until_blocked

from voxpop.broker import Answer, ClaimStatus, ItemEnd, JobSpec, JobStatus, Receipt, Settlement, SubmitStatus
from voxpop.broker.errors import (
    BrokerError,
    BusyError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    ServerUnavailableError,
    StoppedError,
    UnknownLeaseError,
)
from voxpop.broker.events import Appended, Closed, Extended, Labeled, Settled, Submitted
from voxpop.broker.keys import Keys
from voxpop.broker.limits import MAX_CLAIM_ITEMS, MAX_NAMED_TICKETS, MAX_TICKETS
from voxpop.broker.models import Token
from voxpop.broker.server import EmbeddedServer
from voxpop.broker.wire import Code


@pytest.fixture(params=["sync", "async"])
def kind(request):
    return request.param


@pytest.fixture
def broker(kind, server_url):
    caller = Caller(kind, server_url)
    yield caller
    caller.close()


def take(broker, worker="ann", k=1, **options):
    return broker.claim("job", worker, INSIDE, k, **options)


def tokens(claim):
    return [lease.token for lease in claim.leases]


def answer(broker, claim, worker="ann", content="a", **options):
    answers = [Answer(lease.token, content, 1.0) for lease in claim.leases]
    return [receipt.status for receipt in broker.submit("job", worker, INSIDE, answers, **options)]


def events(broker, kind):
    return [event for _, event in broker.read_log("job") if isinstance(event, kind)]


# -- jobs ------------------------------------------------------------------------------------------------------------


def test_create_job_is_repeated_under_its_request_token_only(broker):
    """The same request again returns the same job; another one of the same name is refused."""
    job(broker, name="other")
    spec = JobSpec(name="job", task_type="text_single_label", pool="team", replication=2)
    first = broker.create_job(spec, "token")
    assert broker.create_job(spec, "token") == first
    assert first.status is JobStatus.INITIALIZING
    for token in ("", "another"):
        with pytest.raises(ConflictError, match="'job' exists; choose another name"):
            broker.create_job(spec, token)
    assert broker.jobs() == ["other", "job"]


def test_a_request_that_asks_for_something_else_is_refused(broker):
    """The token names one request; what it made is not changed behind anybody's back."""
    job(broker, name="other")
    spec = JobSpec(
        name="job", task_type="text_single_label", pool="team", method_parameters={"prior": (1, 2)}, lease_seconds=60
    )
    made = broker.create_job(spec, "token")
    assert broker.create_job(spec, "token") == made, "a tuple is stored as a list, which is no difference"
    broker.create_pool("night", "private")
    other = msgspec.structs.replace(spec, replication=5, pool="night")
    with pytest.raises(
        ConflictError, match=r"asked for something else then: pool 'team' -> 'night', replication 3 -> 5;"
    ):
        broker.create_job(other, "token")
    assert broker.job("job") == made


@pytest.mark.parametrize("wrong", [{"title": 5}, {"categories": 7}, {"method_parameters": {"prior": object()}}])
def test_a_specification_with_a_value_of_another_type_takes_no_name(broker, wrong):
    job(broker, name="other")
    spec = JobSpec(name="job", task_type="text_single_label", pool="team")
    for name, value in wrong.items():  # past the checks of the constructor
        msgspec.structs.force_setattr(spec, name, value)
    with pytest.raises(InvalidInputError, match="job 'job': a value is not of its type: "):
        broker.create_job(spec)
    with pytest.raises(NotFoundError):
        broker.job("job")


def test_create_job_needs_its_pool(broker):
    with pytest.raises(NotFoundError, match=r"job 'job': pool 'nobody' not found; `voxpop pool create nobody`"):
        broker.create_job(JobSpec(name="job", task_type="text_single_label", pool="nobody"))
    assert broker.jobs() == []


def test_a_creation_that_was_cut_short_is_repaired_by_the_same_request(broker):
    """A client that died between the job's name and its shard leaves a job that the repeated request opens."""
    job(broker, name="other")
    spec = JobSpec(name="job", task_type="text_single_label", pool="team")
    steps = broker.client.operations.create_job(spec, "token")
    wanted = next(steps)
    while getattr(wanted, "script", "") != "open":  # everything up to the shard, and then nothing more
        wanted = steps.send(broker._perform(wanted))
    with pytest.raises(NotFoundError, match="creation was cut short"):
        broker.append("job", 1)
    broker.create_job(spec, "token")
    assert broker.append("job", 1) == 0


def test_jobs_that_are_not_there(broker):
    for call in (
        lambda: broker.job("job"),
        lambda: broker.stop_job("job"),
        lambda: broker.append("job", 1),
        lambda: broker.claim("job", "ann", INSIDE),
        lambda: broker.shard_state("job"),
        lambda: broker.move_job("job", JobStatus.FAILED, allowed=(JobStatus.IN_PROGRESS,)),
    ):
        with pytest.raises(NotFoundError, match="job"):
            call()


def test_a_final_status_never_changes(broker):
    job(broker)
    assert broker.move_job("job", JobStatus.IN_PROGRESS, allowed=(JobStatus.INITIALIZING,))
    assert broker.move_job("job", JobStatus.IN_PROGRESS, allowed=(JobStatus.INITIALIZING,)), "done before"
    assert broker.move_job("job", JobStatus.FAILED, allowed=(JobStatus.IN_PROGRESS,), failure_reason="disk")
    assert not broker.move_job("job", JobStatus.COMPLETED, allowed=(JobStatus.IN_PROGRESS,))
    found = broker.stop_job("job")
    assert (found.status, found.failure_reason) == (JobStatus.FAILED, "disk")
    assert found.ended_at_ms > 0
    broker.set_job_fields("job", input_count=7, output_uri="file:///out")
    assert (broker.job("job").input_count, broker.job("job").output_uri) == (7, "file:///out")


@pytest.mark.parametrize("revoke", [False, True])
def test_stop_gives_out_nothing_more(broker, revoke):
    """After a stop nothing is claimed or appended; held leases may finish unless they are revoked."""
    job(broker)
    broker.append("job", 4)
    held = take(broker)
    assert broker.stop_job("job", revoke=revoke).status is JobStatus.STOPPING
    assert take(broker, "bob").status is ClaimStatus.STOPPED
    with pytest.raises(StoppedError, match="stopping; nothing can be appended"):
        broker.append("job", 1)
    assert broker.renew("job", "ann", INSIDE, tokens(held)).keys() == (set() if revoke else set(tokens(held)))
    assert answer(broker, held) == [SubmitStatus.EXPIRED if revoke else SubmitStatus.ACCEPTED]
    state = broker.shard_state("job")
    assert (state.stopping, state.revoked) == (True, revoke)
    assert broker.stop_job("job").status is JobStatus.STOPPING, "the same stop again"


def test_a_stop_can_be_sharpened(broker):
    job(broker)
    broker.append("job", 1)
    held = take(broker)
    broker.stop_job("job")
    broker.stop_job("job", revoke=True)
    assert answer(broker, held) == [SubmitStatus.EXPIRED]


# -- items -----------------------------------------------------------------------------------------------------------


def test_append_is_repeated_by_place(broker):
    job(broker)
    assert [broker.append("job", 3, at=0), broker.append("job", 3, at=0), broker.append("job", 2)] == [0, 0, 3]
    with pytest.raises(ConflictError, match="items end at 5, appending at 9 would leave a gap"):
        broker.append("job", 1, at=9)
    broker.seal("job")
    broker.seal("job")
    assert broker.append("job", 3, at=0) == 0, "a repeated append is answered as before"
    with pytest.raises(ConflictError, match="input is complete"):
        broker.append("job", 1)
    assert broker.shard_state("job").appended == 5
    assert [(event.first, event.count) for event in events(broker, Appended)] == [(0, 3), (3, 2)]


def test_append_remembers_object_ids_and_segments(broker):
    job(broker)
    broker.append("job", 2, ids=["x", "y"], segment="file:///a")
    broker.append("job", 3, segment="file:///b")
    with pytest.raises(ConflictError, match=r"object id is already known; ask item_of\(\)"):
        broker.append("job", 2, ids=["z", "x"])
    with pytest.raises(ConflictError, match="already known"):
        broker.append("job", 2, ids=["z", "z"])
    assert [broker.item_of("job", name) for name in "xyz"] == [0, 1, None]
    assert broker.segments("job", 1, 1) == [(0, 2, "file:///a")]
    assert broker.segments("job", 1, 4) == [(0, 2, "file:///a"), (2, 3, "file:///b")]


@pytest.mark.parametrize(
    ("count", "options", "message"),
    [
        (0, {}, "count is 0"),
        (10_001, {}, "count is 10001"),
        (1, {"at": -2}, "at is -2"),
        (2, {"ids": ["x"]}, "1 object ids for 2 items"),
        (2, {"named": [(2, 0)]}, "named ticket for item 2 of an append of 2"),
        (2, {"named": [(1, 0), (1, 0)]}, "two named tickets of item 1 for the same worker 0"),
        (1, {"named": [(0, worker) for worker in range(MAX_NAMED_TICKETS + 1)]}, "names more than 191 workers"),
    ],
)
def test_append_refuses_what_is_wrong(broker, count, options, message):
    job(broker)
    with pytest.raises(InvalidInputError, match=message):
        broker.append("job", count, **options)
    assert broker.shard_state("job").appended == 0


def test_the_most_named_tickets_fit_beside_the_most_plain_ones(broker):
    """64 tickets for anybody and 191 named ones are the 255 that an item's record holds."""
    job(broker, replication=64)
    broker.append("job", 1, segment="file:///a", named=[(0, worker) for worker in range(MAX_NAMED_TICKETS)])
    assert broker.extend("job", [0]) == [Code.OVER_MAXIMUM]
    for options in ({"maximum": MAX_TICKETS + 1}, {"tickets": 0}, {"tickets": -1}):
        with pytest.raises(InvalidInputError):
            broker.extend("job", [0], **options)


def test_named_tickets_go_to_their_worker_only(broker):
    job(broker, replication=0, assignment="named")
    index = broker.worker_indexes("private")
    broker.append("job", 3, named=[(0, index["ann"]), (1, index["ann"]), (1, index["bob"])])
    assert [lease.item for lease in take(broker, "cleo", 9).leases] == []
    mine = take(broker, "ann", 9)
    assert [lease.item for lease in mine.leases] == [0, 1]
    assert [lease.item for lease in take(broker, "bob", 9).leases] == [1]
    answer(broker, mine)
    full = [(answer.item, answer.full) for event in events(broker, Submitted) for answer in event.answers]
    assert full == [(0, True), (1, False)]
    assert [event.items for event in events(broker, Closed)] == [b"\2\0\0\0"], (
        "nobody may answer item 2: the policy hears"
    )
    assert broker.settle("job", [Settlement(2, ItemEnd.FAILED, reason="nobody")]) is False
    assert broker.is_dirty("job")


# -- leases ----------------------------------------------------------------------------------------------------------


def test_a_worker_gets_each_item_once_and_an_item_goes_to_different_workers(broker):
    job(broker)
    broker.append("job", 3)
    seen = {worker: [lease.item for lease in take(broker, worker, 9).leases] for worker in ("ann", "bob", "cleo")}
    assert seen == {"ann": [0, 1, 2], "bob": [0, 1, 2], "cleo": []}
    assert take(broker, "ann", 9).status is ClaimStatus.WAIT


def test_submit_is_safe_to_repeat(broker):
    job(broker)
    broker.append("job", 1)
    mine = take(broker)
    assert answer(broker, mine) == [SubmitStatus.ACCEPTED]
    assert answer(broker, mine) == [SubmitStatus.ACCEPTED]
    assert answer(broker, mine, content="b") == [SubmitStatus.CONFLICT]
    broker.settle("job", [Settlement(0, ItemEnd.LABELED, 1, b'"a"')])
    assert answer(broker, mine) == [SubmitStatus.SETTLED]
    logged = [answer for event in events(broker, Submitted) for answer in event.answers]
    assert [(answer.used, answer.content) for answer in logged] == [(True, b'"a"'), (False, b'"a"')]


def test_submit_refuses_what_is_wrong_and_takes_nothing(broker):
    job(broker)
    broker.append("job", 2)
    mine = take(broker, k=2)
    for wrong, message in (
        ([], "answers in one call is 0"),
        ([Answer("nonsense", "a")], "lease token 'nonsense' is not one that claim returned"),
        ([Answer(mine.leases[0].token, "a"), Answer(mine.leases[1].token, object())], "item 1 is not plain JSON"),
        ([Answer(mine.leases[0].token, "x" * 1_000_000)], "item 0 has 1000002 bytes; at most 1000000"),
        *(
            (
                [Answer(mine.leases[1].token, "a", seconds)],
                r"answer to item 1: seconds is .*; expected (a number, )?0 to",
            )
            for seconds in (math.nan, math.inf, -3, 1e300, "1.5", None)
        ),
        (Answer(mine.leases[0].token, "a"), r"answers: found Answer\(.*; expected a list of Answer"),
        ([mine.leases[0].token], "answers: found 'A.*' in place 1; expected a list of Answer"),
        (None, "answers: found None; expected a list of Answer"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            broker.submit("job", "ann", INSIDE, wrong)
    assert broker.shard_state("job").answers == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda broker, _: take(broker, k="3"), "k is '3'; expected a whole number, 1 to 1000"),
        (lambda broker, _: take(broker, k=2.5), "k is 2.5; expected a whole number, 1 to 1000"),
        (lambda broker, _: take(broker, k=True), "k is True; expected a whole number, 1 to 1000"),
        (lambda broker, _: take(broker, wait_seconds="1"), "wait_seconds is '1'; expected a number, 0 to 60"),
        (lambda broker, _: take(broker, lease_seconds=None), "lease_seconds is None; expected a number"),
        (lambda broker, _: take(broker, None), "worker id None is not allowed"),
        (lambda broker, _: take(broker, b"ann"), "worker id b'ann' is not allowed"),
        (lambda broker, _: broker.claim("job", "ann", None), "address None is not an IPv4 or IPv6 address"),
        (lambda broker, _: broker.claim("job", "ann", 167772161), "address 167772161 is not an IPv4 or IPv6 address"),
        (
            lambda broker, token: broker.renew("job", "ann", INSIDE, token),
            "tokens: found 'A.*'; expected a list of texts",
        ),
        (lambda broker, _: broker.release("job", "ann", INSIDE, [None]), "tokens: found None in place 1"),
        (lambda broker, _: broker.decline("job", "ann", INSIDE, None), "tokens: found None; expected a list of texts"),
        (lambda broker, _: broker.append("job", "2"), "count is '2'; expected a whole number, 1 to 10000"),
        (lambda broker, _: broker.extend("job", [0], tickets="1"), "tickets is '1'; expected a whole number, 1 to 255"),
        (
            lambda *_: JobSpec(name="x", task_type="text_single_label", pool="team", replication="3"),
            "replication is '3'; expected a whole number, 1 to 64",
        ),
    ],
)
def test_arguments_of_another_type(broker, call, message):
    """Each is an InvalidInputError that names the argument; nothing was done."""
    job(broker)
    broker.append("job", 2)
    token = tokens(take(broker))[0]
    with pytest.raises(InvalidInputError, match=message):
        call(broker, token)
    state = broker.shard_state("job")
    assert (state.appended, state.leased) == (2, 1)


def test_submit_under_anothers_lease_is_not_found(broker):
    """The other answers of the call are handled; the error says so and has their receipts."""
    job(broker)
    broker.append("job", 2)
    mine, theirs = take(broker, k=2), take(broker, "bob")
    first, second = tokens(mine)
    with pytest.raises(
        UnknownLeaseError, match="answer 2 of 3 names no lease of worker 'ann'; the other 2 of"
    ) as refusal:
        broker.submit("job", "ann", INSIDE, [Answer(token, "a") for token in (first, *tokens(theirs), second)])
    assert refusal.value.receipts == (
        Receipt(first, 0, SubmitStatus.ACCEPTED),
        Receipt(second, 1, SubmitStatus.ACCEPTED),
    )
    assert isinstance(refusal.value, NotFoundError)
    state = broker.shard_state("job")
    assert (state.answers, state.leased) == (2, 1)


def test_a_forged_token_ends_nobodys_timer(broker):
    """Tokens are not signed. One that names another run's timer must not keep that run's leases for ever."""
    job(broker, replication=1, clock="caller")
    broker.append("job", 2)
    broker.release("job", "ann", INSIDE, tokens(take(broker, now_ms=1000)), now_ms=1000)
    broker.expire("job", now_ms=1001)
    mine = take(broker, k=2, now_ms=1001)  # item 0 from the reopened log, item 1 from the main log
    real = [Token.decode(token) for token in tokens(mine)]
    forged = real[0]._replace(first=real[1].first, length=1)
    broker.submit("job", "ann", INSIDE, [Answer(forged.encode(), "a")], now_ms=1001)
    assert broker.expire("job", now_ms=200_000) == 1


def test_renew_moves_deadlines_and_never_to_an_earlier_time(broker):
    job(broker, clock="caller")
    broker.append("job", 2)
    mine = take(broker, k=2, now_ms=1000)
    assert broker.renew("job", "ann", INSIDE, tokens(mine)[:1], lease_seconds=1, now_ms=1000) == {tokens(mine)[0]: 2000}
    assert broker.expire("job", now_ms=50_000) == 0, "the other lease was promised until 101,000"
    assert broker.renew("job", "ann", INSIDE, tokens(mine), lease_seconds=200, now_ms=50_000) == dict.fromkeys(
        tokens(mine), 250_000
    )
    assert broker.expire("job", now_ms=249_999) == 0
    assert broker.expire("job", now_ms=250_000) == 2
    assert broker.renew("job", "ann", INSIDE, tokens(mine), now_ms=250_001) == {}


def test_release_hands_the_item_to_others_and_back_after_the_retry_time(broker):
    job(broker, replication=1, retry_seconds=10, clock="caller")
    broker.append("job", 1)
    mine = take(broker, now_ms=1000)
    assert broker.release("job", "ann", INSIDE, tokens(mine), now_ms=1000) == 1
    assert broker.release("job", "ann", INSIDE, tokens(mine), now_ms=1000) == 1, "the same release again"
    assert take(broker, now_ms=10_999).leases == ()
    assert answer(broker, mine, now_ms=10_999) == [SubmitStatus.EXPIRED]
    assert [lease.item for lease in take(broker, now_ms=11_000).leases] == [0]


def test_declines_exclude_and_close(broker):
    """A decline is for good; as many as max_declines end the item's search, and the policy hears of it."""
    job(broker, replication=3, max_declines=2)
    broker.append("job", 1)
    answer(broker, take(broker, "cleo"), "cleo")
    for worker in ("ann", "bob"):
        assert broker.decline("job", worker, INSIDE, tokens(take(broker, worker))) == 1
        assert take(broker, worker).leases == ()
    assert [event.items for event in events(broker, Closed)] == [b"\0\0\0\0"]
    broker.add_members("team", ["dora"])
    assert take(broker, "dora").leases == (), "it closed"
    assert broker.extend("job", [0], tickets=1) == [Code.DONE]
    assert [lease.item for lease in take(broker, "dora").leases] == [0]


@pytest.mark.parametrize("answered_last", [False, True])
def test_an_item_closes_when_nobody_is_left(broker, answered_last):
    """Of a pool of three, two pass an item on and one answers it: it ends with the one answer, and does not wait."""
    job(broker, replication=3, max_declines=255)
    broker.append("job", 1)
    claims = {worker: take(broker, worker) for worker in ("ann", "bob", "cleo")}
    turns = ("ann", "bob", "cleo") if answered_last else ("cleo", "ann", "bob")
    for worker in turns:
        assert not events(broker, Closed)
        if worker == "cleo":
            assert answer(broker, claims[worker], worker) == [SubmitStatus.ACCEPTED]
        else:
            assert broker.decline("job", worker, INSIDE, tokens(claims[worker])) == 1
    assert [event.items for event in events(broker, Closed)] == [b"\0\0\0\0"]
    broker.add_members("team", ["dora"])
    assert take(broker, "dora").leases == (), "it closed"


def test_a_pool_that_grows_is_waited_for(broker):
    """With somebody new in the pool, an item that two passed on stays open for them."""
    job(broker, replication=3, max_declines=255)
    broker.append("job", 1)
    for worker in ("ann", "bob"):
        broker.decline("job", worker, INSIDE, tokens(take(broker, worker)))
    broker.add_members("team", ["dora"])
    answer(broker, take(broker, "cleo"), "cleo")
    assert not events(broker, Closed)
    answer(broker, take(broker, "dora"), "dora")
    assert [event.items for event in events(broker, Closed)] == [b"\0\0\0\0"]


def test_a_pool_that_is_too_small_waits_for_more_people(broker):
    """With fewer people than an item has tickets, somebody who passes it on does not end it for those to come."""
    job(broker, replication=3, members=["ann"])
    broker.append("job", 1)
    broker.decline("job", "ann", INSIDE, tokens(take(broker)))
    assert not events(broker, Closed)
    broker.add_members("team", ["bob", "cleo"])
    for worker in ("bob", "cleo"):
        assert answer(broker, take(broker, worker), worker) == [SubmitStatus.ACCEPTED]
    assert [event.items for event in events(broker, Closed)] == [b"\0\0\0\0"], "now everybody has spoken"


def test_a_late_answer_counts_until_somebody_else_has_the_ticket(broker):
    job(broker, replication=1, clock="caller")
    broker.append("job", 2)
    mine = take(broker, k=2, now_ms=1000)
    assert broker.expire("job", now_ms=200_000) == 2
    theirs = take(broker, "bob", now_ms=200_000)
    assert [lease.item for lease in theirs.leases] == [0]
    assert answer(broker, mine, now_ms=200_000) == [SubmitStatus.EXPIRED, SubmitStatus.ACCEPTED]
    assert answer(broker, theirs, "bob", now_ms=200_000) == [SubmitStatus.ACCEPTED]
    assert take(broker, "bob", 9, now_ms=200_000).leases == (), "the late answer took the ticket of item 1"
    unused = [answer.item for event in events(broker, Submitted) for answer in event.answers if not answer.used]
    assert unused == [0], "archived as unused, visible and payable"


def test_the_callers_clock_never_goes_back(broker):
    job(broker, clock="caller")
    broker.append("job", 2, now_ms=5000)
    assert take(broker, now_ms=1000).now_ms == 5000
    assert take(broker, "bob", now_ms=6000).leases[0].deadline_ms == 106_000
    assert take(broker, "bob", now_ms=2000).leases[0].deadline_ms == 106_000
    with pytest.raises(InvalidInputError, match="its time stands still while a claim waits"):
        take(broker, now_ms=1, wait_seconds=1)


def test_the_servers_clock_ignores_the_callers(broker):
    job(broker)
    broker.append("job", 1, now_ms=1)
    assert take(broker, now_ms=2**52).now_ms < 2**52


# -- waiting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("waker", ["append", "release", "expiry", "stop", "settle", "extend", "named"])
def test_a_claim_that_waits_is_woken(broker, waker):
    """Whatever makes work turn up, or ends it, wakes those who wait, long before their minute is over."""
    job(broker, replication=1, lease_seconds=0.3 if waker == "expiry" else 100.0)
    broker.append("job", 1)
    held = take(broker)
    if waker == "extend":
        answer(broker, held)
    other = broker.another()
    try:
        waiting = other.later("claim", "job", "bob", INSIDE, 1, wait_seconds=60)
        wait_until_blocked(broker.url)
        if waker == "append":
            broker.append("job", 1)
        elif waker == "release":
            broker.release("job", "ann", INSIDE, tokens(held))
        elif waker == "stop":
            broker.stop_job("job")
        elif waker == "settle":
            broker.seal("job")
            broker.settle("job", [Settlement(0, ItemEnd.FAILED, reason="budget")])
        elif waker == "extend":
            broker.extend("job", [0])
        elif waker == "named":
            broker.extend("job", named=[(0, broker.worker_indexes("private")["bob"])])
        claim = waiting.result(30)
    finally:
        other.close()
    expected = {"stop": (ClaimStatus.STOPPED, []), "settle": (ClaimStatus.NONE, [])}
    found = claim.status, [lease.item for lease in claim.leases]
    assert found == expected.get(waker, (ClaimStatus.MORE, [1 if waker == "append" else 0]))


def test_a_claim_that_nobody_wakes_comes_back_empty(broker):
    job(broker)
    assert take(broker, wait_seconds=0.05).status is ClaimStatus.WAIT
    for wrong in (
        {"k": 0},
        {"k": MAX_CLAIM_ITEMS + 1},
        {"wait_seconds": 61},
        {"wait_seconds": -1},
        {"lease_seconds": -1},
    ):
        with pytest.raises(InvalidInputError, match=next(iter(wrong))):
            take(broker, **wrong)


# -- behind the broker -----------------------------------------------------------------------------------------------


def test_settle_ends_items_once(broker):
    job(broker)
    broker.append("job", 2)
    broker.seal("job")
    assert broker.settle("job", [Settlement(0, ItemEnd.LABELED, 1, b"1")]) is False
    both = [Settlement(0, ItemEnd.FAILED, 1, b"", "late"), Settlement(1, ItemEnd.UNLABELED, 1, b"", "budget")]
    assert broker.settle("job", both) is True
    assert broker.settle("job", both) is True
    assert [event.ends for event in events(broker, Settled)] == [[(0, 1, 1, "", b"1")], [(1, 3, 1, "budget", b"")]]
    with pytest.raises(NotFoundError, match="no item 7"):
        broker.settle("job", [Settlement(7, ItemEnd.FAILED, reason="x")])
    state = broker.shard_state("job")
    assert (state.settled, state.labeled, state.failed, state.is_finished) == (2, 1, 0, True)
    assert take(broker).status is ClaimStatus.NONE


def test_labels_come_out_on_the_results_stream(broker):
    """With consumer groups, as any language reads it: each version once, in order."""
    job(broker)
    broker.append("job", 1)
    with redis.Redis.from_url(broker.url, protocol=2) as reader:
        key = Keys().shard("job").results
        reader.xgroup_create(key, "consumers", "0")
        broker.settle("job", [Settlement(0, ItemEnd.LABELED, 1, b'"a"')])
        broker.publish("job", [Settlement(0, ItemEnd.LABELED, 2, b'"b"', "audit")])
        [[_, entries]] = reader.xreadgroup("consumers", "me", {key: ">"})
    assert [(fields[b"item"], fields[b"version"], fields[b"reason"], fields[b"label"]) for _, fields in entries] == [
        (b"0", b"1", b"", b'"a"'),
        (b"0", b"2", b"audit", b'"b"'),
    ]
    assert [event.labels for event in events(broker, Labeled)] == [[(0, 1, 2, "audit", b'"b"')]]


def test_extend_grants_tickets_up_to_the_maximum(broker):
    job(broker, replication=1)
    broker.append("job", 2)
    index = broker.worker_indexes("private")
    answer(broker, take(broker))
    named = [(0, index["ann"]), (0, index["bob"]), (0, index["bob"])]
    codes = broker.extend("job", [0, 0, 5], tickets=2, maximum=4, named=named)
    assert codes == [Code.DONE, Code.OVER_MAXIMUM, Code.UNKNOWN, Code.HAS_IT, Code.DONE, Code.OVER_MAXIMUM]
    assert broker.extend("job", named=[(0, index["bob"])]) == [Code.HAS_IT]
    broker.settle("job", [Settlement(1, ItemEnd.FAILED, reason="x")])
    assert broker.extend("job", [1]) == [Code.SETTLED]
    assert [event.tickets for event in events(broker, Extended)] == [2]
    assert [lease.item for lease in take(broker, "bob", 9).leases] == [0]
    assert [lease.item for lease in take(broker, "cleo", 9).leases] == [0]


def test_the_log_is_read_and_trimmed(broker):
    job(broker)
    for _ in range(5):
        broker.append("job", 1)
    frames = broker.read_log("job", count=3)
    assert [event.seq for _, event in frames] == [1, 2, 3]
    size = sum(len(data) for data, _ in frames)
    before = broker.shard_state("job").log_bytes
    assert broker.trim_log("job", 3, size) == 2
    assert broker.trim_log("job", 3, size) == 2, "the same trim again takes nothing off"
    assert broker.shard_state("job").log_bytes == before - size
    assert [event.seq for _, event in broker.read_log("job", 3)] == [4, 5]
    assert broker.trim_log("job", 5, 10**9) == 0
    assert broker.shard_state("job").log_bytes == 0
    broker.append("job", 1)
    assert [event.seq for _, event in broker.read_log("job", 5)] == [6]


def test_claims_are_busy_while_the_log_is_full(broker):
    """Submits still go through, so that the log's readers catch up on finished work."""
    other = broker.another()
    other.client.operations.log_high_bytes = 100
    job(other)
    other.append("job", 50)
    held = take(other, k=30)
    with pytest.raises(BusyError, match="event log waits to be archived"):
        take(other)
    assert answer(other, held) == [SubmitStatus.ACCEPTED] * 30
    last = other.read_log("job")[-1][1].seq
    other.trim_log("job", last, 10**6)
    assert take(other).leases
    other.close()


def test_attending_clears_the_flag_that_a_submit_sets(broker):
    job(broker)
    broker.append("job", 2)
    mine = take(broker, k=2)
    assert not broker.is_dirty("job")
    broker.submit("job", "ann", INSIDE, [Answer(mine.leases[0].token, "a")])
    broker.submit("job", "ann", INSIDE, [Answer(mine.leases[1].token, "a")])
    assert broker.is_dirty("job")
    with redis.Redis.from_url(broker.url, protocol=2) as reader:
        assert reader.xlen(Keys().wake) == 1, "one wake a clearing"
    assert broker.shard_state("job").answers == 2
    assert broker.is_dirty("job"), "looking clears nothing"
    broker.shard_state("job", attend=True)
    assert not broker.is_dirty("job")


# -- a server that forgets, or goes away -----------------------------------------------------------------------------


def test_scripts_that_the_server_forgot_are_sent_again(broker):
    job(broker)
    with redis.Redis.from_url(broker.url, protocol=2) as connection:
        connection.script_flush()
    assert broker.append("job", 1) == 0
    with redis.Redis.from_url(broker.url, protocol=2) as connection:
        connection.script_flush()
    assert take(broker).leases


def test_every_key_lies_in_one_slot_and_exists_from_creation(broker):
    """A shard must answer or fail as a whole while its slot moves."""
    job(broker)
    keys = Keys().shard("job").all()
    assert all("{job.0}" in key for key in keys)
    with redis.Redis.from_url(broker.url, protocol=2) as connection:
        assert connection.exists(*keys) == len(keys)


@pytest.fixture
def mortal(kind):
    """A client, and a server of its own that keeps everything on disk."""
    with servers.short_directory() as path:
        server = EmbeddedServer(path, appendfsync="always").start()
        caller = Caller(kind, server.url, patience_seconds=30.0)
        yield caller, server
        caller.close()
        server.stop()


def test_calls_survive_a_server_that_is_killed_and_comes_back(mortal):
    """Whatever may be repeated is repeated until the server is back, and nothing acknowledged is lost."""
    broker, server = mortal
    job(broker)
    broker.append("job", 2, at=0)
    mine = take(broker, k=2)
    assert answer(broker, mine) == [SubmitStatus.ACCEPTED] * 2
    os.kill(server.pid, 9)
    server.stop()
    again = broker.later("submit", "job", "ann", INSIDE, [Answer(lease.token, "a", 1.0) for lease in mine.leases])
    server.start()
    assert [receipt.status for receipt in again.result(60)] == [SubmitStatus.ACCEPTED] * 2
    assert broker.shard_state("job").answers == 2
    assert [lease.item for lease in take(broker, "bob", 9).leases] == [0, 1]


def test_a_claim_is_not_repeated_behind_the_callers_back(mortal):
    """Its leases would be held by nobody. The error says that the server is gone, and the next call finds it."""
    broker, server = mortal
    job(broker)
    broker.append("job", 2)
    take(broker)
    server.stop()
    with pytest.raises(ServerUnavailableError, match="no answer from the Redis server"):
        take(broker)
    for call in (lambda: broker.append("job", 1), lambda: broker.extend("job", [0])):
        with pytest.raises(ServerUnavailableError):
            call()
    server.start()
    assert [lease.item for lease in take(broker).leases] == [1]


def test_one_client_may_be_shared_by_threads(server_url):
    """Threads that claim and answer through one client share nothing that breaks, also while access changes."""
    broker = Caller("sync", server_url)
    members = [f"w{number}" for number in range(8)]
    job(broker, replication=3, members=members)
    broker.append("job", 200)
    failures = []

    def work(worker):
        try:
            while leases := broker.client.claim("job", worker, INSIDE, 10).leases:
                broker.client.submit("job", worker, INSIDE, [Answer(lease.token, worker) for lease in leases])
        except BrokerError as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in members]
    for thread in threads:
        thread.start()
    for _ in range(20):
        broker.client.set_allowlist("private", ["10.0.0.0/8"])
    for thread in threads:
        thread.join()
    assert not failures
    assert broker.shard_state("job").answers == 600
    broker.close()
