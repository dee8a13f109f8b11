"""The table of targets: what is promised of votes on categories, held against raw runs. Nothing is measured here.

A target is judged by the case of its own size only; a quick run has smaller cases under other names, and leaves it
open.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Final

from benchmarks.harness import si, times
from benchmarks.suite import Verdict, at_least, at_most, not_measured
from benchmarks.suites.votes import cases
from benchmarks.suites.votes.accuracy import half_width, scores_of
from benchmarks.yardsticks import EMPTY_LOOP, TRIAD

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.harness import Run

__all__ = ["GIVEN_SETS", "verdicts"]

NO_RUN: Final = "needs a run of full size"
NO_PEER: Final = "needs a run of full size beside crowd-kit"
# The sets that the targets of accuracy are stated for.
GIVEN_SETS: Final = (
    "bluebirds", "cf_amt", "d_possent", "dogs", "labelme", "ms", "snow_rte", "snow_temp", "sp_amt", "web",
    "zencrowd_us",
)  # fmt: skip
SPEEDUP_SHARE: Final = 0.9
LINEAR: Final = 1.25  # times ten, that 100M votes may take of what 10M take
MAJORITY: Final = f"{cases.OURS} majority"
DAWID_SKENE: Final = f"{cases.OURS} dawid_skene"
AUTO: Final = f"{cases.OURS} auto"


def verdicts(runs: Sequence[Run]) -> list[Verdict]:
    """Return the table of targets."""
    found = _Found(runs)
    return [
        *_speed(found),
        *_labels(found),
        *_beside(found),
        *_parity(found),
        *_stream(found),
        *_first_use(found),
        *_huge(found),
        *_threads(found),
        *_accuracy(runs),
        *_birds(found),
    ]


class _Found:
    """Raw runs by case and system."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.all = runs

    def of(self, case: str, system: str = cases.OURS) -> list[Run]:
        return [run for run in self.all if run.case == case and run.system == system]

    def rate(self, case: str, system: str = cases.OURS) -> float | None:
        return _median([run.rate for run in self.of(case, system)])

    def ratio(self, case: str, over: str, system: str = cases.OURS) -> float | None:
        """Return the median ratio of two systems' rates in the same repeat."""
        base = {run.repeat: run.rate for run in self.of(case, over)}
        return _median([run.rate / base[run.repeat] for run in self.of(case, system) if run.repeat in base])

    def cases(self, prefix: str) -> list[str]:
        return list(dict.fromkeys(run.case for run in self.all if run.case.startswith(prefix)))


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _judge(
    name: str,
    measured: float | None,
    target: float,
    shown: Callable[[float], str],
    *,
    most: bool = False,
    why_not: str = NO_RUN,
    note: str = "",
) -> Verdict:
    if measured is None:
        return not_measured(name, f"{'<=' if most else '>='} {shown(target)}", why_not)
    return (at_most if most else at_least)(name, measured, target, shown, note)


def _rate_shown(value: float) -> str:
    return f"{si(value)} vote.iterations/s"


def _times(value: float) -> str:
    return f"{times(value)}x"


def _seconds(value: float) -> str:
    return f"{value:.3g} s"


def _points(value: float) -> str:
    return f"{100 * value:.4g}%"


def _speed(found: _Found) -> list[Verdict]:
    return [
        _judge(
            f"Dawid-Skene, {size.title}, {cases.THREADS} threads", found.rate(cases.speed(size)), target, _rate_shown
        )
        for size, target in ((cases.LARGE, 250e6), (cases.MANY_CLASSES, 150e6))
    ]


def _labels(found: _Found) -> list[Verdict]:
    codes = found.of(cases.from_codes(cases.LARGE))
    strings = found.of(cases.from_strings(cases.LARGE))
    note = f"{cases.ITERATIONS} iterations, {cases.LARGE.title}"
    peak = _median([run.peak_rss_bytes / 1e6 for run in codes])
    return [
        _judge(
            "interned votes to labels", _median([run.seconds for run in codes]), 1.5, _seconds, most=True, note=note
        ),
        _judge("their peak memory", peak, 400, lambda mb: f"{mb:.0f} MB", most=True, note="the whole process"),
        _judge("strings to labels", _median([run.seconds for run in strings]), 6.0, _seconds, most=True, note=note),
    ]


def _beside(found: _Found) -> list[Verdict]:
    strings = [
        found.ratio(cases.beside("dawid_skene", size, as_strings=True), cases.CROWD_KIT)
        for size in (cases.SMALL, cases.MANY_CLASSES)
    ]
    known = [ratio for ratio in strings if ratio is not None]
    em = found.ratio(cases.em_alone(cases.LARGE), cases.CROWD_KIT)
    verdicts = [
        _judge(
            "Dawid-Skene from strings, against crowd-kit",
            min(known, default=None),
            150,
            _times,
            why_not=NO_PEER,
            note=f"the worse of {cases.SMALL.title} and {cases.MANY_CLASSES.title}" if len(known) > 1 else "",
        ),
        _judge(f"iterations alone, {cases.LARGE.title}, against crowd-kit", em, 500, _times, why_not=NO_PEER),
    ]
    for method, title in (("glad", "GLAD"), ("mace", "MACE"), ("one_coin", "one-coin")):
        ratio = found.ratio(cases.beside(method, cases.SMALL, as_strings=False), cases.CROWD_KIT)
        verdicts.append(_judge(f"{title}, {cases.SMALL.title}, against crowd-kit", ratio, 100, _times, why_not=NO_PEER))
    return verdicts


def _parity(found: _Found) -> list[Verdict]:
    tables = found.cases(cases.PARITY_PREFIX)

    def largest(system: str) -> float | None:
        differences = [run.extra["largest_difference"] for case in tables for run in found.of(case, system)]
        return max(differences, default=None)

    return [
        _judge(
            f"parity with crowd-kit after {cases.PARITY_ITERATIONS} iterations, {title}",
            largest(system),
            target,
            lambda value: f"{value:.1g}",
            most=True,
            why_not=NO_PEER,
            note=f"largest difference of a posterior, {len(tables)} tables",
        )
        for title, system, target in (("float64", cases.OURS, 1e-8), ("float32", cases.FLOAT32, 1e-5))
    ]


def _stream(found: _Found) -> list[Verdict]:
    runs = found.of(cases.stream(cases.LARGE))
    refits = found.of(cases.stream_refit(cases.LARGE))
    asked = _median([run.extra["label_seconds"] for run in runs])
    note = "" if asked is None else f"and {1e3 * asked:.3g} ms to label their items anew"
    added = _median([1e3 * run.seconds for run in runs])
    equal = _median([run.extra["share_equal"] for run in refits])
    return [
        _judge("1,000 votes added to a state of 10M", added, 10, lambda ms: f"{ms:.3g} ms", most=True, note=note),
        _judge("labels then, as in a refit", equal, 0.999, _points),
    ]


def _first_use(found: _Found) -> list[Verdict]:
    verdicts = []
    for system, title, limit in (
        (cases.FRESH_MACHINE, "first use of a method, compiled", 10),
        (cases.CACHED, "first use of a method, cached", 1),
    ):
        medians = {
            case.removeprefix(cases.FIRST_USE_PREFIX): seconds
            for case in found.cases(cases.FIRST_USE_PREFIX)
            if (seconds := _median([run.seconds for run in found.of(case, system)])) is not None
        }
        slowest = max(medians, key=medians.__getitem__, default=None)
        note = f"the slowest of {len(medians)} methods: {slowest}; imports included"
        seconds = None if slowest is None else medians[slowest]
        verdicts.append(_judge(title, seconds, limit, _seconds, most=True, note=note))
    return verdicts


def _huge(found: _Found) -> list[Verdict]:
    small, huge = (found.of(cases.from_codes(size)) for size in (cases.LARGE, cases.HUGE))
    verdicts = []
    for title, figures, shown in (
        ("time", [[run.seconds for run in of] for of in (small, huge)], _seconds),
        ("memory", [[run.peak_rss_bytes / 1e9 for run in of] for of in (small, huge)], lambda gb: f"{gb:.3g} GB"),
    ):
        tenth, whole = (_median(values) for values in figures)
        verdicts.append(
            _judge(
                f"{title} of 100M votes is linear",
                None if tenth is None or whole is None else whole / tenth,
                10 * LINEAR,
                lambda ratio: f"{ratio:.3g} times that of 10M",
                most=True,
                note="" if whole is None else shown(whole),
            )
        )
    return verdicts


def _threads(found: _Found) -> list[Verdict]:
    name, title = "same bytes on 1 and 2 threads", "speed-up over 1 thread"
    target = f">= {SPEEDUP_SHARE:g} of the machine's"
    found_cases = [case for case in found.cases("") if found.of(case, cases.OURS_ON_ONE)]
    if not found_cases:
        return [not_measured(name, "all equal", NO_RUN), not_measured(title, target, NO_RUN)]
    different = [
        case
        for case in found_cases
        if len({run.extra["sha256"] for system in (cases.OURS, cases.OURS_ON_ONE) for run in found.of(case, system)})
        > 1
    ]
    verdicts = [
        Verdict(name, "all equal", ", ".join(different) or "all equal", "missed" if different else "met", "SHA-256")
    ]
    for size in (cases.LARGE, cases.MANY_CLASSES):
        case = cases.speed(size)
        ours = found.ratio(case, cases.OURS_ON_ONE)
        machine = {
            yardstick: found.ratio(case, f"{yardstick}, 1 thread", f"{yardstick}, {cases.THREADS} threads")
            for yardstick in (EMPTY_LOOP, TRIAD)
        }
        known = {yardstick: gain for yardstick, gain in machine.items() if gain is not None}
        if ours is None or not known:
            verdicts.append(not_measured(f"{title}, {size.title}", target, NO_RUN))
            continue
        note = ", ".join(f"{yardstick} {gain:.2f}x" for yardstick, gain in known.items())
        verdicts.append(
            at_least(
                f"{title}, {size.title}", ours, SPEEDUP_SHARE * max(known.values()), lambda gain: f"{gain:.2f}x", note
            )
        )
    return verdicts


def _accuracy(runs: Sequence[Run]) -> list[Verdict]:
    scores = scores_of(runs)
    why_not = f"needs the {len(GIVEN_SETS)} sets, by --data"
    verdicts = [
        _judge(
            f"mean accuracy of {system.removeprefix('voxpop ')} on the {len(GIVEN_SETS)} sets",
            scores.mean(system, "accuracy", GIVEN_SETS),
            target,
            _points,
            why_not=why_not if system in scores.by_system else f"there is no {system.removeprefix('voxpop ')}",
        )
        for system, target in ((AUTO, 0.876), (DAWID_SKENE, 0.872))
    ]
    name, target = "auto against majority, on each set", "not below by more than a point or the half-width"
    ours, base = scores.by_system.get(AUTO, {}), scores.by_system.get(MAJORITY, {})
    both = [one for one in scores.sets if one in ours and one in base]
    if not both:
        return [
            *verdicts,
            not_measured(name, target, "there is no auto"),
            not_measured("mean ECE of auto", "<= half of majority's", "there is no auto"),
        ]
    below = {
        one: gap
        for one in both
        if (gap := base[one].extra["accuracy"] - ours[one].extra["accuracy"])
        > max(0.01, half_width(ours[one], base[one]))
    }
    worst = min(both, key=lambda one: ours[one].extra["accuracy"] - base[one].extra["accuracy"])
    gain = ours[worst].extra["accuracy"] - base[worst].extra["accuracy"]
    measured = ", ".join(f"{one} {-100 * gap:+.1f}" for one, gap in below.items()) or f"worst {100 * gain:+.1f} points"
    note = f"{worst}; {len(both)} sets" if not below else f"{len(both)} sets"
    verdicts.append(Verdict(name, target, measured, "missed" if below else "met", note))
    eces = [statistics.fmean(of[one].extra["ece"] for one in both) for of in (ours, base)]
    note = f"majority's is {_points(eces[1])}; {len(both)} sets"
    verdicts.append(at_most("mean ECE of auto, half of majority's", eces[0], eces[1] / 2, _points, note))
    return verdicts


def _birds(found: _Found) -> list[Verdict]:
    runs = found.of(cases.BIRDS)
    of = runs[-1].extra["items"] if runs else 302
    return [
        _judge(
            f"ground_truth on birds: equal {title}",
            runs[-1].extra[key] if runs else None,
            target,
            lambda count: f"{count:.0f} of {of}",
            why_not="needs the method, and ground_truth/birds, by --data",
        )
        for title, key, target in (("labels", "same_labels", 301), ("confidences", "same_confidences", 295))
    ]
