"""Two files of raw runs against each other: what got slower by more than noise.

The rule: a system's case got slower if both files have at least three repeats of it, every new repeat is slower than
every old one, and the medians are more than 5 % apart; faster the other way round. Wall times on a busy machine drift
for minutes, which repeats of one sitting do not show: where a case has a yardstick or a peer that is the same in both
files, what is compared is the rate relative to it in the same repeat.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from typing import TYPE_CHECKING, Final, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.harness import Run

__all__ = ["RULE", "Change", "compare", "other_machine"]

MIN_REPEATS: Final = 3
MIN_CHANGE: Final = 0.05
RULE: Final = (
    f"slower: at least {MIN_REPEATS} repeats in both, every new one slower than every old one, and medians more than "
    f"{MIN_CHANGE:.0%} apart"
)
OURS: Final = "voxpop"


class Change(msgspec.Struct, frozen=True):
    """One system in one case, then and now."""

    suite: str
    case: str
    system: str
    relative_to: str  # the yardstick or peer that it was divided by; empty for plain rates
    old: float  # median, units a second, or the ratio
    new: float
    repeats: tuple[int, int]
    unit: str
    state: Literal["slower", "faster", "same", "too few repeats"]

    @property
    def ratio(self) -> float:
        """The new rate over the old one."""
        return self.new / self.old


def compare(old: Sequence[Run], new: Sequence[Run]) -> list[Change]:
    """Return a line for each system of voxpop's that both have, in the order of the new runs."""
    before, after = _by_case(old), _by_case(new)
    changes = []
    for (suite, case), systems in after.items():
        then = before.get((suite, case), {})
        ours = (system for system in systems if system in then and system.startswith(OURS))
        changes += [_change(suite, case, system, then, systems) for system in ours]
    return changes


def other_machine(old: Sequence[Run], new: Sequence[Run]) -> str:
    """Say that the two were measured on different machines; empty if they were not."""
    machines = [sorted({f"{run.machine.cpu}, {run.machine.cpus} CPUs" for run in runs}) for runs in (old, new)]
    return "" if machines[0] == machines[1] else f"old: {'; '.join(machines[0])}. New: {'; '.join(machines[1])}"


def _by_case(runs: Sequence[Run]) -> dict[tuple[str, str], dict[str, list[Run]]]:
    found: dict[tuple[str, str], dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        found[run.suite, run.case][run.system].append(run)
    return found


def _change(suite: str, case: str, system: str, then: dict[str, list[Run]], now: dict[str, list[Run]]) -> Change:
    reference = _reference(system, then, now)
    old, new = (_values(systems[system], systems.get(reference, [])) for systems in (then, now))
    a, b = statistics.median(old), statistics.median(new)
    state: Literal["slower", "faster", "same", "too few repeats"] = "same"
    if min(len(old), len(new)) < MIN_REPEATS:
        state = "too few repeats"
    elif max(new) < min(old) and b < a * (1 - MIN_CHANGE):
        state = "slower"
    elif min(new) > max(old) and b > a * (1 + MIN_CHANGE):
        state = "faster"
    unit = "" if reference else now[system][0].unit
    return Change(suite, case, system, reference, a, b, (len(old), len(new)), unit, state)


def _reference(system: str, then: dict[str, list[Run]], now: dict[str, list[Run]]) -> str:
    """Return the first system of others that is the same in both and has all repeats of the one compared; or ""."""
    for name, runs in now.items():
        if name.startswith(OURS) or name not in then or then[name][0].version != runs[0].version:
            continue
        if all({run.repeat for run in of[system]} <= {run.repeat for run in of[name]} for of in (then, now)):
            return name
    return ""


def _values(runs: Sequence[Run], reference: Sequence[Run]) -> list[float]:
    base = {run.repeat: run.rate for run in reference}
    return [run.rate / base.get(run.repeat, 1.0) for run in runs]
