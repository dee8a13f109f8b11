"""What stands beside crowd-kit: the same votes, the same number of iterations, from columns to labels; and parity."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from benchmarks.harness import Case, Measured, SystemFailedError, voxpop_version
from benchmarks.suite import Context, Step
from benchmarks.suites.votes import cases
from benchmarks.suites.votes.data import Coded, Size, head, real_sets, simulate

from voxpop.consolidation.method import get_method, method_names
from voxpop.consolidation.votes.dawid_skene import DawidSkene
from voxpop.consolidation.votes.table import Votes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from benchmarks.harness import Run
    from numpy.typing import NDArray

__all__ = ["FOLDER", "fit_by_crowd_kit", "steps"]

FOLDER: Final = "crowd_kit"
EM_ITERATIONS: Final = 2  # of crowd-kit at 10M votes, where each takes half a minute
ALIGNED_ITERATIONS: Final = ("max_iter", "n_iter")  # what methods call their number of iterations
ALIGNED: Final = {"tol": 0.0, "restarts": 1, "n_restarts": 1}  # nobody stops earlier, nobody starts twice


class Work(NamedTuple):
    """One line of the comparison."""

    method: str
    iterations: int
    as_strings: bool = False


WORK: Final = (
    Work("majority", 1),
    Work("dawid_skene", 20),
    Work("dawid_skene", 20, as_strings=True),
    Work("one_coin", 20),
    Work("mace", 5),
    Work("glad", 1),
)
MANY_CLASSES_WORK: Final = WORK[1:3]
QUICK_WORK: Final = (
    Work("majority", 1),
    Work("dawid_skene", 5),
    Work("dawid_skene", 5, as_strings=True),
    Work("one_coin", 5),
    Work("mace", 5),
    Work("glad", 1),
)


def steps(context: Context) -> Sequence[Step]:
    """Return what there is to do beside crowd-kit."""
    scale = context.parameters.scale
    small = (cases.QUICK_SMALL if context.quick else cases.SMALL).scaled(scale)
    found = [
        Step(f"beside crowd-kit, {small.title}", lambda c: _beside(c, small, QUICK_WORK if c.quick else WORK, 3)),
        Step("parity with crowd-kit", lambda c: _parity(c, small)),
    ]
    if not context.quick:
        many, large = cases.MANY_CLASSES.scaled(scale), cases.LARGE.scaled(scale)
        found += [
            Step(f"beside crowd-kit, {many.title}", lambda c: _beside(c, many, MANY_CLASSES_WORK, 1)),
            Step(f"beside crowd-kit, {large.title}", lambda c: _em_alone(c, large)),
        ]
    return found


def _beside(context: Context, size: Size, work: Sequence[Work], repeats: int) -> Iterator[Run]:
    coded = simulate(size, context.seed)
    for one in work:
        case = cases.beside(one.method, size, as_strings=one.as_strings)
        if one.method not in method_names():
            context.skip(case, "voxpop has no such method")
            continue
        systems = [Case(cases.OURS, voxpop_version(), _from_columns(coded, one))]
        systems += _crowd_kit(context, coded, one)
        yield from context.interleave(case, "vote.iterations", systems, repeats=2 if context.quick else repeats)


def _from_columns(coded: Coded, work: Work) -> Callable[[int], Measured]:
    method = _with_iterations(work.method, work.iterations)
    method.fit(head(coded.votes()))  # compiled for so many classes

    def run(_seed: int) -> Measured:
        columns: Any = coded.strings() if work.as_strings else coded._asdict()  # new strings: none has its hash yet
        since = time.perf_counter()
        result = method.fit(Votes.from_columns(columns["item"], columns["worker"], columns["label"]))
        labels = result.labels
        seconds = time.perf_counter() - since
        done = result.n_iter or 1
        return Measured(seconds, coded.size.votes * done, {"iterations": done, "n_labels": int(labels.size)})

    return run


def _with_iterations(name: str, iterations: int) -> Any:
    """Return a method that does so many iterations and one start, by the parameters that it has."""
    known = {field.name for field in dataclasses.fields(type(get_method(name)))}  # type: ignore[arg-type]
    wanted: dict[str, Any] = {**dict.fromkeys(ALIGNED_ITERATIONS, iterations), **ALIGNED}
    return get_method(name, **{key: value for key, value in wanted.items() if key in known})


def _crowd_kit(context: Context, coded: Coded, work: Work, *, em_alone: bool = False) -> list[Case]:
    """Return crowd-kit as a system; nothing if it is missing."""
    peer = context.peer(FOLDER)
    if peer is None:
        return []
    path = context.folder / f"{coded.size.votes}.npz"
    if not path.exists():
        coded.save(path)

    def run(_seed: int) -> Measured:
        measured = fit_by_crowd_kit(context, path, work)
        extra = {"iterations": work.iterations, **measured.extra}
        if em_alone:
            return Measured(measured.extra["em_seconds"], measured.n, extra, measured.peak_rss_bytes)
        return Measured(measured.seconds, measured.n, extra, measured.peak_rss_bytes)

    return [Case(cases.CROWD_KIT, peer.versions["crowd-kit"], run, versions=peer.versions)]


def fit_by_crowd_kit(
    context: Context,
    votes: Path,
    work: Work,
    out: Path | None = None,
    *,
    defaults: bool = False,
    limit_seconds: float = 3_600.0,
) -> Measured:
    """Have crowd-kit fit a saved table; with ``defaults`` by its own number of iterations.

    Raises:
        SystemFailedError: it is missing, or it failed.
    """
    peer = context.peer(FOLDER)
    if peer is None:
        raise SystemFailedError("crowd-kit is not installed")
    options = {
        "votes": str(votes),
        "method": work.method,
        "iterations": None if defaults else work.iterations,
        "as_strings": work.as_strings,
        "out": None if out is None else str(out),
    }
    return peer.call("fit", options, limit_seconds=limit_seconds)


def _em_alone(context: Context, size: Size) -> Iterator[Run]:
    """Ours: 20 iterations on a table that is there, labels included. crowd-kit's: its loop alone, 2 iterations."""
    coded = simulate(size, context.seed)
    votes = coded.votes()
    method = DawidSkene(max_iter=cases.ITERATIONS, tol=0, threads=cases.THREADS)
    method.fit(head(votes))

    def run(_seed: int) -> Measured:
        since = time.perf_counter()
        method.fit(votes)
        return Measured(time.perf_counter() - since, size.votes * cases.ITERATIONS, {"iterations": cases.ITERATIONS})

    systems = [Case(cases.OURS, voxpop_version(), run)]
    systems += _crowd_kit(context, coded, Work("dawid_skene", EM_ITERATIONS), em_alone=True)
    yield from context.interleave(cases.em_alone(size), "vote.iterations", systems, repeats=1)


def _parity(context: Context, size: Size) -> Iterator[Run]:
    """The largest difference of any posterior after as many iterations, on simulated votes and on real ones."""
    if context.peer(FOLDER) is None:
        return
    coded = simulate(size, context.seed)
    tables = [(size.title, coded.votes(), coded.save(context.folder / "parity.npz"))]
    tables += [(one.name, one.votes, one.save(context.folder / f"parity-{one.name}.npz")) for one in real_sets(None)]
    for title, votes, path in tables:
        yield from _parity_on(context, title, votes, path)


def _parity_on(context: Context, title: str, votes: Votes, path: Path) -> Iterator[Run]:
    peer = context.peer(FOLDER)
    assert peer is not None
    out = path.with_name("parity-out.npz")
    expected: dict[str, NDArray[Any]] = {}

    def theirs(_seed: int) -> Measured:
        measured = fit_by_crowd_kit(context, path, Work("dawid_skene", cases.PARITY_ITERATIONS), out)
        with np.load(out) as file:
            expected.update(file)
        return measured

    def ours(dtype: Any) -> Callable[[int], Measured]:
        def run(_seed: int) -> Measured:
            if not expected:
                raise SystemFailedError("there is nothing to compare with")
            method = DawidSkene(max_iter=cases.PARITY_ITERATIONS, tol=0, smoothing=0, dtype=dtype)
            since = time.perf_counter()
            result = method.fit(votes)
            seconds = time.perf_counter() - since
            rows = _places(expected["items"], result.items)
            columns = _places(expected["classes"], result.classes)
            apart = np.abs(result.posterior[rows][:, columns].astype(np.float64) - expected["posterior"])
            extra = {
                "largest_difference": float(apart.max()),
                "items_apart": int((apart.max(axis=1) > 1e-8).sum()),
                "items": int(apart.shape[0]),
            }
            return Measured(seconds, votes.n_votes * cases.PARITY_ITERATIONS, extra)

        return run

    systems = [
        Case(cases.CROWD_KIT, peer.versions["crowd-kit"], theirs, versions=peer.versions),
        Case(cases.OURS, voxpop_version(), ours("float64")),
        Case(cases.FLOAT32, voxpop_version(), ours("float32")),
    ]
    yield from context.interleave(cases.parity(title), "vote.iterations", systems, repeats=1)


def _places(names: NDArray[Any], among: NDArray[Any]) -> NDArray[np.int64]:
    place = {name: i for i, name in enumerate(among.tolist())}
    return np.array([place[name] for name in names.tolist()], np.int64)
