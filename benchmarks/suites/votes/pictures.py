"""The suite's plots, from raw runs only."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from benchmarks.suite import Picture
from benchmarks.suites.votes import cases
from benchmarks.suites.votes.accuracy import Scores, scores_of
from benchmarks.yardsticks import EMPTY_LOOP, TRIAD
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from voxpop.cli.plots import LIGHT, drawn_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.harness import Run

__all__ = ["pictures"]

WIDTH_INCHES: Final = 7.2
PEER_COLOUR: Final = LIGHT.first
OUR_COLOUR: Final = LIGHT.second
MIDDLE_COLOUR: Final = "#f4f4f4"


def pictures(runs: Sequence[Run]) -> list[Picture]:
    """Return the plots for which there are runs."""
    with drawn_in(LIGHT):
        drawn = (_beside(runs), _threads(runs), _accuracy(scores_of(runs)), _calibration(scores_of(runs)))
    return [picture for picture in drawn if picture is not None]


def _beside(runs: Sequence[Run]) -> Picture | None:
    """A pair of bars for each case that both have, on a logarithmic scale."""
    rates: dict[str, dict[str, list[float]]] = {}
    for run in runs:
        if run.unit == "vote.iterations" and run.system in {cases.OURS, cases.CROWD_KIT} and "parity" not in run.case:
            rates.setdefault(run.case, {}).setdefault(run.system, []).append(run.rate)
    both = {case: of for case, of in rates.items() if len(of) == 2}
    if not both:
        return None
    figure = Figure(figsize=(WIDTH_INCHES, 0.9 + 0.62 * len(both)), layout="constrained")
    axes = figure.subplots()
    for place, of in enumerate(both.values()):
        for offset, system, colour in ((-0.19, cases.OURS, OUR_COLOUR), (0.19, cases.CROWD_KIT, PEER_COLOUR)):
            rate = statistics.median(of[system])
            axes.barh(place + offset, rate, 0.36, color=colour, label=system if place == 0 else None)
            axes.text(rate * 1.12, place + offset, _short_rate(rate), va="center", fontsize=8)
        ratio = statistics.median(of[cases.OURS]) / statistics.median(of[cases.CROWD_KIT])
        axes.text(1.0, place, f"{ratio:,.0f}x", transform=axes.get_yaxis_transform(), va="center", fontweight="bold")
    axes.set_xscale("log")
    low = min(statistics.median(of[cases.CROWD_KIT]) for of in both.values())
    high = max(statistics.median(of[cases.OURS]) for of in both.values())
    axes.set_xlim(low / 3, high * 6)
    axes.set_yticks(range(len(both)), [_wrapped(case) for case in both], fontsize=8)
    axes.set_ylim(len(both) - 0.45, -0.55)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: _short_rate(rate)))
    axes.set_xlabel("votes times iterations a second (logarithmic), medians; right: how many times as fast")
    figure.legend(loc="outside upper left", ncols=2)
    return Picture("votes-beside-crowd-kit", "Votes times iterations a second, voxpop and crowd-kit", figure)


def _threads(runs: Sequence[Run]) -> Picture | None:
    """The gain of a second thread, a dot a repeat, beside what the machine gains."""
    pairs = (
        ("Dawid-Skene", cases.OURS, cases.OURS_ON_ONE),
        ("empty loop", f"{EMPTY_LOOP}, {cases.THREADS} threads", f"{EMPTY_LOOP}, 1 thread"),
        ("STREAM triad", f"{TRIAD}, {cases.THREADS} threads", f"{TRIAD}, 1 thread"),
    )
    gains: dict[str, list[list[float]]] = {}
    for case in dict.fromkeys(run.case for run in runs if run.system == cases.OURS_ON_ONE):
        of = {(run.system, run.repeat): run.rate for run in runs if run.case == case}
        gains[case] = [
            [of[two, repeat] / of[one, repeat] for system, repeat in of if system == one and (two, repeat) in of]
            for _, two, one in pairs
        ]
    if not gains:
        return None
    figure = Figure(figsize=(WIDTH_INCHES, 0.9 + 0.85 * len(gains)), layout="constrained")
    axes = figure.subplots()
    colours = (OUR_COLOUR, LIGHT.mark, PEER_COLOUR)
    for place, case in enumerate(gains):
        for i, ((title, _, _), values, colour) in enumerate(zip(pairs, gains[case], colours, strict=True)):
            y = place + 0.24 * (i - 1)
            axes.plot(values, [y] * len(values), "o", color=colour, alpha=0.45, markersize=5)
            if values:
                label = title if place == 0 else None
                axes.plot([statistics.median(values)], [y], "|", color=colour, markersize=16, mew=2.4, label=label)
    axes.axvline(1, color=LIGHT.ink, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.set_yticks(range(len(gains)), [_wrapped(case) for case in gains], fontsize=8)
    axes.set_ylim(len(gains) - 0.5, -0.5)
    axes.set_xlabel(f"rate on {cases.THREADS} threads over rate on one (dots: repeats; lines: medians)")
    figure.legend(loc="outside upper left", ncols=3)
    return Picture("votes-threads", "What a second thread gains: Dawid-Skene, an empty loop, a STREAM triad", figure)


def _accuracy(scores: Scores) -> Picture | None:
    """A table in colours: accuracy of each method on each set, less that of majority."""
    base = scores.by_system.get(f"{cases.OURS} majority", {})
    sets = [name for name in scores.sets if name in base]
    systems = [name for name, of in scores.by_system.items() if any(one in of for one in sets)]
    if not sets:
        return None

    def gain(system: str, name: str) -> float:
        runs = scores.by_system[system]
        return 100 * (runs[name].extra["accuracy"] - base[name].extra["accuracy"]) if name in runs else np.nan

    table = np.array([[gain(system, name) for name in sets] for system in systems])
    means = np.array([row.mean() if np.isfinite(row).all() else np.nan for row in table])
    order = np.argsort(-np.nan_to_num(means, nan=-100.0), kind="stable")
    shown = np.column_stack([means[order], table[order]])
    figure = Figure(
        figsize=(WIDTH_INCHES + 0.3 * max(0, len(sets) - 8), 1.3 + 0.27 * len(systems)), layout="constrained"
    )
    axes = figure.subplots()
    axes.imshow(shown, cmap=_diverging(), vmin=-10, vmax=10, aspect="auto")
    for (row, column), value in np.ndenumerate(shown):
        text = "-" if np.isnan(value) else f"{value:+.1f}"
        weight = "bold" if column == 0 else "normal"
        axes.text(column, row, text, ha="center", va="center", fontsize=7.5, fontweight=weight)
    titles = ["mean", *(f"{name}\n({100 * base[name].extra['accuracy']:.1f})" for name in sets)]
    axes.set_xticks(range(len(titles)), titles, rotation=40, ha="left", rotation_mode="anchor", fontsize=7.5)
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(systems)), [systems[i] for i in order], fontsize=8)
    axes.axvline(0.5, color=LIGHT.card, linewidth=3)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlabel("points of accuracy above (+) or below (-) majority, whose own stand in brackets")
    return Picture("votes-accuracy", "Accuracy of each method on each set, less that of majority", figure)


def _calibration(scores: Scores) -> Picture | None:
    """Mean calibration error of each method, a dot a set."""
    sets = scores.sets
    means = {system: mean for system in scores.by_system if (mean := scores.mean(system, "ece", sets)) is not None}
    if not means:
        return None
    order = sorted(means, key=means.__getitem__)
    figure = Figure(figsize=(WIDTH_INCHES, 0.8 + 0.27 * len(order)), layout="constrained")
    axes = figure.subplots()
    for place, system in enumerate(order):
        colour = PEER_COLOUR if system.startswith(cases.CROWD_KIT) else OUR_COLOUR
        values = [100 * scores.by_system[system][name].extra["ece"] for name in sets]
        axes.plot(values, [place] * len(values), "o", color=colour, alpha=0.35, markersize=4.5)
        axes.plot([100 * means[system]], [place], "|", color=colour, markersize=14, mew=2.4)
    axes.set_yticks(range(len(order)), order, fontsize=8)
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"expected calibration error, percent (dots: {len(sets)} sets; lines: their mean; 0 is perfect)")
    return Picture("votes-calibration", "Expected calibration error of each method", figure)


def _diverging() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("gain", ["#e0893f", MIDDLE_COLOUR, "#5aa5d6"])


def _wrapped(case: str) -> str:
    """Return a case on two lines, broken at its last comma but one."""
    parts = case.split(", ")
    return ", ".join(parts[:-2]) + "\n" + ", ".join(parts[-2:]) if len(parts) > 2 else case


def _short_rate(rate: float) -> str:
    for limit, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if rate >= limit:
            return f"{rate / limit:.3g}{prefix}"
    return f"{rate:.3g}"
