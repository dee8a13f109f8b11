"""The rules of a shard, read off their specification: each test is a small story of one rule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxpop.broker.events import Closed, Submitted
from voxpop.broker.model import Shard, State
from voxpop.broker.models import Token
from voxpop.broker.wire import Code, unpack_items

ANN, BOB, CLEO = 0, 1, 2


def shard(**options):
    return Shard(**{"replication": 2, "lease_ms": 100, "retry_ms": 50, "max_declines": 2, **options})


def claim(shard, worker, k=1, now_ms=0):
    _, _, _, attempt, first, length, main, others, _ = shard.claim(now_ms, worker, 0, k)
    found = [Token(0, item, worker, attempt, item, 1) for item in unpack_items(others)]
    return found + [Token(0, item, worker, attempt, first, length) for item in unpack_items(main)]


def submit(shard, tokens, content=b"1", now_ms=0):
    codes = shard.submit(now_ms, tokens[0].worker, 0, [(token, 0.0, content) for token in tokens])[2]
    return [Code(code) for code in codes]


def items(tokens):
    return [token.item for token in tokens]


def test_items_are_handed_out_in_order_to_different_workers():
    it = shard()
    it.append(0, 0, 3)
    assert [items(claim(it, worker, 2)) for worker in (ANN, BOB, CLEO)] == [[0, 1], [0, 1], [2]]
    assert it.head == 2


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 5)), max_size=60), st.integers(1, 4))
def test_at_most_one_less_than_the_replication_are_ahead_of_the_head(claims, replication):
    """Why nobody ever searches: a worker passes an open item only by taking it."""
    it = shard(replication=replication)
    it.append(0, 0, 40)
    for worker, k in claims:
        before = it.head
        got = items(claim(it, worker, k))
        assert it.head >= before
        assert got == list(range(got[0] if got else 0, (got[0] if got else 0) + len(got))), "no item is skipped"
        assert sum(cursor > it.head for cursor, _ in it.cursors.values()) <= replication - 1


def test_a_lease_that_expires_comes_back_for_others_first():
    it = shard(replication=1)
    it.append(0, 0, 1)
    mine = claim(it, ANN)
    assert it.expire(99, 10)[1] == 0
    assert it.expire(100, 10)[1] == 1
    assert claim(it, ANN, now_ms=100) == [], "not before the retry time"
    it.expire(150, 10)
    again = claim(it, ANN, now_ms=150)
    assert items(again) == [0]
    assert submit(it, mine, now_ms=150) == [Code.EXPIRED], "the old lease is over"
    assert submit(it, again, now_ms=150) == [Code.DONE]


def test_a_late_answer_takes_its_ticket_back_while_it_is_free():
    it = shard(replication=1)
    it.append(0, 0, 2)
    mine = claim(it, ANN, 2)
    it.expire(100, 10)
    assert items(claim(it, BOB, now_ms=100)) == [0]
    assert submit(it, mine, now_ms=100) == [Code.EXPIRED, Code.DONE]
    assert claim(it, BOB, 5, now_ms=100) == []
    assert [answer.used for answer in it.events[-1].answers] == [False, True]


def test_the_same_submit_again_is_the_same_and_another_is_refused():
    it = shard()
    it.append(0, 0, 1)
    mine = claim(it, ANN)
    assert [submit(it, mine), submit(it, mine), submit(it, mine, b"2")] == [
        [Code.DONE],
        [Code.REPEATED],
        [Code.CONFLICT],
    ]
    assert sum(isinstance(event, Submitted) for event in it.events) == 1
    it.settle(0, [(0, 1, 1, "", b"")])
    assert submit(it, mine) == [Code.SETTLED]


def test_a_decline_is_for_good_and_enough_of_them_close_the_item():
    it = shard(max_declines=2)
    it.append(0, 0, 1)
    for worker in (ANN, BOB):
        it.giveback(0, worker, 0, claim(it, worker), decline=True)
        it.expire(10_000, 10)
        assert claim(it, worker, now_ms=10_000) == []
    assert isinstance(it.events[-1], Closed)
    assert claim(it, CLEO) == []
    assert it.extend(0, 9, 1, [0])[1] == bytes([Code.DONE])
    assert items(claim(it, CLEO)) == [0]


@pytest.mark.parametrize(("people", "closes"), [(1, False), (2, True), (3, False)])
def test_an_item_closes_for_want_of_people_only_in_a_pool_that_is_large_enough(people, closes):
    """Two have spoken: everybody of a pool of two; the pool of one waits for more people, as the job needs two."""
    it = shard(replication=2, max_declines=9, people=people)
    it.append(0, 0, 1)
    it.giveback(0, ANN, 0, claim(it, ANN), decline=True)
    submit(it, claim(it, BOB))
    assert isinstance(it.events[-1], Closed) is closes
    assert items(claim(it, CLEO)) == ([] if closes else [0])


def test_an_item_that_closes_under_a_lease_waits_for_it():
    """The policy hears of it when the last lease ends, by its answer or without."""
    it = shard(max_declines=1)
    it.append(0, 0, 2)
    held, declined = claim(it, ANN, 2), claim(it, BOB, 2)
    it.giveback(0, BOB, 0, declined, decline=True)
    assert not any(isinstance(event, Closed) for event in it.events)
    submit(it, held[:1])
    assert it.events[-1].answers[0].full
    it.expire(100, 10)
    assert it.events[-1] == Closed(it.events[-1].seq, 100, b"\1\0\0\0")


def test_a_named_ticket_waits_for_its_worker_and_comes_back_to_them():
    it = shard(replication=0)
    it.append(0, 0, 2, named=[(0, ANN), (1, ANN), (1, BOB)])
    assert claim(it, CLEO, 5) == []
    mine = claim(it, ANN, 5)
    assert items(mine) == [0, 1]
    it.expire(100, 10)
    assert items(claim(it, ANN, 5, now_ms=100)) == [0, 1], "at once: nobody else waits for it"
    it.giveback(100, BOB, 0, claim(it, BOB, now_ms=100), decline=True)
    assert it.items[1].granted == 1, "a declined named ticket is gone"


def test_an_item_that_names_nobody_closes_at_once():
    it = shard(replication=0)
    assert it.append(0, 0, 2, named=[(1, ANN)]) == ("ok", 0, 1)
    assert it.events[-1] == Closed(2, 0, b"\0\0\0\0")


def test_extra_tickets_go_to_people_who_did_not_have_the_item():
    it = shard(replication=1)
    it.append(0, 0, 1)
    submit(it, claim(it, ANN))
    assert it.extend(0, 2, 1, [0], [(0, ANN)])[1] == bytes([Code.DONE, Code.OVER_MAXIMUM])
    assert it.extend(0, 9, 1, [], [(0, ANN)])[1] == bytes([Code.HAS_IT])
    assert claim(it, ANN) == []
    assert items(claim(it, BOB)) == [0]


def test_extra_tickets_are_refused_when_everybody_of_the_pool_has_or_had_the_item():
    it = shard(replication=1, people=3)
    it.append(0, 0, 1)
    submit(it, claim(it, ANN))
    assert it.extend(0, 9, 1, [0])[1] == bytes([Code.DONE])
    it.giveback(0, BOB, 0, claim(it, BOB), decline=True)
    held = claim(it, CLEO)
    assert it.extend(0, 9, 1, [0])[1] == bytes([Code.NOBODY_LEFT])
    it.giveback(0, CLEO, 0, held, decline=False)
    assert it.extend(0, 9, 1, [0])[1] == bytes([Code.DONE]), "who gave it back may take it again"


@pytest.mark.parametrize("revoke", [False, True])
def test_after_a_stop_held_leases_may_finish_unless_revoked(revoke):
    it = shard()
    it.append(0, 0, 2)
    mine = claim(it, ANN)
    it.stop(0, revoke=revoke)
    assert it.claim(0, BOB, 0, 1)[0] == "stopped"
    assert it.append(0, 2, 1)[0] == "stopped"
    assert submit(it, mine) == [Code.EXPIRED if revoke else Code.DONE]


def test_an_old_verdict_is_sent_back():
    it = shard()
    it.append(0, 0, 1)
    mine = claim(it, ANN)
    it.learn_pool(5, 9)
    assert it.claim(0, ANN, 4, 1)[0] == "recheck"
    assert it.submit(0, ANN, 4, [(mine[0], 0.0, b"1")])[0] == "recheck"
    assert it.renew(0, ANN, 4, mine)[0] == "recheck"
    assert it.giveback(0, ANN, 4, mine, decline=True)[0] == "recheck"
    assert it.learn_pool(3, 9) == (5,), "it never falls"


def test_renewal_never_shortens_what_was_promised():
    it = shard()
    it.append(0, 0, 2)
    mine = claim(it, ANN, 2)
    it.renew(0, ANN, 0, mine[:1], 10)
    assert it.expire(99, 10)[1] == 0
    it.renew(99, ANN, 0, mine[:1], 200)
    assert it.expire(298, 10)[1] == 0
    assert it.expire(299, 10)[1] == 2


def test_the_clock_never_goes_back_and_refusals_do_not_move_it():
    it = shard()
    it.append(500, 0, 1)
    assert it.claim(100, ANN, 0, 1)[1] == 500
    it.stop(500)
    assert it.claim(900, ANN, 0, 1)[1] == 900
    assert it.time_ms == 500


def test_settling_frees_the_record():
    it = shard()
    it.append(0, 0, 2)
    mine = claim(it, ANN, 2)
    it.giveback(0, ANN, 0, mine, decline=False)
    assert it.settle(0, [(0, 2, 1, "x", b""), (0, 1, 1, "", b""), (7, 1, 1, "", b"")])[1] == bytes(
        [Code.DONE, Code.SETTLED, Code.UNKNOWN]
    )
    assert set(it.items) == {1}
    assert set(it.reopened) == {1}
    assert it.items[1].slots[ANN].state is State.RELEASED
