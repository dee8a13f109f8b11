"""Who may come in, and from where: addresses, allowlists, and the cache of verdicts.

A verdict is (worker, address, epoch): the worker is a member of the pool and the address lies in its workforce's
allowlist, as of that access epoch. Shards refuse verdicts that are older than the epoch that they know.
"""

from __future__ import annotations

from bisect import bisect_right
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NamedTuple

from voxpop.broker.errors import InvalidInputError
from voxpop.broker.limits import MAX_ALLOWLIST_RANGES

__all__ = ["AccessCache", "Allowlist", "Verdict", "check_address", "parse_ranges"]


class Verdict(NamedTuple):
    """A worker may come in from an address, as of an epoch."""

    worker: int  # index in the workforce
    epoch: int


def parse_ranges(ranges: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    """Return the ranges in canonical spelling; raises InvalidInputError naming the first that is not a CIDR range."""
    if len(ranges) > MAX_ALLOWLIST_RANGES:
        raise InvalidInputError(f"allowlist has {len(ranges)} ranges; at most {MAX_ALLOWLIST_RANGES} are allowed")
    canonical = []
    for text in ranges:
        try:
            network = ip_network(text)
        except ValueError:
            raise InvalidInputError(_explain(text)) from None
        if network.version == 6 and network.network_address.ipv4_mapped is not None and network.prefixlen >= 96:
            # ::ffff:203.0.113.0/120 is 203.0.113.0/24: mapped addresses are compared as IPv4.
            network = ip_network(f"{network.network_address.ipv4_mapped}/{network.prefixlen - 96}")
        canonical.append(str(network))
    return tuple(dict.fromkeys(canonical))


def _explain(text: str) -> str:
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return (
            f"allowlist: {text!r} is not an address range; write an IPv4 or IPv6 address, "
            "or a range such as 203.0.113.0/24 or 2001:db8::/32"
        )
    return (
        f"allowlist: {text!r} has bits set right of its /{network.prefixlen} prefix; "
        f"write {network} for the whole range, or {text.partition('/')[0]} for the one address"
    )


def check_address(address: object) -> IPv4Address | IPv6Address:
    """Return the parsed address; raises InvalidInputError if it is none."""
    try:
        return ip_address(address if isinstance(address, str) else "")  # numbers and bytes would be taken too
    except ValueError:
        raise InvalidInputError(
            f"address {address!r:.62} is not an IPv4 or IPv6 address; pass the one that the worker connects from"
        ) from None


class Allowlist:
    """Address ranges, merged and sorted: a look-up costs two comparisons and a bisection. Empty = unrestricted."""

    __slots__ = ("_ends", "_starts", "unrestricted")

    def __init__(self, ranges: tuple[str, ...]) -> None:
        self.unrestricted = not ranges
        self._starts: dict[int, list[int]] = {4: [], 6: []}
        self._ends: dict[int, list[int]] = {4: [], 6: []}
        networks = [ip_network(text) for text in ranges]
        for version in (4, 6):
            spans = sorted(
                (int(network.network_address), int(network.broadcast_address))
                for network in networks
                if network.version == version
            )
            for start, end in spans:
                if self._ends[version] and start <= self._ends[version][-1]:
                    self._ends[version][-1] = max(self._ends[version][-1], end)
                else:
                    self._starts[version].append(start)
                    self._ends[version].append(end)

    def allows(self, address: str) -> bool:
        """Return whether the address lies in a range; raises InvalidInputError if it is not an address."""
        parsed = check_address(address)
        if self.unrestricted:
            return True
        if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        value = int(parsed)
        place = bisect_right(self._starts[parsed.version], value) - 1
        return place >= 0 and value <= self._ends[parsed.version][place]


class AccessCache:
    """Verdicts and compiled allowlists that one client remembers. Not shared, not stored."""

    MAX_VERDICTS = 100_000

    def __init__(self) -> None:
        self._verdicts: dict[tuple[str, str, str], Verdict] = {}
        self._allowlists: dict[str, tuple[int, Allowlist]] = {}

    def verdict(self, pool: str, worker: str, address: str) -> Verdict | None:
        """Return the remembered verdict, or None."""
        return self._verdicts.get((pool, worker, address))

    def remember(self, pool: str, worker: str, address: str, verdict: Verdict) -> None:
        """Remember that the worker may come in."""
        if len(self._verdicts) >= self.MAX_VERDICTS:
            self._verdicts.clear()
        self._verdicts[pool, worker, address] = verdict

    def allowlist(self, pool: str, epoch: int) -> Allowlist | None:
        """Return the pool's compiled allowlist if it is of this epoch."""
        known = self._allowlists.get(pool)
        return known[1] if known and known[0] == epoch else None

    def learn(self, pool: str, epoch: int, ranges: tuple[str, ...]) -> Allowlist:
        """Compile and remember the pool's allowlist as of an epoch."""
        allowlist = Allowlist(ranges)
        self._allowlists[pool] = (epoch, allowlist)
        return allowlist

    def forget(self, pool: str) -> None:
        """Drop every verdict of a pool: its epoch has risen."""
        for key in list(self._verdicts):  # one step: other threads add to it meanwhile
            if key[0] == pool:
                self._verdicts.pop(key, None)
