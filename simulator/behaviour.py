"""When people come, and from where. What they say is the business of ``recorded.py`` and ``annotators/``."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from voxpop.simulator.counter import uniform
from voxpop.simulator.crowd import CrowdError, Visit

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ARRIVAL", "WHOLE_VISIT", "address_in", "arrivals", "parse_network"]

# Coordinates of ``counter``: what is no answer to an item is drawn beside item 2**62, which no shard reaches.
WHOLE_VISIT = 2**62
ARRIVAL = 0


def parse_network(network: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Return the network that people connect from; raises CrowdError for anything that is none."""
    try:
        return ipaddress.ip_network(network)
    except ValueError as error:
        raise CrowdError(f"network: {error}; expected a range such as 10.0.0.0/8") from None


def address_in(network: ipaddress.IPv4Network | ipaddress.IPv6Network, index: int) -> str:
    """Return the address of person ``index``; people share addresses where the network has fewer than people."""
    usable = max(1, network.num_addresses - 2)
    first = 1 if network.num_addresses > 2 else 0
    return str(network[first + index % usable])


def arrivals(
    workers: Sequence[str], *, seed: int, arrive_seconds: float, network: str, k: int, indexes: Sequence[int] = ()
) -> list[Visit]:
    """Return one visit a worker, in order of time: evenly at random over the first ``arrive_seconds``.

    Args:
        workers: who comes.
        seed: of the crowd.
        arrive_seconds: by then everybody has come.
        network: the range (CIDR) of their addresses; each has one of their own while it has enough.
        k: how many items each takes at once.
        indexes: number of each worker in the crowd; by default their place in ``workers``.
    """
    place = parse_network(network)
    visits = [
        Visit(uniform(seed, index, WHOLE_VISIT, ARRIVAL) * arrive_seconds, worker, address_in(place, index), k)
        for index, worker in zip(indexes or range(len(workers)), workers, strict=True)
    ]
    return sorted(visits, key=lambda visit: visit.at_seconds)
