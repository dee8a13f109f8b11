"""One suite for both clients on both servers: workforces, pools, members, allowlists, and who is let in."""

import contextlib
import re

import pytest
import redis
from callers import INSIDE, Caller, job

from voxpop.broker import Answer, ClaimStatus, JobSpec, work
from voxpop.broker.errors import ConflictError, InvalidInputError, NotFoundError
from voxpop.broker.limits import MAX_ALLOWLIST_RANGES

MAPPED = f"::ffff:{INSIDE}"


@pytest.fixture(params=["sync", "async"])
def broker(request, server_url):
    caller = Caller(request.param, server_url)
    yield caller
    caller.close()


@pytest.fixture
def portal(broker):
    """Another process with its own cache of verdicts."""
    caller = broker.another()
    yield caller
    caller.close()


def test_workforces_and_pools_are_kept(broker):
    broker.create_workforce("private", ["10.0.0.0/8"])
    pool = broker.create_pool("team", "private", ["bob", "ann"])
    assert (pool.members, pool.workforce, pool.allow) == (("ann", "bob"), "private", ("10.0.0.0/8",))
    assert broker.create_pool("team", "private", ["ann", "cleo"]).members == ("ann", "bob", "cleo")
    broker.create_pool("second", "private")
    assert broker.pools() == ["second", "team"]
    assert broker.workforce("private").allow == ("10.0.0.0/8",)
    assert broker.worker_indexes("private") == {"bob": 0, "ann": 1, "cleo": 2}
    assert broker.add_members("second", ["ann"]) == 1
    assert broker.add_members("second", ["ann"]) == 0
    assert broker.remove_members("second", ["ann", "nobody"]) == 1
    broker.add_members("second", ["dora"])
    assert broker.worker_indexes("private")["dora"] == 3, "an index is never given to somebody else"


def test_a_pool_belongs_to_one_workforce(broker):
    broker.create_workforce("private")
    broker.create_workforce("vendor")
    broker.create_pool("team", "private")
    with pytest.raises(ConflictError, match="'team' exists in another workforce"):
        broker.create_pool("team", "vendor")
    broker.set_allowlist("vendor", ["10.0.0.0/8"])
    assert broker.pool("team").allow == ()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda broker: broker.pool("team"), "pool 'team' not found; `voxpop pool create team`"),
        (lambda broker: broker.workforce("w"), "workforce 'w' not found"),
        (lambda broker: broker.create_pool("team", "w"), "workforce 'w' not found"),
        (lambda broker: broker.set_allowlist("w", []), "workforce 'w' not found"),
        (lambda broker: broker.add_members("team", ["ann"]), "pool 'team' not found"),
        (lambda broker: broker.remove_members("team", ["ann"]), "pool 'team' not found"),
    ],
)
def test_what_is_not_there(broker, call, message):
    with pytest.raises(NotFoundError, match=re.escape(message)):
        call(broker)


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        (["10.0.0.1/8"], "'10.0.0.1/8' has bits set right of its /8 prefix; write 10.0.0.0/8 for the whole range"),
        (["2001:db8::1/32"], "write 2001:db8::/32 for the whole range, or 2001:db8::1 for the one address"),
        (["10.0.0.0/33"], "'10.0.0.0/33' is not an address range"),
        (["10.0.0.0/8", "office"], "'office' is not an address range; write an IPv4 or IPv6 address"),
        ([""], "'' is not an address range"),
        (["10.0.0.0/8"] * (MAX_ALLOWLIST_RANGES + 1), "allowlist has 10001 ranges; at most 10000"),
    ],
)
def test_an_allowlist_that_is_wrong_changes_nothing(broker, ranges, message):
    job(broker, allow=["10.0.0.0/8"])
    for call in (broker.create_workforce, broker.set_allowlist):
        with pytest.raises(InvalidInputError, match=re.escape(message)):
            call("private", ranges)
    assert broker.workforce("private").allow == ("10.0.0.0/8",)
    assert broker.pool("team").allow == ("10.0.0.0/8",)


@pytest.mark.parametrize(
    ("allow", "inside", "outside"),
    [
        (
            ["10.0.0.0/8"],
            ["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"],
            ["9.255.255.255", "11.0.0.0", "::1", "2001:db8::"],
        ),
        (["203.0.113.7"], ["203.0.113.7"], ["203.0.113.6", "203.0.113.8"]),
        (["2001:db8::/32"], ["2001:db8::1", "2001:db8:ffff::"], ["2001:db9::", "10.0.0.1", "::ffff:10.0.0.1"]),
        (["::ffff:203.0.113.0/120"], ["203.0.113.9", "::ffff:203.0.113.9"], ["203.0.114.1"]),
        (["10.0.0.0/8", "192.168.0.0/16", "2001:db8::/32"], ["10.0.0.1", "192.168.1.1", "2001:db8::"], ["172.16.0.1"]),
        ([], ["10.0.0.1", "2001:db8::1", "::ffff:1.2.3.4"], []),
    ],
)
def test_addresses_inside_and_outside(broker, allow, inside, outside):
    """Unrestricted by default; IPv4, IPv6, and IPv4 mapped into IPv6, which is compared as IPv4."""
    job(broker, allow=allow)
    broker.append("job", 1)
    for address in inside:
        assert broker.claim("job", "ann", address).status in (ClaimStatus.MORE, ClaimStatus.WAIT)
    for address in outside:
        with pytest.raises(NotFoundError):
            broker.claim("job", "bob", address)


def test_an_address_must_be_one(broker):
    job(broker)
    for address in ("", "localhost", "10.0.0.0/8", "10.0.0.256"):
        with pytest.raises(InvalidInputError, match="is not an IPv4 or IPv6 address"):
            broker.claim("job", "ann", address)


def test_outside_looks_like_a_job_that_is_not_there(broker):
    """Neither an address, nor membership, nor a job's existence can be probed."""
    job(broker, allow=["10.0.0.0/8"])
    broker.append("job", 1)
    lease = broker.claim("job", "ann", INSIDE).leases[0]
    refusals = set()
    for name, worker, address in (("job", "ann", "11.0.0.1"), ("job", "mallory", INSIDE), ("nothing", "ann", INSIDE)):
        for call in (
            broker.claim,
            lambda *who: broker.submit(*who, [Answer(lease.token, "a")]),
            lambda *who: broker.renew(*who, [lease.token]),
            lambda *who: broker.release(*who, [lease.token]),
            lambda *who: broker.decline(*who, [lease.token]),
        ):
            with pytest.raises(NotFoundError) as refusal:
                call(name, worker, address)
            refusals.add((type(refusal.value), str(refusal.value).replace(repr(name), "NAME")))
    assert len(refusals) == 1, refusals
    counted = {field.split("|", 1)[1]: count for field, count in broker.refusals("team").items()}
    assert counted == {"address|ann": 5, "member|mallory": 5}, "refusals are counted by reason and worker"
    assert broker.shard_state("job").answers == 0
    for name in ("job", "nothing"):
        for worker, address in (("ann", "zzz"), ("x" * 1000, INSIDE)):
            with pytest.raises(InvalidInputError):
                broker.claim(name, worker, address)


def test_refusals_of_strangers_stay_bounded(broker, monkeypatch):
    """Whatever strangers call themselves, a day's counts take a bounded part of memory."""
    monkeypatch.setattr(work, "MAX_REFUSALS_A_DAY", 3)
    job(broker)
    for number in range(6):
        with pytest.raises(NotFoundError):
            broker.claim("job", f"stranger{number}", INSIDE)
    names = [field.split("|")[2] for field in broker.refusals("team")]
    assert sorted(names) == ["", "stranger0", "stranger1", "stranger2"]
    assert sum(broker.refusals("team").values()) == 6


@pytest.mark.parametrize("change", ["member", "allowlist", "workforce"])
def test_a_change_is_in_force_in_every_process_when_it_returns(broker, portal, change):
    """Another client has a verdict in its cache: it may not use it once the change is acknowledged."""
    job(broker, allow=["10.0.0.0/8"])
    broker.append("job", 5)
    held = portal.claim("job", "ann", INSIDE).leases[0]
    assert portal.claim("job", "ann", MAPPED).leases
    if change == "member":
        broker.remove_members("team", ["ann"])
    elif change == "allowlist":
        broker.set_allowlist("private", ["192.168.0.0/16"])
    else:
        broker.create_workforce("private", ["192.168.0.0/16"])
    for call in (
        lambda: portal.claim("job", "ann", INSIDE),
        lambda: portal.claim("job", "ann", MAPPED),
        lambda: portal.submit("job", "ann", INSIDE, [Answer(held.token, "a")]),
        lambda: portal.renew("job", "ann", INSIDE, [held.token]),
        lambda: portal.release("job", "ann", INSIDE, [held.token]),
        lambda: portal.decline("job", "ann", INSIDE, [held.token]),
    ):
        with pytest.raises(NotFoundError):
            call()
    if change == "member":
        broker.add_members("team", ["ann"])
        assert portal.claim("job", "bob", INSIDE).leases, "others are not disturbed"
    else:
        broker.set_allowlist("private", [])
    assert portal.submit("job", "ann", INSIDE, [Answer(held.token, "a")])[0].status == "accepted", "let in again"


def test_a_change_reaches_shards_that_open_later(broker, portal):
    """A job that is made after the change knows of it, whatever the caches of others hold."""
    job(broker)
    broker.append("job", 1)
    assert portal.claim("job", "ann", INSIDE).leases
    broker.remove_members("team", ["ann"])
    broker.create_job(JobSpec(name="next", task_type="text_single_label", pool="team"))
    broker.append("next", 1)
    with pytest.raises(NotFoundError):
        portal.claim("next", "ann", INSIDE)
    assert portal.claim("next", "bob", INSIDE).leases


def test_a_change_reaches_every_pool_of_the_workforce(broker, portal):
    job(broker)
    broker.create_pool("second", "private", ["ann"])
    broker.create_job(JobSpec(name="other", task_type="text_single_label", pool="second"))
    for name in ("job", "other"):
        broker.append(name, 2)
        assert portal.claim(name, "ann", INSIDE).leases
    broker.set_allowlist("private", ["192.168.0.0/16"])
    for name in ("job", "other"):
        with pytest.raises(NotFoundError):
            portal.claim(name, "ann", INSIDE)


@pytest.mark.parametrize("worker", ["", "x" * 257, "tab\there"])
def test_worker_ids_that_are_refused(broker, worker):
    job(broker)
    with pytest.raises(InvalidInputError, match="worker id"):
        broker.add_members("team", ["dora", worker])
    assert broker.pool("team").members == ("ann", "bob", "cleo")


# -- calls that are cut short, or meet ---------------------------------------------------------------------------------


class Steps:
    """One call, taken request by request."""

    def __init__(self, broker, op, *args):
        self.broker, self.steps = broker, getattr(broker.client.operations, op)(*args)
        self.wanted = next(self.steps)

    def send(self):
        """Send one request."""
        try:
            self.wanted = self.steps.send(self.broker._perform(self.wanted))
        except StopIteration:
            self.wanted = None

    def go(self, until=""):
        """Send requests until this script or command is wanted next, or to the end."""
        while self.wanted and until not in (
            getattr(self.wanted, "script", None),
            *getattr(self.wanted, "parts", ())[:1],
        ):
            self.send()
        assert bool(self.wanted) is bool(until)


@pytest.mark.parametrize("cut", ["create_pool", "SADD", "HMGET", "edit_pool"])
def test_a_pool_whose_maker_died_stands_in_nobodys_way(broker, portal, cut):
    """Allowlists change on, nobody gets in by it, and the same call again makes it."""
    job(broker, allow=["10.0.0.0/8"])
    broker.append("job", 5)
    steps = Steps(portal, "create_pool", "mine", "private", ["ann"])
    steps.go("create_pool")
    steps.go(cut)
    broker.set_allowlist("private", ["192.168.0.0/16"])
    assert broker.pool("team").allow == ("192.168.0.0/16",)
    assert broker.create_pool("mine", "private", ["ann"]).allow == ("192.168.0.0/16",)
    assert broker.pools() == ["mine", "team"]


def test_a_pool_that_another_workforce_asked_for_keeps_its_allowlist(broker, portal):
    """Wherever the client dies that wanted a name of another workforce."""
    for workforce, allow in (("one", ["10.0.0.0/8"]), ("two", ["192.168.0.0/16"])):
        broker.create_workforce(workforce, allow)
    broker.create_pool("team", "two", ["ann"])
    steps = Steps(portal, "create_pool", "team", "one")
    with contextlib.suppress(ConflictError):
        steps.go("SREM")
    broker.set_allowlist("one", ["203.0.113.0/24"])
    assert broker.pool("team").allow == ("192.168.0.0/16",)


def test_what_an_earlier_version_kept_is_understood(broker):
    """It may have listed a pool that was never made, or is another workforce's; and its allowlists had no versions."""
    job(broker)
    broker.create_workforce("vendor", ["192.168.0.0/16"])
    broker.create_pool("b1", "vendor")
    keys = broker.client.operations.keys
    with redis.Redis.from_url(broker.url, protocol=2) as connection:
        connection.sadd(keys.workforce_pools("private"), "a", "b1")
        connection.hdel(keys.workforce("private"), "version")
        connection.hdel(keys.pool("team"), "version")
    assert broker.create_pool("team", "private").allow == ()
    broker.set_allowlist("private", ["10.0.0.0/8"])
    assert broker.pool("team").allow == ("10.0.0.0/8",)
    assert broker.pool("b1").allow == ("192.168.0.0/16",)


@pytest.mark.parametrize("meet", ["SMEMBERS", "edit_pool"])
def test_of_two_allowlists_set_at_once_the_same_holds_everywhere(broker, portal, meet):
    """The slower client's older list never lands on the newer one."""
    job(broker)
    slow = Steps(portal, "set_allowlist", "private", ["11.0.0.0/8"])
    slow.go(meet)
    broker.set_allowlist("private", ["12.0.0.0/8"])
    slow.go()
    assert broker.workforce("private").allow == broker.pool("team").allow == ("12.0.0.0/8",)


@pytest.mark.parametrize("meet", ["create_pool", "SADD", "HMGET", "edit_pool"])
def test_a_pool_that_is_made_during_a_change_has_the_new_allowlist(broker, portal, meet):
    job(broker, allow=["10.0.0.0/8"])
    slow = Steps(portal, "create_pool", "night", "private", ["ann"])
    slow.go("create_pool")
    slow.go(meet)
    broker.set_allowlist("private", ["192.168.0.0/16"])
    slow.go()
    assert broker.pool("night").allow == ("192.168.0.0/16",)


@pytest.mark.parametrize("requests", [1, 2])
def test_a_workforce_whose_maker_died_takes_a_new_allowlist_to_its_pools(broker, portal, requests):
    steps = Steps(portal, "create_workforce", "private", ["10.0.0.0/8"])
    for _ in range(requests):
        steps.send()
    with contextlib.suppress(NotFoundError):
        broker.create_pool("team", "private", ["ann"])
    broker.create_workforce("private", ["192.168.0.0/16"])
    broker.create_pool("night", "private")
    assert {broker.pool(name).allow for name in broker.pools()} == {("192.168.0.0/16",)}


@pytest.mark.parametrize("meet", ["SADD", "HMGET", "learn_pool", "open"])
def test_a_change_reaches_a_shard_that_is_about_to_open(broker, portal, meet):
    """Somebody with a fresh verdict is shut out while the shard's maker stands still."""
    job(broker, allow=["10.0.0.0/8"])
    assert portal.claim("job", "ann", INSIDE).status == "wait"
    maker = Steps(broker.another(), "create_job", JobSpec(name="next", task_type="text_single_label", pool="team"))
    maker.go("ZADD")
    maker.go(meet)
    broker.remove_members("team", ["ann"])
    maker.go()
    broker.append("next", 1)
    with pytest.raises(NotFoundError):
        portal.claim("next", "ann", INSIDE)
    maker.broker.close()


# -- what is no list of people -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda broker: broker.create_workforce(None), "workforce name None is not allowed"),
        (
            lambda broker: broker.set_allowlist("private", "10.0.0.0/8"),
            "allowlist: found '10.0.0.0/8'; expected a list",
        ),
        (
            lambda broker: broker.set_allowlist("private", [10]),
            "allowlist: found 10 in place 1; expected a list of texts",
        ),
        (lambda broker: broker.create_pool(3, "private"), "pool name 3 is not allowed"),
        (lambda broker: broker.create_pool("team", "private", "ann"), "workers: found 'ann'; expected a list of texts"),
        (lambda broker: broker.add_members("team", "ann"), "workers: found 'ann'; expected a list of texts"),
        (lambda broker: broker.remove_members("team", "ann"), "workers: found 'ann'; expected a list of texts"),
        (lambda broker: broker.remove_members("team", ["ann", None]), "workers: found None in place 2"),
    ],
)
def test_arguments_of_another_type(broker, call, message):
    """One text is no list of texts: its letters are nobody."""
    job(broker)
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        call(broker)
    assert broker.pool("team").members == ("ann", "bob", "cleo")
