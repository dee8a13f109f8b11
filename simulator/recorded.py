"""The recorded crowd: people who say again what they really said. The data that ships with the package is loaded here.

Simulated people are in ``annotators/``; what is wrong with a file of answers is said by ``formats/answers.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from voxpop.formats.answers import read_answers, read_gold
from voxpop.simulator.behaviour import arrivals
from voxpop.simulator.counter import lognormal
from voxpop.simulator.crowd import Action, Answer, CrowdError, Decline, Visit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["RecordedCrowd", "bluebirds"]

DATA: Final = Path(__file__).parent / "data"
THINK: Final = 0  # draws of ``counter``


class RecordedCrowd:
    """Everybody who answered, and their answers to the items of one job.

    The broker takes one answer of a worker to an item. Of several recorded ones **the last counts**, as with
    ``Votes.from_columns(repeats="last")``; ``repeated`` tells how many were left out for that.

    Attributes:
        items: the recorded name of each item of the job, by its index.
        workers: everybody who answered one of the items, in order of first appearance.
        categories: every label that is recorded for the items, sorted.
        gold: known labels by name of the item; those that are not in the job are left out.
        repeated: answers that a later one of the same worker to the same item replaced.
        unused: answers to items that are not in the job.
        unanswered: indexes of the items that nobody answered.
    """

    def __init__(
        self,
        answers: Iterable[tuple[str, str, str]],
        items: Sequence[str] | None = None,
        *,
        gold: Mapping[str, str] | None = None,
        seed: int = 0,
        think_seconds: float = 5.0,
        think_spread: float = 0.5,
        arrive_seconds: float = 60.0,
        network: str = "127.0.0.0/8",
        k: int = 1,
    ) -> None:
        wanted = None if items is None else set(items)
        self._said: dict[str, dict[str, str]] = {}
        numbers: dict[str, int] = {}
        people: dict[str, dict[str, None]] = {}
        self.repeated = self.unused = 0
        strange = ""
        for item, worker, label in answers:
            numbers.setdefault(worker, len(numbers))
            if wanted is not None and item not in wanted:
                self.unused += 1
                strange = strange or item
                continue
            said = self._said.setdefault(worker, {})
            self.repeated += item in said
            said[item] = label
            people.setdefault(item, {})[worker] = None
        if not people:
            raise CrowdError(_nothing(items, strange))
        self.items: tuple[str, ...] = tuple(people) if items is None else tuple(items)
        self.workers: tuple[str, ...] = tuple(self._said)
        self.categories: tuple[str, ...] = tuple(
            sorted({label for said in self._said.values() for label in said.values()})
        )
        self.gold = {item: label for item, label in (gold or {}).items() if item in people or item in (wanted or ())}
        self.unanswered: tuple[int, ...] = tuple(at for at, item in enumerate(self.items) if item not in people)
        self._people = {item: tuple(who) for item, who in people.items()}
        self._numbers = numbers
        self._seed, self._think_seconds, self._think_spread = seed, think_seconds, think_spread
        self._visits = iter(
            arrivals(
                self.workers,
                seed=seed,
                arrive_seconds=arrive_seconds,
                network=network,
                k=k,
                indexes=[numbers[worker] for worker in self.workers],
            )
        )

    @classmethod
    def from_answers(cls, uri: str, items: Sequence[str] | None = None, *, gold: str = "", **pace: Any) -> Self:
        """Read a file of recorded answers (CSV or JSON Lines, plain or gzipped), and of gold labels if there is one.

        Args:
            uri: the file, with the columns ``item``, ``worker``, ``label``.
            items: the recorded name of each item of the job, by its index; by default all, in order of first
                appearance.
            gold: a file with the columns ``item``, ``label``.
            pace: the keyword parameters of the class.

        Raises:
            FormatError, StorageError: a file is wrong or cannot be read.
            CrowdError: nobody answered any of the items.
        """
        return cls(read_answers(uri), items, gold=read_gold(gold) if gold else None, **pace)

    def has(self, item: str) -> bool:
        """Return whether the job has an item of this name that somebody answered."""
        return item in self._people

    def people_of(self, item: int) -> tuple[str, ...]:
        """Return who answered the item of this index, in order of their answers: the holders of its named tickets."""
        return self._people.get(self.items[item], ())

    def next(self, now: float) -> Visit | None:
        """Everybody comes once, within ``arrive_seconds``, and stays while there is work."""
        del now
        return next(self._visits, None)

    def answer(self, worker: str, item: int) -> Action:
        """Return what the worker really said, or Decline for an item that they never answered."""
        seconds = lognormal(
            self._seed, self._numbers.get(worker, 0), item, THINK, self._think_seconds, self._think_spread
        )
        label = self._said.get(worker, {}).get(self.items[item])
        return Decline(seconds) if label is None else Answer({"label": label}, seconds)


def bluebirds(items: Sequence[str] | None = None, **pace: Any) -> RecordedCrowd:
    """Return 39 people who all answered "Indigo Bunting?" (1) or not (0) for 108 pictures, with gold labels.

    Source: Welinder, Branson, Belongie, Perona: The Multidimensional Wisdom of Crowds, NIPS 2010; see
    ``data/README.md``. The parameters are those of ``RecordedCrowd.from_answers``.
    """
    folder = DATA / "bluebirds"
    return RecordedCrowd.from_answers(str(folder / "answers.csv.gz"), items, gold=str(folder / "truth.csv.gz"), **pace)


def _nothing(items: Sequence[str] | None, strange: str) -> str:
    if not strange:
        return "there are no recorded answers; expected at least one row of item, worker, label"
    return (
        f"nobody answered any of the {len(items or ())} items of the job: answers are about {strange!r} and others, "
        f"the job's first item is {items[0] if items else None!r}; give the items the names that the answers use"
    )
