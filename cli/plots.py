"""Every plot of the command line: methods against gold, calibration, workers, answers over time.

Drawn with the palette ``PAGE``, a figure becomes an SVG whose colours are CSS variables, so that one drawing serves
light and dark pages. No pyplot, no global state. What is plotted is computed in ``scores.py``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import warnings
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from voxpop.cli.scores import method_title, printable, wilson
from voxpop.consolidation.calibration import reliability

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from numpy.typing import ArrayLike

    from voxpop.cli.scores import MethodScore, WorkerRow
    from voxpop.consolidation.votes.result import VoteResult

__all__ = [
    "LIGHT",
    "PAGE",
    "Palette",
    "accuracy_figure",
    "calibration_figure",
    "drawn_in",
    "plot_worker_quality",
    "save_figure",
    "speed_figure",
    "svg_element",
    "timeline_figure",
    "workers_figure",
]


@dataclasses.dataclass(frozen=True)
class Palette:
    """The colours of a figure."""

    ink: str
    line: str
    card: str
    first: str
    second: str
    mark: str


# Okabe and Ito's colours, which stay apart for colour-blind eyes, darkened until text in them reads on white.
LIGHT: Final = Palette(ink="#1c2733", line="#cbd5de", card="#ffffff", first="#b85000", second="#0072b2", mark="#8a4a78")
# Stand-ins that no figure has by itself: ``svg_element`` turns them into the CSS variables of the same names.
PAGE: Final = Palette(ink="#010101", line="#010102", card="#010103", first="#010104", second="#010105", mark="#010106")
METHOD_COLOURS: Final = {"majority": "first", "dawid_skene": "second"}
METHOD_MARKERS: Final = {"majority": "s", "dawid_skene": "o"}

WIDTH_INCHES: Final = 4.8
DPI: Final = 160
NAMED_WORKERS: Final = 45  # more names than this do not fit under each other
BINS: Final = 10
MAX_STEPS: Final = 1_000  # of a drawn curve


def drawn_in(palette: Palette) -> AbstractContextManager[None]:
    """Return matplotlib's settings in the house's look, for as long as a figure is drawn."""
    style: Any = {
        "axes.edgecolor": palette.line,
        "axes.facecolor": "none",
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.labelcolor": palette.ink,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "figure.facecolor": "none" if palette is PAGE else palette.card,
        "font.size": 9.0,
        "grid.color": palette.line,
        "grid.linewidth": 0.6,
        "legend.frameon": False,
        "legend.labelcolor": palette.ink,
        "svg.fonttype": "none",
        "svg.hashsalt": "voxpop",
        "text.color": palette.ink,
        "text.parse_math": False,  # a worker may be called "$x$"
        "xtick.color": palette.line,
        "xtick.labelcolor": palette.ink,
        "ytick.color": palette.line,
        "ytick.labelcolor": palette.ink,
    }
    return mpl.rc_context(style)


def accuracy_figure(scores: Sequence[MethodScore], palette: Palette = LIGHT) -> Figure:
    """Draw a bar a score, its 95% interval, and its number."""
    with drawn_in(palette):
        figure, axes = _canvas(0.7 + 0.52 * len(scores))
        for place, one in enumerate(scores):
            colour = _method_colour(one.method, palette)
            axes.barh(place, one.accuracy, height=0.42, color=colour, alpha=0.85)
            axes.plot([one.low, one.high], [place, place], color=palette.ink, linewidth=1.4, marker="|", markersize=7)
            axes.text(1.02, place, f"{one.accuracy:.1%}", va="center", fontweight="bold")
            axes.text(0, place - 0.3, f"{method_title(one.method)}, {one.answers}", va="bottom")
        axes.set_yticks([])
        axes.set_ylim(len(scores) - 0.65, -0.8)
        axes.grid(visible=False, axis="y")
        axes.set_xlim(0, 1)
        _in_percent(axes.xaxis)
        axes.set_xlabel(f"labels that equal gold, of {max(one.n for one in scores)} (line: 95% interval)")
        return figure


def calibration_figure(scores: Sequence[MethodScore], palette: Palette = LIGHT) -> Figure:
    """Draw the reliability diagram of each score, with the number of labels in each bin below it."""
    with drawn_in(palette):
        figure = Figure(figsize=(WIDTH_INCHES, 3.9), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.1))
        start = math.floor(min(float(one.confidence.min(initial=1.0)) for one in scores) * BINS - 1e-9) / BINS
        upper.plot([0, 1], [0, 1], color=palette.ink, linewidth=0.9, linestyle=(0, (4, 3)))
        for place, one in enumerate(scores):
            colour, marker = _method_colour(one.method, palette), METHOD_MARKERS.get(one.method, "D")
            bins = reliability(one.confidence, one.correct, BINS)
            filled = np.flatnonzero(bins.count)
            for i in filled:
                low, high = wilson(round(float(bins.accuracy[i] * bins.count[i])), int(bins.count[i]))
                upper.plot([bins.confidence[i]] * 2, [low, high], color=colour, linewidth=1.1, alpha=0.55)
            upper.plot(
                bins.confidence[filled],
                bins.accuracy[filled],
                color=colour,
                marker=marker,
                markersize=5.5,
                linewidth=1.2,
                label=f"{method_title(one.method)}, {one.answers}",
            )
            width = 0.8 / BINS / len(scores)
            left = bins.edges[:-1] + 0.1 / BINS + place * width
            bars = lower.bar(left, bins.count, width=width, align="edge", color=colour, alpha=0.85)
            lower.bar_label(bars, [str(n) if n else "" for n in bins.count], fontsize=7, padding=1)
        upper.set_ylim(0, 1.02)
        lower.set_xlim(max(0.0, start - 0.02), 1.02)
        upper.set_ylabel("share that is right")
        lower.set_ylabel("labels")
        lower.margins(y=0.28)
        lower.grid(visible=False, axis="x")
        lower.set_xlabel("confidence of the label (dashed: perfectly calibrated)")
        for axis in (upper.yaxis, lower.xaxis):
            _in_percent(axis)
        lower.yaxis.set_major_locator(MaxNLocator(2, integer=True))
        figure.legend(loc="outside upper left", ncols=1, fontsize=8.5)
        return figure


def workers_figure(rows: Sequence[WorkerRow], palette: Palette = LIGHT) -> Figure:
    """Draw estimated quality against accuracy on gold, a dot a worker, its area the number of answers."""
    with drawn_in(palette):
        figure, axes = _canvas(3.5)
        known = [row for row in rows if math.isfinite(row.quality) and math.isfinite(row.gold_accuracy)]
        axes.plot([0, 1], [0, 1], color=palette.ink, linewidth=0.9, linestyle=(0, (4, 3)))
        _dots(axes, [row.quality for row in known], [row.gold_accuracy for row in known], known, palette)
        low = min([row.quality for row in known] + [row.gold_accuracy for row in known], default=0.0)
        axes.set_xlim(max(0.0, low - 0.05), 1.02)
        axes.set_ylim(max(0.0, low - 0.05), 1.02)
        axes.set_xlabel("quality as estimated without gold (Dawid-Skene)")
        axes.set_ylabel("own answers that equal gold")
        for axis in (axes.xaxis, axes.yaxis):
            _in_percent(axis)
        return figure


def speed_figure(rows: Sequence[WorkerRow], palette: Palette = LIGHT) -> Figure:
    """Draw time an answer against quality: on gold where it is known for everybody, else as estimated."""
    with drawn_in(palette):
        figure, axes = _canvas(3.5)
        known = [row for row in rows if math.isfinite(row.median_seconds) and math.isfinite(row.quality)]
        with_gold = bool(known) and all(math.isfinite(row.gold_accuracy) for row in known)
        _dots(
            axes,
            [row.median_seconds for row in known],
            [row.gold_accuracy if with_gold else row.quality for row in known],
            known,
            palette,
        )
        axes.set_xlim(left=0)
        axes.set_ylim(top=1.02)
        axes.set_xlabel("median time an answer (seconds)")
        axes.set_ylabel("own answers that equal gold" if with_gold else "estimated quality")
        _in_percent(axes.yaxis)
        return figure


def timeline_figure(at_seconds: ArrayLike, wanted: int, marks: Sequence[float], palette: Palette = LIGHT) -> Figure:
    """Draw counted answers over time, with a numbered line at each mark.

    Args:
        at_seconds: when each counted answer was submitted, after the job's start.
        wanted: how many answers the whole job wants; 0 if that is not known.
        marks: when each event happened, in order; they are numbered from 1.
        palette: the colours.
    """
    with drawn_in(palette):
        figure = Figure(figsize=(WIDTH_INCHES, 2.5), layout="constrained")
        axes = figure.subplots()
        times = np.sort(np.asarray(at_seconds, dtype=np.float64))
        top = max(wanted, times.size, 1)
        count = np.arange(1, times.size + 1)
        if times.size > MAX_STEPS:  # no screen shows more; the last one is always among them
            count = np.linspace(1, times.size, MAX_STEPS).astype(np.int64)
            times = times[count - 1]
        axes.fill_between(times, count, step="post", color=palette.second, alpha=0.18, linewidth=0)
        axes.step(times, count, where="post", color=palette.second, linewidth=1.8)
        if wanted:
            axes.axhline(wanted, color=palette.ink, linewidth=0.9, linestyle=(0, (4, 3)))
        end = max([float(times[-1]) if times.size else 0.0, *marks, 0.1])
        axes.set_xlim(0, end * 1.02)
        for number, (at, level) in enumerate(zip(marks, _levels(marks, end), strict=True), 1):
            axes.axvline(at, color=palette.mark, linewidth=0.9, ymax=0.88)
            axes.text(
                at,
                top * (1.09 + 0.13 * level),
                str(number),
                ha="center",
                va="center",
                fontsize=8.5,
                color=palette.card,
                fontweight="bold",
                bbox={"boxstyle": "circle,pad=0.22", "facecolor": palette.mark, "edgecolor": "none"},
            )
        axes.set_ylim(0, top * (1.32 if marks else 1.06))
        axes.set_yticks([tick for tick in axes.get_yticks() if tick <= top * 1.001])
        axes.set_xlabel("seconds after the job was created")
        axes.set_ylabel("answers that count")
        return figure


def plot_worker_quality(result: VoteResult, path: Path, palette: Palette = LIGHT) -> None:
    """Write a plot of each worker's estimated quality, best first, as PNG or SVG by the file's suffix.

    Workers of whom nothing is known are left out; the axis says how many.

    Raises:
        ValueError: the suffix is neither ``.png`` nor ``.svg``; nothing was written.
    """
    quality = np.asarray(result.worker_quality, dtype=np.float64)
    known = np.flatnonzero(np.isfinite(quality))
    order = known[np.argsort(-quality[known], kind="stable")]
    named = order.size <= NAMED_WORKERS
    with drawn_in(palette):
        figure, axes = _canvas(max(2.2, 0.9 + 0.165 * order.size) if named else 3.5)
        places = np.arange(order.size)
        if named:
            axes.hlines(places, 0, quality[order], color=palette.line, linewidth=1.0)
            axes.plot(quality[order], places, color=palette.second, marker="o", markersize=5, linestyle="none")
            axes.set_yticks(places, [_short(str(name)) for name in result.workers[order]], fontsize=7.5)
            axes.invert_yaxis()
            axes.grid(visible=False, axis="y")
        else:
            axes.plot(quality[order], places + 1, color=palette.second, linewidth=1.8)
            axes.set_ylabel("workers at least this good")
        axes.set_xlim(0, 1.02)
        _in_percent(axes.xaxis)
        left_out = f" ({quality.size - order.size} unknown, left out)" if order.size < quality.size else ""
        axes.set_xlabel(f"estimated quality of {order.size} workers{left_out}")
    save_figure(figure, path)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG or SVG by the file's suffix; folders are made.

    Raises:
        ValueError: another suffix; nothing was written.
    """
    if path.suffix.lower() not in {".png", ".svg"}:
        raise ValueError(f"{path}: plots are written as .png or .svg, found suffix {path.suffix!r}; choose one of them")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".svg":
        path.write_text(_svg(figure), encoding="utf-8")
        return
    figure.set_dpi(DPI)
    with _any_script():
        FigureCanvasAgg(figure).print_png(str(path), metadata={"Software": None})  # type: ignore[no-untyped-call]


def svg_element(figure: Figure, prefix: str, title: str) -> ET.Element:
    """Return a figure as an SVG element to embed in HTML: no namespaces, no metadata, colours as CSS variables.

    Args:
        figure: drawn with the palette ``PAGE``.
        prefix: stands before every id, so that several can share a page.
        title: what a reader who cannot see it is told.
    """
    root = ET.fromstring(_svg(figure))  # noqa: S314 - matplotlib wrote it a moment ago
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith("}metadata"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for name, value in list(element.attrib.items()):
            del element.attrib[name]
            element.set(name.rpartition("}")[2], _rewritten(name, value, prefix))
        if element.tag == "style":
            element.text = ""
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", title)
    return root


def _canvas(height_inches: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH_INCHES, height_inches), layout="constrained")
    return figure, figure.subplots()


def _dots(axes: Axes, x: Sequence[float], y: Sequence[float], rows: Sequence[WorkerRow], palette: Palette) -> None:
    """A dot a worker; the best, the worst and the slowest are named."""
    most = max((row.answers for row in rows), default=1)
    sizes = [14 + 60 * row.answers / most for row in rows]
    axes.scatter(x, y, s=sizes, color=palette.second, alpha=0.6, edgecolors=palette.ink, linewidths=0.5)
    if not rows:
        return
    named = {int(np.argmax(y)), int(np.argmin(y)), int(np.argmax(x))}
    for i in named:
        side = -1 if x[i] > 0.5 * (min(x) + max(x)) else 1
        axes.annotate(
            _short(rows[i].worker),
            (x[i], y[i]),
            xytext=(7 * side, 0),
            textcoords="offset points",
            ha="left" if side > 0 else "right",
            va="center",
            fontsize=8,
            bbox={"boxstyle": "square,pad=0.05", "facecolor": palette.card, "edgecolor": "none", "alpha": 0.75},
        )


def _in_percent(axis: Axis) -> None:
    """Label an axis of shares in round steps, up to 100%; its limits are set before."""
    axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    low, high = axis.get_view_interval()
    axis.set_ticks([tick for tick in axis.get_ticklocs() if low <= tick <= min(high, 1.0001)])  # others widen the axis
    axis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.4g}%"))


def _levels(at: Sequence[float], end: float) -> list[int]:
    """Return 0 or 1 for each mark: those too close to the one before stand higher."""
    levels: list[int] = []
    for i, now in enumerate(at):
        close = i > 0 and now - at[i - 1] < 0.035 * end
        levels.append(1 - levels[-1] if close else 0)
    return levels


def _short(name: str, limit: int = 14) -> str:
    name = printable(name).replace("\n", " ")
    return name if len(name) <= limit else name[: limit - 1] + "…"


@contextlib.contextmanager
def _any_script() -> Iterator[None]:
    """Names may be written in a script that the measuring font lacks; the page's font has it, or shows a box."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with drawn_in(LIGHT), _any_script():  # text as text, and ids that are the same in every run
        FigureCanvasSVG(figure).print_svg(buffer, metadata=nothing)  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def _method_colour(method: str, palette: Palette) -> str:
    colour: str = getattr(palette, METHOD_COLOURS.get(method, "mark"))
    return colour


def _rewritten(name: str, value: str, prefix: str) -> str:
    if name == "id":
        return f"{prefix}-{value}"
    if name.endswith("href") and value.startswith("#"):
        return f"#{prefix}-{value[1:]}"
    value = value.replace("url(#", f"url(#{prefix}-")
    for role, colour in dataclasses.asdict(PAGE).items():
        value = value.replace(colour, f"var(--{role})")
    # The page's own font, at the size that was laid out.
    return value.replace("'DejaVu Sans', ", "").replace("'Bitstream Vera Sans', ", "")
