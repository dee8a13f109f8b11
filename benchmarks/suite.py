"""What a suite is, and which there are. What it measures is in ``suites/``; how suites are run, in ``running.py``.

A suite yields raw runs and nothing else. Its verdicts and pictures are made from raw runs, so that they can be made
again from the file. To add one: write a module with a ``SUITE``, and name it in ``SUITES``.
"""

from __future__ import annotations

import dataclasses
import importlib
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import msgspec
from benchmarks.harness import Case, Run, Unit, Watch, interleave
from benchmarks.peer import PeerMissingError, open_peer, peer_infos

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from benchmarks.peer import Peer
    from matplotlib.figure import Figure

__all__ = [
    "SUITES",
    "Context",
    "NoParameters",
    "Picture",
    "Step",
    "Suite",
    "Table",
    "UnknownSuiteError",
    "Verdict",
    "at_least",
    "at_most",
    "get_suite",
    "not_measured",
]

# Modules by name, imported when they are asked for.
SUITES: Final = {
    "votes": "benchmarks.suites.votes.suite",
    "million": "benchmarks.suites.million",
}


class UnknownSuiteError(ValueError):
    """There is no suite of this name; the message lists those that there are."""


class NoParameters(msgspec.Struct, frozen=True):
    """The parameters of a suite that has none."""


class Verdict(msgspec.Struct, frozen=True):
    """One line of a suite's table of targets."""

    name: str
    target: str
    measured: str  # empty if it was not
    state: Literal["met", "missed", "not measured"]
    note: str = ""  # how it was measured, or why not


class Table(msgspec.Struct, frozen=True):
    """One table of the report besides those that all suites have."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


class Picture(NamedTuple):
    """One plot of the report."""

    name: str  # of its file
    caption: str  # what it shows, for a reader who cannot see it too
    figure: Figure


class Step(NamedTuple):
    """A part of a suite that can be run alone."""

    title: str
    run: Callable[[Context], Iterator[Run]]


@dataclasses.dataclass(frozen=True)
class Suite:
    """One suite.

    Attributes:
        name: as it is asked for.
        about: one line.
        steps: what there is to do, cheapest to skip last.
        verdicts: the table of targets from raw runs.
        parameters: what can be set besides the common options.
        tables: more tables for the report, from raw runs.
        pictures: plots for the report, from raw runs.
        has_own_table: whether a case is shown by ``tables`` instead of the table of rates.
    """

    name: str
    about: str
    steps: Callable[[Context], Sequence[Step]]
    verdicts: Callable[[Sequence[Run]], list[Verdict]] = lambda _: []
    parameters: type[msgspec.Struct] = NoParameters
    tables: Callable[[Sequence[Run]], list[Table]] = lambda _: []
    pictures: Callable[[Sequence[Run]], list[Picture]] = lambda _: []
    has_own_table: Callable[[Run], bool] = lambda _: False


class Listener(Watch):
    """Who is told what happens while suites run."""

    def skipped(self, what: str, why: str) -> None:
        """Something is not measured."""


@dataclasses.dataclass
class Context:
    """What a step may use.

    Attributes:
        suite: name of the suite.
        quick: whether the whole suite is to end within a minute or so.
        seed: of data and ties.
        data: folder of real data sets, if one was named.
        parameters: an instance of the suite's ``parameters``.
        folder: for files that pass between processes; gone after the suite.
        listener: is told what happens.
        repeats: asked for instead of each step's own number.
    """

    suite: str
    quick: bool
    seed: int
    data: Path | None
    parameters: Any
    folder: Path
    listener: Listener
    repeats: int | None = None
    _peers: dict[str, Peer | None] = dataclasses.field(default_factory=dict)

    def interleave(self, case: str, unit: Unit, systems: Sequence[Case], *, repeats: int) -> Iterator[Run]:
        """Run the systems of a case in turn; see ``harness.interleave``."""
        return interleave(
            self.suite, case, unit, systems, repeats=self.repeats or repeats, seed=self.seed, watch=self.listener
        )

    def skip(self, what: str, why: str) -> None:
        """Say that something is not measured."""
        self.listener.skipped(what, why)

    def peer(self, folder: str) -> Peer | None:
        """Return a peer, started on first use and again if it has ended; None if it is missing, which is said once."""
        peer = self._peers.get(folder)
        if folder in self._peers and (peer is None or peer.is_running):
            return peer
        (info,) = (info for info in peer_infos() if info.folder == folder)
        try:
            self._peers[folder] = open_peer(info)
        except PeerMissingError as error:
            self._peers[folder] = None
            self.skip(info.name, str(error))
        return self._peers[folder]

    def close(self) -> None:
        """End all peers."""
        for peer in self._peers.values():
            if peer is not None:
                peer.close()


def get_suite(name: str) -> Suite:
    """Return a suite by its name.

    Raises:
        UnknownSuiteError: there is none.
    """
    if name not in SUITES:
        raise UnknownSuiteError(f"unknown suite {name!r}; expected one of: {', '.join(SUITES)}")
    suite: Suite = importlib.import_module(SUITES[name]).SUITE
    return suite


def at_least(name: str, measured: float, target: float, shown: Callable[[float], str], note: str = "") -> Verdict:
    """Return whether a measured value reaches its target."""
    state: Literal["met", "missed"] = "met" if measured >= target else "missed"
    return Verdict(name, f">= {shown(target)}", shown(measured), state, note)


def at_most(name: str, measured: float, target: float, shown: Callable[[float], str], note: str = "") -> Verdict:
    """Return whether a measured value stays within its target."""
    state: Literal["met", "missed"] = "met" if measured <= target else "missed"
    return Verdict(name, f"<= {shown(target)}", shown(measured), state, note)


def not_measured(name: str, target: str, why: str) -> Verdict:
    """Return a line of the table for a target of which nothing is known; ``target`` as it is worded."""
    return Verdict(name, target, "", "not measured", why)
