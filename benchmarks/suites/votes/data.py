"""The votes that the suite works on: simulated tables of stated sizes, and real sets with gold. Measures nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import numpy as np
from benchmarks.harness import ROOT

from voxpop.consolidation.votes.table import Votes
from voxpop.formats.answers import read_gold, read_votes

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["CARRIED", "Coded", "RealSet", "Size", "head", "real_sets", "simulate"]

VOTES_AN_ITEM: Final = 5
CHUNK: Final = 1_000_000  # items drawn at once, which bounds the memory that drawing takes
CARRIED: Final = (ROOT / "simulator" / "data", ROOT / "tests" / "data" / "votes")  # sets in the repository


class Size(NamedTuple):
    """How large a simulated table is."""

    votes: int
    workers: int
    classes: int

    @property
    def items(self) -> int:
        return self.votes // VOTES_AN_ITEM

    @property
    def title(self) -> str:
        """As cases name it: ``10M votes, 4 classes``."""
        for unit, name in ((1_000_000, "M"), (1_000, "k")):
            if self.votes >= unit:
                return f"{self.votes / unit:.3g}{name} votes, {self.classes} classes"
        return f"{self.votes} votes, {self.classes} classes"

    def scaled(self, scale: float) -> Self:
        """Return a size that is smaller in votes and workers."""
        return self._replace(
            votes=max(VOTES_AN_ITEM * 20, round(self.votes * scale / VOTES_AN_ITEM) * VOTES_AN_ITEM),
            workers=max(2 * VOTES_AN_ITEM, round(self.workers * scale)),
        )


class Coded(NamedTuple):
    """Votes whose items, workers and labels are numbers from 0, as a program has them that interns names on arrival."""

    item: NDArray[np.int32]
    worker: NDArray[np.int32]
    label: NDArray[np.int16]
    size: Size

    def votes(self) -> Votes:
        """Return the table."""
        items, workers, classes = (range(n) for n in (self.size.items, self.size.workers, self.size.classes))
        return Votes.from_coded(self.item, self.worker, self.label, items=items, workers=workers, classes=classes)

    def strings(self) -> dict[str, list[str]]:
        """Return columns with a string object for each cell, as a reader of a file makes them."""
        columns: dict[str, NDArray[Any]] = {"item": self.item, "worker": self.worker, "label": self.label}
        return {name: [f"{name}{code}" for code in column.tolist()] for name, column in columns.items()}

    def save(self, path: Path) -> Path:
        """Write the three columns as an .npz file, for another process."""
        np.savez(path, item=self.item, worker=self.worker, label=self.label)
        return path


def simulate(size: Size, seed: int) -> Coded:
    """Draw votes: each item is labeled by 5 different workers; workers differ in how well they know each class.

    A worker's accuracy on a class is drawn from Beta(6, 3), at most .97; wrong answers are spread evenly over the other
    classes. Classes are equally frequent.
    """
    rng = np.random.default_rng(seed)
    skill = np.minimum(rng.beta(6, 3, (size.workers, size.classes)), 0.97).astype(np.float32)
    n = size.items * VOTES_AN_ITEM
    item, worker, label = np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n, np.int16)
    for start in range(0, size.items, CHUNK):
        items = np.arange(start, min(start + CHUNK, size.items), dtype=np.int32)
        rows = slice(start * VOTES_AN_ITEM, (start + items.size) * VOTES_AN_ITEM)
        first = rng.integers(size.workers, size=(items.size, 1))
        stride = rng.integers(1, size.workers // VOTES_AN_ITEM + 1, size=(items.size, 1))
        chosen = ((first + stride * np.arange(VOTES_AN_ITEM)) % size.workers).ravel()
        truth = np.repeat(rng.integers(size.classes, size=items.size), VOTES_AN_ITEM)
        wrong = rng.random(chosen.size, dtype=np.float32) >= skill[chosen, truth]
        shift = rng.integers(1, max(size.classes, 2), size=chosen.size)
        item[rows] = np.repeat(items, VOTES_AN_ITEM)
        worker[rows] = chosen
        label[rows] = (truth + wrong * shift) % size.classes
    return Coded(item, worker, label, Size(n, size.workers, size.classes))


def head(votes: Votes, n_items: int = 20) -> Votes:
    """Return the votes on the first items, with all workers and classes: what a method is compiled and warmed up by."""
    few = votes.item_of_vote < n_items
    return Votes.from_coded(
        votes.item_of_vote[few],
        votes.worker_of_vote[few],
        votes.label_of_vote[few],
        items=votes.items[:n_items].tolist(),
        workers=votes.workers.tolist(),
        classes=votes.classes.tolist(),
    )


class RealSet(NamedTuple):
    """What real people said, and what is known to be right."""

    name: str
    votes: Votes
    gold: dict[str, str]

    def save(self, path: Path) -> Path:
        """Write the votes as columns of text, for another process."""
        votes = self.votes
        columns: dict[str, Any] = {
            "item": votes.items[votes.item_of_vote],
            "worker": votes.workers[votes.worker_of_vote],
            "label": votes.classes[votes.label_of_vote],
        }
        np.savez(path, allow_pickle=False, **{name: column.astype(str) for name, column in columns.items()})
        return path


def real_sets(data: Path | None) -> list[RealSet]:
    """Return the sets with gold in a folder, or else those that the repository carries.

    Args:
        data: has a folder a set, itself or in ``votes``, with ``answers.csv.gz`` and ``truth.csv.gz``.

    Raises:
        FileNotFoundError: there are none.
    """
    roots = CARRIED if data is None else (data / "votes" if (data / "votes").is_dir() else data,)
    found = []
    for root in roots:
        for answers in sorted(root.glob("*/answers.csv.gz")):
            truth = answers.with_name("truth.csv.gz")
            if truth.exists() and _has_rows(truth):
                found.append(RealSet(answers.parent.name, read_votes(str(answers)), read_gold(str(truth))))
    if not found:
        raise FileNotFoundError(
            f"{data}: no sets of votes; expected folders with answers.csv.gz and truth.csv.gz, here or in votes/"
        )
    return sorted(found, key=lambda one: one.name)


def _has_rows(truth: Path) -> bool:
    import gzip

    with gzip.open(truth, "rt", encoding="utf-8") as file:
        return sum(1 for line in file if line.strip()) > 1
