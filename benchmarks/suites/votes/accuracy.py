"""How right the labels are, and their confidences: every method that is registered, on real votes with gold.

A run's ``extra`` has the scores, and ``right``: one bit for each item with gold, in the order of the item names, so
that two methods can be compared item by item from the raw runs.
"""

from __future__ import annotations

import inspect
import sys
import time
from collections import defaultdict
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from benchmarks.harness import ROOT, Case, Measured, SystemFailedError, voxpop_version
from benchmarks.suite import Context, Step
from benchmarks.suites.votes import cases, crowd
from benchmarks.suites.votes.data import RealSet, head, real_sets

from voxpop.consolidation.calibration import accuracy, brier, ece, log_loss
from voxpop.consolidation.method import ENTRY_POINTS, get_method
from voxpop.consolidation.votes.result import VoteResult
from voxpop.formats.answers import read_votes
from voxpop.formats.rows import read_csv

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from benchmarks.harness import Run
    from numpy.typing import NDArray

__all__ = ["Scores", "category_methods", "half_width", "scores_of", "steps"]

PEER_METHODS: Final = ("majority", "dawid_skene", "one_coin", "mace", "glad")
QUICK_PEER_METHODS: Final = ("majority", "dawid_skene")
PEER_LIMIT_SECONDS: Final = 300.0
BIRDS_FILES: Final = ("answers.csv.gz", "output.csv.gz")
CARRIED_BIRDS: Final = ROOT / "tests" / "data" / "ground_truth" / "birds"
RESAMPLES: Final = 2_000
GROUND_TRUTH: Final = "ground_truth"


def category_methods(context: Context) -> list[str]:
    """Return the names of all registered methods whose ``fit`` turns ``Votes`` into a ``VoteResult``, sorted.

    Methods for other things than categories stand in the same registry; what ``fit`` says it takes tells them apart.
    """
    names = set()
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            loaded = entry.load()
            signature = inspect.signature(loaded.fit)
        except (ImportError, AttributeError, SyntaxError) as error:
            context.skip(entry.name, f"{entry.value} cannot be loaded: {error}")
            continue
        *_, taken = signature.parameters.values()
        if _name(taken.annotation) == "Votes" and _is_vote_result(signature.return_annotation, loaded.__module__):
            names.add(entry.name)
    return sorted(names)


def _name(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")


def _is_vote_result(annotation: Any, module: str) -> bool:
    """Annotations are text, and their types are often imported for type checkers only; subclasses are never."""
    name = _name(annotation)
    kind = getattr(sys.modules[module], name, None)
    return name == VoteResult.__name__ or (isinstance(kind, type) and issubclass(kind, VoteResult))


def steps(_context: Context) -> Sequence[Step]:
    """Return what there is to do."""
    return [Step("accuracy", _accuracy), Step("Ground Truth's own labels", _birds)]


def _accuracy(context: Context) -> Iterator[Run]:
    names = category_methods(context)
    theirs = QUICK_PEER_METHODS if context.quick else PEER_METHODS
    peer = context.peer(crowd.FOLDER)
    for one in real_sets(context.data):
        path = one.save(context.folder / f"{one.name}.npz")
        systems = [Case(f"{cases.OURS} {name}", voxpop_version(), _ours(one, name)) for name in names]
        if peer is not None:
            systems += [
                Case(
                    f"{cases.CROWD_KIT} {name}",
                    peer.versions["crowd-kit"],
                    _theirs(context, one, path, name),
                    versions=peer.versions,
                )
                for name in theirs
            ]
        yield from context.interleave(cases.ACCURACY_PREFIX + one.name, "votes", systems, repeats=1)


def _ours(one: RealSet, name: str) -> Callable[[int], Measured]:
    def run(_seed: int) -> Measured:
        method: Any = get_method(name)
        try:
            method.fit(head(one.votes))  # compiled for so many classes
            since = time.perf_counter()
            result = method.fit(one.votes)
        except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:  # a set may be none of its business
            raise SystemFailedError(f"{name}: {error}") from None
        seconds = time.perf_counter() - since
        posterior, labels = np.asarray(result.posterior, np.float64), result.label_codes
        return Measured(seconds, one.votes.n_votes, _scores(one, result.items, result.classes, labels, posterior))

    return run


def _theirs(context: Context, one: RealSet, path: Path, name: str) -> Callable[[int], Measured]:
    def run(_seed: int) -> Measured:
        out = path.with_name("accuracy-out.npz")
        work = crowd.Work(name, 1)
        measured = crowd.fit_by_crowd_kit(context, path, work, out, defaults=True, limit_seconds=PEER_LIMIT_SECONDS)
        with np.load(out) as file:
            items, classes, posterior, labels = (file[key] for key in ("items", "classes", "posterior", "labels"))
        codes = np.searchsorted(classes, labels)  # ties are its own to break
        return Measured(
            measured.seconds, one.votes.n_votes, _scores(one, items, classes, codes, posterior), measured.peak_rss_bytes
        )

    return run


def _scores(
    one: RealSet, items: NDArray[Any], classes: NDArray[Any], labels: NDArray[Any], posterior: NDArray[Any]
) -> dict[str, Any]:
    place = {str(name): i for i, name in enumerate(classes.tolist())}
    row = {str(name): i for i, name in enumerate(items.tolist())}
    known = sorted(name for name in one.gold if name in row)
    rows = np.array([row[name] for name in known], np.int64)
    truth = np.array([place.get(one.gold[name], len(place)) for name in known], np.int64)
    chosen = labels[rows]
    right = chosen == truth
    # crowd-kit's sums miss 1 by what it clips; a probability above 1 by rounding is none
    confidence = np.clip(posterior[rows, chosen], 0.0, 1.0)
    return {
        "n_gold": len(known),
        "accuracy": accuracy(chosen, truth),
        "ece": ece(confidence, right),
        "brier": brier(posterior[rows], truth),
        "log_loss": log_loss(posterior[rows], truth),
        "right": np.packbits(right).tobytes().hex(),
    }


def _birds(context: Context) -> Iterator[Run]:
    """The service's published example: its own labels and confidences beside those of its method."""
    folders = [CARRIED_BIRDS]
    if context.data is not None:
        folders = [context.data / "ground_truth" / "birds", context.data.parent / "ground_truth" / "birds", *folders]
    folder = next((one for one in folders if all((one / name).exists() for name in BIRDS_FILES)), None)
    if folder is None:
        context.skip(cases.BIRDS, "name a folder with ground_truth/birds by --data")
        return
    if GROUND_TRUTH not in category_methods(context):
        context.skip(cases.BIRDS, f"no method {GROUND_TRUTH} is registered")
        return
    votes = read_votes(str(folder / BIRDS_FILES[0]))
    expected = _published(folder / BIRDS_FILES[1])

    def run(_seed: int) -> Measured:
        method: Any = get_method(GROUND_TRUTH)
        since = time.perf_counter()
        result = method.fit(votes)
        seconds = time.perf_counter() - since
        found = zip(result.items.tolist(), result.labels.tolist(), result.confidence.tolist(), strict=True)
        same = [
            (label == expected[item][0], abs(round(value, 2) - expected[item][1]) < 1e-9)
            for item, label, value in found
        ]
        extra = {
            "items": len(same),
            "same_labels": sum(label for label, _ in same),
            "same_confidences": sum(value for _, value in same),
        }
        return Measured(seconds, votes.n_votes, extra)

    yield from context.interleave(cases.BIRDS, "votes", [Case(cases.OURS, voxpop_version(), run)], repeats=1)


def _published(path: Path) -> dict[str, tuple[str, float]]:
    rows = read_csv(str(path))
    _, head = next(rows)
    item, label, confidence = (head.index(name) for name in ("item", "class_name", "confidence"))
    return {cells[item]: (cells[label], float(cells[confidence])) for _, cells in rows}


class Scores(NamedTuple):
    """What raw runs say of accuracy: for each system, its run on each set."""

    sets: list[str]
    by_system: dict[str, dict[str, Run]]

    def mean(self, system: str, score: str, among: Sequence[str]) -> float | None:
        """Return the mean of a score over the sets ``among``; None unless the system has a run on each."""
        runs = self.by_system.get(system, {})
        if not among or any(name not in runs for name in among):
            return None
        return float(np.mean([runs[name].extra[score] for name in among]))


def scores_of(runs: Sequence[Run]) -> Scores:
    """Return the scores in raw runs; of several repeats the last."""
    by_system: dict[str, dict[str, Run]] = defaultdict(dict)
    sets: dict[str, None] = {}
    for run in runs:
        if run.case.startswith(cases.ACCURACY_PREFIX):
            name = run.case.removeprefix(cases.ACCURACY_PREFIX)
            sets[name] = None
            by_system[run.system][name] = run
    return Scores(list(sets), dict(by_system))


def half_width(a: Run, b: Run) -> float:
    """Return half the width of the 95 % interval of the difference in accuracy, from a paired bootstrap over items."""
    difference = _right(a) - _right(b)
    drawn = np.random.default_rng(0).integers(difference.size, size=(RESAMPLES, difference.size))
    low, high = np.quantile(difference[drawn].mean(axis=1), (0.025, 0.975))
    return float(high - low) / 2


def _right(run: Run) -> NDArray[np.float64]:
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(run.extra["right"]), np.uint8), count=run.extra["n_gold"])
    return bits.astype(np.float64)
