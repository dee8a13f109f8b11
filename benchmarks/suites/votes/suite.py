"""The suite ``votes``: what is promised of votes on categories, measured beside crowd-kit in the same run.

Here the steps on speed, memory and streams. What stands beside crowd-kit is in ``crowd.py``, accuracy in
``accuracy.py``; ``targets.py``, ``tables.py`` and ``pictures.py`` show what came of it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import numpy as np
from benchmarks.harness import Case, Measured, voxpop_version
from benchmarks.peer import Peer
from benchmarks.suite import Context, Step, Suite
from benchmarks.suites.votes import accuracy, cases, crowd, pictures, tables, targets
from benchmarks.suites.votes.data import Coded, Size, head, simulate
from benchmarks.yardsticks import yardsticks

from voxpop.consolidation.votes.dawid_skene import DawidSkene
from voxpop.consolidation.votes.table import Votes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.harness import Run
    from numpy.typing import NDArray

__all__ = ["SUITE", "Parameters"]

FRESH: Final = Path(__file__).with_name("fresh.py")
BATCH_VOTES: Final = 1_000
STREAM_REPEATS: Final = 20
QUICK_FIRST_USES: Final = ("majority", "dawid_skene", "auto")
BYTES_A_VOTE: Final = 80  # what labeling a huge table may take, generously


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What can be set for this suite."""

    scale: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0  # of all simulated tables; targets need 1


def steps(context: Context) -> Sequence[Step]:
    """Return what there is to do."""
    scale = context.parameters.scale
    quick = context.quick
    large = (cases.QUICK_LARGE if quick else cases.LARGE).scaled(scale)
    many = (cases.QUICK_MANY_CLASSES if quick else cases.MANY_CLASSES).scaled(scale)
    found = [
        Step(f"Dawid-Skene, {large.title}", lambda c: _speed(c, large)),
        Step(f"Dawid-Skene, {many.title}", lambda c: _speed(c, many)),
        Step(
            f"votes to labels, {large.title}", lambda c: _fresh(c, "labels_from_codes", cases.from_codes(large), large)
        ),
        Step(
            f"strings to labels, {large.title}",
            lambda c: _fresh(c, "labels_from_strings", cases.from_strings(large), large),
        ),
        Step(f"stream, {large.title}", lambda c: _stream(c, large)),
        *crowd.steps(context),
        Step("first use", _first_use),
        *accuracy.steps(context),
    ]
    if not quick:
        huge = cases.HUGE.scaled(scale)
        found.append(Step(f"votes to labels, {huge.title}", lambda c: _huge(c, huge)))
    return found


def _speed(context: Context, size: Size) -> Iterator[Run]:
    """Iterations on a table that is there, on 2 threads and on one, beside what the machine can do."""
    votes = simulate(size, context.seed).votes()
    systems = [
        Case(cases.OURS, voxpop_version(), _fit(votes, cases.THREADS), "vote.iterations"),
        Case(cases.OURS_ON_ONE, voxpop_version(), _fit(votes, 1), "vote.iterations"),
        *yardsticks(cases.THREADS, (0.25 if context.quick else 1.0) * context.parameters.scale),
    ]
    yield from context.interleave(cases.speed(size), "vote.iterations", systems, repeats=3 if context.quick else 7)


def _fit(votes: Votes, threads: int) -> Callable[[int], Measured]:
    method = DawidSkene(max_iter=cases.ITERATIONS, tol=0, threads=threads)
    method.fit(head(votes))  # compiled for so many classes

    def run(_seed: int) -> Measured:
        since = time.perf_counter()
        result = method.fit(votes)
        seconds = time.perf_counter() - since
        assert result.confusion is not None
        parts: tuple[NDArray[Any], ...] = (result.label_codes, result.posterior, result.confusion)
        digest = hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()
        return Measured(seconds, votes.n_votes * cases.ITERATIONS, {"threads": threads, "sha256": digest})

    return run


def _fresh(context: Context, task: str, case: str, size: Size, repeats: int = 3) -> Iterator[Run]:
    """One task in a fresh process each time: its peak memory is that task's."""
    votes = simulate(size, context.seed).save(context.folder / f"{size.votes}.npz")

    def run(_seed: int) -> Measured:
        with Peer.fresh(FRESH) as process:
            return process.call(task, {"votes": str(votes), "size": list(size)})

    system = Case(cases.OURS, voxpop_version(), run)
    yield from context.interleave(case, "votes", [system], repeats=1 if context.quick else repeats)
    votes.unlink()


def _huge(context: Context, size: Size) -> Iterator[Run]:
    available = _available_bytes()
    if available < size.votes * BYTES_A_VOTE:
        context.skip(
            f"{size.title}",
            f"{available / 1e9:.0f} GB of memory are free, {size.votes * BYTES_A_VOTE / 1e9:.0f} wanted",
        )
        return
    yield from _fresh(context, "labels_from_codes", cases.from_codes(size), size, repeats=1)


def _available_bytes() -> int:
    facts = Path("/proc/meminfo")
    for line in facts.read_text(encoding="ascii").splitlines() if facts.exists() else ():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _stream(context: Context, size: Size) -> Iterator[Run]:
    """Batches of 1,000 votes that were held back: added, and the labels of their items asked for."""
    repeats = context.repeats or STREAM_REPEATS
    if size.votes < 4 * BATCH_VOTES * (repeats + 1):
        context.skip(cases.stream(size), f"{repeats + 1} batches of {BATCH_VOTES} are too many to hold back")
        return
    batches = _hold_back(simulate(size, context.seed), repeats + 1, context.seed)
    state = DawidSkene().state()
    state.add(next(batches))
    state.refit()

    def refit(_seed: int) -> Measured:
        since = time.perf_counter()
        state.add(next(batches))
        added = time.perf_counter() - since  # the first one makes the log's arrays grow
        before = state.posterior()
        since = time.perf_counter()
        after = state.refit()
        seconds = time.perf_counter() - since
        share = float(np.mean(before.labels == after.labels))
        return Measured(seconds, state.n_votes, {"share_equal": share, "add_seconds": added})

    def add(_seed: int) -> Measured:
        votes = next(batches)
        since = time.perf_counter()
        state.add(votes)
        added = time.perf_counter()
        state.posterior(votes.items)
        asked = time.perf_counter()
        return Measured(added - since, votes.n_votes, {"label_seconds": asked - added, "n_labels": votes.n_items})

    once = dataclasses.replace(context, repeats=1)
    yield from once.interleave(
        cases.stream_refit(size), "votes", [Case(cases.OURS, voxpop_version(), refit)], repeats=1
    )
    yield from context.interleave(
        cases.stream(size), "votes", [Case(cases.OURS, voxpop_version(), add)], repeats=repeats
    )


def _hold_back(coded: Coded, count: int, seed: int) -> Iterator[Votes]:
    """Yield all votes but ``count`` batches, and then those: half on items that are there, half on new ones."""
    half = BATCH_VOTES // 2
    new = np.arange(coded.item.size - count * half, coded.item.size)
    old = np.random.default_rng(seed).choice(new[0], count * half, replace=False)
    late = np.zeros(coded.item.size, bool)
    late[new] = late[old] = True
    for rows in (np.flatnonzero(~late), *np.hstack([new.reshape(count, half), old.reshape(count, half)])):
        yield Votes.from_columns(
            coded.item[rows], coded.worker[rows], coded.label[rows], classes=range(coded.size.classes)
        )


def _first_use(context: Context) -> Iterator[Run]:
    """Each method for the first time on a machine, compiled there, and then once more in another process."""
    names = [name for name in accuracy.category_methods(context) if not context.quick or name in QUICK_FIRST_USES]
    for name in names:
        folder = context.folder / f"cache-{name}"

        # The first of the two finds an empty cache and fills it, the second one uses it.
        run = functools.partial(_use, name, folder)
        systems = [Case(system, voxpop_version(), run) for system in (cases.FRESH_MACHINE, cases.CACHED)]
        yield from context.interleave(cases.first_use(name), "calls", systems, repeats=1 if context.quick else 3)


def _use(method: str, cache: Path, seed: int) -> Measured:
    with Peer.fresh(FRESH, {"NUMBA_CACHE_DIR": str(cache / str(seed))}) as process:
        return process.call("first_use", {"method": method})


SUITE: Final = Suite(
    name="votes",
    about="votes on categories: speed, memory, streams and accuracy, beside crowd-kit",
    steps=steps,
    verdicts=targets.verdicts,
    parameters=Parameters,
    tables=tables.tables,
    pictures=pictures.pictures,
    has_own_table=tables.has_own_table,
)
