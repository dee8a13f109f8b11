"""The suite's own tables, from raw runs only: parity, first use, accuracy and calibration by set."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from benchmarks.suite import Table
from benchmarks.suites.votes import cases
from benchmarks.suites.votes.accuracy import Scores, scores_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.harness import Run

__all__ = ["has_own_table", "tables"]

OWN: tuple[str, ...] = (cases.PARITY_PREFIX, cases.FIRST_USE_PREFIX, cases.ACCURACY_PREFIX, cases.BIRDS)


def has_own_table(run: Run) -> bool:
    """Return whether a run is shown here, not among the rates."""
    return run.case.startswith(OWN)


def tables(runs: Sequence[Run]) -> list[Table]:
    """Return the tables for which there are runs."""
    return [*_parity(runs), *_first_use(runs), *_accuracy(scores_of(runs))]


def _parity(runs: Sequence[Run]) -> list[Table]:
    found = _by_case(runs, cases.PARITY_PREFIX)
    rows = [
        [
            case.removeprefix(cases.PARITY_PREFIX),
            *(
                f"{of[system][0].extra['largest_difference']:.1g}" if system in of else ""
                for system in (cases.OURS, cases.FLOAT32)
            ),
        ]
        for case, of in found.items()
    ]
    title = f"Parity with crowd-kit after {cases.PARITY_ITERATIONS} iterations"
    note = "Largest difference of any posterior of Dawid-Skene without smoothing. crowd-kit cuts its own off at 1e-10."
    return [Table(title, ["votes", "float64", "float32"], rows, note)] if rows else []


def _first_use(runs: Sequence[Run]) -> list[Table]:
    found = _by_case(runs, cases.FIRST_USE_PREFIX)
    rows = [
        [
            case.removeprefix(cases.FIRST_USE_PREFIX),
            *(_median_seconds(of.get(system, [])) for system in (cases.FRESH_MACHINE, cases.CACHED)),
        ]
        for case, of in found.items()
    ]
    note = "Seconds from a fresh process to 40 labels from 200 votes of 4 classes, imports included."
    return [Table("First use", ["method", "first time", "cached"], rows, note)] if rows else []


def _by_case(runs: Sequence[Run], prefix: str) -> dict[str, dict[str, list[Run]]]:
    found: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        if run.case.startswith(prefix):
            found.setdefault(run.case, {}).setdefault(run.system, []).append(run)
    return found


def _median_seconds(runs: Sequence[Run]) -> str:
    return f"{statistics.median(run.seconds for run in runs):.2f}" if runs else ""


def _accuracy(scores: Scores) -> list[Table]:
    if not scores.sets:
        return []
    order = sorted(
        scores.by_system, key=lambda system: (-(scores.mean(system, "accuracy", scores.sets) or 0.0), system)
    )
    head = ["", "mean", *scores.sets]
    return [
        Table(title, head, [_row(scores, system, score) for system in order], note)
        for title, score, note in (
            (
                "Accuracy",
                "accuracy",
                "Labels that equal gold, percent. Ties: voxpop by a seed, crowd-kit always to the first class.",
            ),
            ("Calibration", "ece", "Expected calibration error, in percent: 0 is perfect."),
            ("Seconds", "seconds", "One fit, from a table that is there (crowd-kit: from a data frame of strings)."),
        )
    ]


def _row(scores: Scores, system: str, score: str) -> list[str]:
    runs = scores.by_system[system]
    if score == "seconds":
        values = [runs[name].seconds if name in runs else None for name in scores.sets]
        total = sum(value for value in values if value is not None) / max(1, len(values))
        return [system, f"{total:.3g}", *("" if value is None else f"{value:.2g}" for value in values)]
    mean = scores.mean(system, score, scores.sets)
    return [
        system,
        "" if mean is None else f"{100 * mean:.1f}",
        *(f"{100 * runs[name].extra[score]:.1f}" if name in runs else "" for name in scores.sets),
    ]
