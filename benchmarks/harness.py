"""The benchmark harness: raw runs as JSON lines with fixed fields; tables are made from them, never by hand.

A benchmark is a function that does one run and returns what it measured. The harness repeats the systems that are
compared in turn (A B A B ...), because wall times swing with what else the machine does; what counts are medians
and ratios inside one run. Plots, peers and comparisons of versions stand on the same records.
"""

from __future__ import annotations

import os
import platform
import resource
import statistics
import sys
import time
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = [
    "Case",
    "Machine",
    "Measured",
    "RawRunError",
    "Row",
    "Run",
    "interleave",
    "machine_facts",
    "peak_rss_bytes",
    "read_runs",
    "render",
    "summarise",
    "voxpop_version",
    "write_runs",
]

Unit = Literal["items", "answers", "votes", "boxes", "masks", "spans", "calls", "events"]


class RawRunError(ValueError):
    """A line of a file of raw runs cannot be read: names the file and the line."""


class Machine(msgspec.Struct, frozen=True):
    """Where a run took place."""

    cpu: str
    cpus: int  # that the process may use
    memory_bytes: int
    system: str
    python: str


class Measured(msgspec.Struct, frozen=True):
    """What one call of a benchmark measured."""

    seconds: float
    n: int  # how many units were done in that time
    extra: dict[str, Any] = {}


class Run(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One raw run: one line of the file. Fields are only ever added at the end, with a default."""

    suite: str
    case: str
    system: str  # "voxpop", or the peer's name
    version: str
    seed: int
    repeat: int  # from 0
    n: int
    unit: Unit
    seconds: float
    peak_rss_bytes: int  # of the process that measured, since it started
    started_at: str  # ISO 8601, UTC
    machine: Machine
    extra: dict[str, Any] = {}

    @property
    def rate(self) -> float:
        """Units a second."""
        return self.n / self.seconds


class Case(msgspec.Struct, frozen=True):
    """One system under comparison: how to run it once with a seed."""

    system: str
    version: str
    run: Callable[[int], Measured]


class Row(msgspec.Struct, frozen=True):
    """One system in one case, over its repeats."""

    suite: str
    case: str
    system: str
    version: str
    repeats: int
    unit: str
    median_rate: float  # units a second
    low_rate: float
    high_rate: float
    ratio: float  # median over the repeats of this system's rate over the baseline's in the same repeat
    peak_rss_bytes: int  # the highest


def voxpop_version() -> str:
    """Return the version of voxpop that is measured."""
    return version("voxpop")


def machine_facts() -> Machine:
    """Return the facts of this machine that a reader of the figures needs."""
    return Machine(
        cpu=_cpu_model(),
        cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
    )


def _cpu_model() -> str:
    facts = Path("/proc/cpuinfo")
    for line in facts.read_text(encoding="utf-8").splitlines() if facts.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def peak_rss_bytes() -> int:
    """Return the highest resident memory of this process since it started."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def interleave(
    suite: str, case: str, unit: Unit, systems: Sequence[Case], *, repeats: int, seed: int = 0
) -> Iterator[Run]:
    """Run each system once, then each again, ``repeats`` times; repeat *r* of all of them has the seed ``seed + r``.

    Yields:
        Each run as soon as it is over, so that what was measured is kept if a later one fails.
    """
    machine = machine_facts()
    for repeat in range(repeats):
        for system in systems:
            started_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            measured = system.run(seed + repeat)
            yield Run(
                suite=suite,
                case=case,
                system=system.system,
                version=system.version,
                seed=seed + repeat,
                repeat=repeat,
                n=measured.n,
                unit=unit,
                seconds=measured.seconds,
                peak_rss_bytes=peak_rss_bytes(),
                started_at=started_at,
                machine=machine,
                extra=measured.extra,
            )


def write_runs(path: Path, runs: Iterable[Run]) -> int:
    """Append runs to a file, each as one JSON line, written as it comes; returns how many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with path.open("ab") as file:
        for run in runs:
            file.write(msgspec.json.encode(run) + b"\n")
            file.flush()
            count += 1
    return count


def read_runs(path: Path) -> list[Run]:
    """Return the runs of a file.

    Raises:
        RawRunError: a line is no raw run; the message names the line and the field.
    """
    runs = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                runs.append(msgspec.json.decode(line, type=Run))
            except msgspec.DecodeError as error:
                raise RawRunError(f"{path} line {number} is not a raw run: {error}; delete the line") from None
    return runs


def summarise(runs: Iterable[Run], baseline: str = "voxpop") -> list[Row]:
    """Return one row a system and case: medians, and ratios to ``baseline`` repeat by repeat (nan without one)."""
    groups: dict[tuple[str, str], dict[tuple[str, str], list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        groups[run.suite, run.case][run.system, run.version].append(run)
    rows = []
    for (suite, case), systems in groups.items():
        base = {run.repeat: run.rate for (system, _), of in systems.items() if system == baseline for run in of}
        for (system, number), of in systems.items():
            rates = [run.rate for run in of]
            ratios = [run.rate / base[run.repeat] for run in of if run.repeat in base]
            rows.append(
                Row(
                    suite,
                    case,
                    system,
                    number,
                    len(of),
                    of[0].unit,
                    statistics.median(rates),
                    min(rates),
                    max(rates),
                    statistics.median(ratios) if ratios else float("nan"),
                    max(run.peak_rss_bytes for run in of),
                )
            )
    return rows


def render(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| suite | case | system | repeats | median | lowest to highest | ratio | peak memory |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.suite} | {row.case} | {row.system} {row.version} | {row.repeats} "
        f"| {row.median_rate:,.4g} {row.unit}/s | {row.low_rate:,.4g} to {row.high_rate:,.4g} "
        f"| {row.ratio:.3g} | {row.peak_rss_bytes / 2**20:,.0f} MiB |"
        for row in rows
    ]
    return "\n".join(lines)
