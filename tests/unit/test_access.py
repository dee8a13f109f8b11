"""Allowlists: what a range is, who lies in it, and what a client remembers."""

import threading
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxpop.broker.access import AccessCache, Allowlist, Verdict, parse_ranges
from voxpop.broker.errors import InvalidInputError


@st.composite
def ranges(draw):
    version, bits = draw(st.sampled_from([(4, 32), (6, 128)]))
    length = draw(st.integers(0, bits))
    # Addresses close together, so that ranges overlap and touch.
    base = draw(st.integers(0, 2**10 - 1)) << draw(st.sampled_from([0, 8, bits - 10]))
    address = ip_address(base) if version == 4 else ip_address(base | 1 << 127)
    return str(ip_network(f"{address}/{length}", strict=False))


@given(st.lists(ranges(), min_size=1, max_size=8), st.data())
def test_an_allowlist_is_the_union_of_its_ranges(texts, data):
    """Merged and bisected, it says what looking into each range says."""
    allowlist = Allowlist(parse_ranges(texts))
    networks = [ip_network(text) for text in texts]
    network = data.draw(st.sampled_from(networks))
    top = 2**32 - 1 if network.version == 4 else 2**128 - 1
    near = [int(network.network_address) - 1, int(network.network_address), int(network.broadcast_address) + 1]
    value = data.draw(st.sampled_from([min(max(0, at), top) for at in near]) | st.integers(0, top))
    address = type(network.network_address)(value)
    if network.version == 6 and address.ipv4_mapped:
        address = address.ipv4_mapped
    assert allowlist.allows(str(address)) == any(address in one for one in networks if one.version == address.version)


def test_an_empty_allowlist_is_unrestricted_but_wants_an_address():
    assert Allowlist(()).allows("2001:db8::1")
    with pytest.raises(InvalidInputError, match="'home' is not an IPv4 or IPv6 address; pass the one"):
        Allowlist(()).allows("home")


@given(st.integers(0, 2**32 - 1), st.integers(0, 32))
def test_mapped_addresses_and_ranges_are_compared_as_ipv4(value, length):
    network = ip_network((value >> (32 - length) << (32 - length), length))
    plain, mapped = Allowlist((str(network),)), parse_ranges([f"::ffff:{network.network_address}/{96 + length}"])
    assert mapped == (str(network),)
    assert plain.allows(f"::ffff:{ip_address(value)}")


def test_ranges_are_spelled_one_way_and_once():
    assert parse_ranges(["10.0.0.0/8", "10.0.0.0/8", "2001:DB8::/32", "1.2.3.4"]) == (
        "10.0.0.0/8",
        "2001:db8::/32",
        "1.2.3.4/32",
    )


@pytest.mark.parametrize("text", ["10.0.0.1/8", "fe80::1%eth0/64", "1.2.3", "1.2.3.4/", "\u0661.2.3.4", "10.0.0.0/8 "])
def test_what_is_no_range_is_named(text):
    with pytest.raises(InvalidInputError, match="allowlist: "):
        parse_ranges(["10.0.0.0/8", text])


def test_a_cache_forgets_one_pool_only():
    cache = AccessCache()
    for pool in ("one", "two"):
        cache.remember(pool, "ann", "10.0.0.1", Verdict(3, 1))
    cache.forget("one")
    assert cache.verdict("one", "ann", "10.0.0.1") is None
    assert cache.verdict("two", "ann", "10.0.0.1") == Verdict(3, 1)
    assert cache.verdict("two", "ann", "10.0.0.2") is None, "a verdict is for one address"


def test_an_allowlist_is_kept_for_its_epoch():
    cache = AccessCache()
    compiled = cache.learn("one", 4, ("10.0.0.0/8",))
    assert cache.allowlist("one", 4) is compiled
    assert cache.allowlist("one", 5) is None


def test_a_cache_does_not_grow_without_bound(monkeypatch):
    monkeypatch.setattr(AccessCache, "MAX_VERDICTS", 10)
    cache = AccessCache()
    for number in range(25):
        cache.remember("one", f"w{number}", "10.0.0.1", Verdict(number, 1))
    assert cache.verdict("one", "w24", "10.0.0.1") == Verdict(24, 1)
    assert sum(cache.verdict("one", f"w{number}", "10.0.0.1") is not None for number in range(25)) <= 10


def test_forgetting_while_other_threads_remember():
    cache, done, failures = AccessCache(), threading.Event(), []

    def remember():
        number = 0
        while not done.is_set():
            cache.remember("one", f"w{number % 5000}", "10.0.0.1", Verdict(1, 1))
            number += 1

    def forget():
        try:
            for _ in range(300):
                cache.forget("one")
        except RuntimeError as error:
            failures.append(error)
        finally:
            done.set()

    threads = [threading.Thread(target=target) for target in (remember, forget)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
