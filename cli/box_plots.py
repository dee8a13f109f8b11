"""Drawings of items with everyone's boxes and the merged ones. The house's look stands in ``plots.py``."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon

from voxpop.cli.plots import LIGHT, Palette, drawn_in, save_figure
from voxpop.cli.scores import printable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from voxpop.consolidation.boxes.result import BoxesResult
    from voxpop.consolidation.boxes.table import Boxes

__all__ = ["SAMPLE", "item_figure", "plot_items"]

SAMPLE: Final = 12  # items are drawn
WIDTH_INCHES: Final = 7.0
TALLEST_INCHES: Final = 9.0
FLATTEST_INCHES: Final = 2.0
MARGIN: Final = 0.06  # around the boxes, of their extent
NAMED_WORKERS: Final = 12
MERGED: Final = "merged"


def plot_items(
    folder: Path,
    table: Boxes,
    result: BoxesResult,
    gold: Boxes | None,
    image_sizes: Mapping[str, tuple[float, float]],
) -> list[str]:
    """Draw items spread evenly over those in which somebody drew something, as PNG; return the files.

    Args:
        folder: made if it is not there.
        table: what everybody drew.
        result: of a method on it.
        gold: known boxes; None if there are none.
        image_sizes: width and height of items, which bound their drawing.
    """
    drawn = np.flatnonzero(np.diff(table.object_indptr))
    chosen = drawn[np.linspace(0, max(0, drawn.size - 1), min(SAMPLE, drawn.size)).astype(np.int64)]
    files = []
    for place, item in enumerate(chosen.tolist(), 1):
        name = str(table.items[item])
        path = folder / f"{place:02d}-{re.sub(r'[^A-Za-z0-9._-]+', '_', name)[:60]}.png"
        save_figure(item_figure(table, result, item, gold, image_sizes.get(table.items[item])), path)
        files.append(str(path))
    return files


def item_figure(
    table: Boxes,
    result: BoxesResult,
    item: int,
    gold: Boxes | None = None,
    size: tuple[float, float] | None = None,
    palette: Palette = LIGHT,
) -> Figure:
    """Draw one item: thin lines for workers, a colour each; thick ones with their confidence for merged boxes.

    Args:
        table: what everybody drew.
        result: of a method on it.
        item: its place in the table.
        gold: known boxes, drawn dashed; None if there are none.
        size: width and height of the picture; None to show where the boxes are.
        palette: the colours.
    """
    mine = slice(table.object_indptr[item], table.object_indptr[item + 1])
    merged = slice(result.indptr[item], result.indptr[item + 1])
    places = {name: i for i, name in enumerate(gold.items.tolist())} if gold is not None else {}
    known = places.get(table.items[item])
    shapes = _outlines(table.geometry[mine], None if table.angle is None else table.angle[mine])
    found = _outlines(result.boxes[merged], None if result.angle is None else result.angle[merged])
    right = np.zeros((0, 4, 2))
    if gold is not None and known is not None:
        theirs = slice(gold.object_indptr[known], gold.object_indptr[known + 1])
        right = _outlines(gold.geometry[theirs], None if gold.angle is None else gold.angle[theirs])
    low, high = _window(np.concatenate([shapes, found, right]).reshape(-1, 2), size)
    with drawn_in(palette):
        ratio = float((high - low)[1] / (high - low)[0])
        height = min(max(WIDTH_INCHES * ratio, FLATTEST_INCHES), TALLEST_INCHES) + 0.9
        figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
        axes = figure.subplots()
        axes.set_aspect("equal")
        axes.set_xlim(low[0], high[0])
        axes.set_ylim(high[1], low[1])
        axes.set_title(printable(str(table.items[item]))[:60], fontsize=10)
        handles = _draw_workers(axes, table, item, shapes)
        for outline in right:
            axes.add_patch(Polygon(outline, fill=False, edgecolor=palette.ink, linewidth=1.1, linestyle=(0, (4, 2))))
        for o, outline in zip(range(merged.start, merged.stop), found, strict=True):
            axes.add_patch(Polygon(outline, fill=False, edgecolor=palette.first, linewidth=2.4))
            label = "" if result.classes.tolist() == [""] else f"{printable(str(result.labels[o]))[:20]} "
            corner = outline[np.lexsort((outline[:, 0], outline[:, 1]))[0]]
            axes.annotate(
                f"{label}{result.confidence[o]:.0%}",
                corner,
                xytext=(0, 3),
                textcoords="offset points",
                color=palette.card,
                fontsize=7.5,
                fontweight="bold",
                va="bottom",
                bbox={"boxstyle": "square,pad=0.15", "facecolor": palette.first, "edgecolor": "none"},
            )
        handles.append(Line2D([], [], color=palette.first, linewidth=2.4, label=MERGED))
        if known is not None:
            handles.append(Line2D([], [], color=palette.ink, linewidth=1.1, linestyle=(0, (4, 2)), label="gold"))
        figure.legend(handles=handles, loc="outside lower center", ncols=min(7, len(handles)), fontsize=7.5)
        return figure


def _draw_workers(axes: Axes, table: Boxes, item: int, shapes: NDArray[np.float64]) -> list[Any]:
    """Draw each worker's boxes; return what the legend shows, those who found nothing too."""
    colours = mpl.colormaps["tab20"].colors  # type: ignore[attr-defined] # a list of colours, which its type hides
    first, last = int(table.item_indptr[item]), int(table.item_indptr[item + 1])
    start = int(table.answer_indptr[first])
    handles = []
    for n, answer in enumerate(range(first, last)):
        colour = colours[2 * n % 20 + n // 10 % 2]
        mine = range(int(table.answer_indptr[answer]) - start, int(table.answer_indptr[answer + 1]) - start)
        for o in mine:
            axes.add_patch(Polygon(shapes[o], fill=False, edgecolor=colour, linewidth=1.0))
        if n < NAMED_WORKERS:
            name = printable(str(table.workers[table.worker[answer]]))[:18]
            handles.append(Line2D([], [], color=colour, label=name if mine else f"{name} (nothing)"))
    if last - first > NAMED_WORKERS:
        handles.append(Line2D([], [], color="none", label=f"and {last - first - NAMED_WORKERS} more"))
    return handles


def _outlines(boxes: NDArray[np.float64], angle: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Return the four corners of each box, shape (n, 4, 2)."""
    half = boxes[:, None, 2:] / 2 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    if angle is not None:
        turn = np.radians(angle)[:, None]
        x, y = half[..., 0], half[..., 1]
        half = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], axis=-1)
    corners: NDArray[np.float64] = boxes[:, None, :2] + boxes[:, None, 2:] / 2 + half
    return corners


def _window(
    points: NDArray[np.float64], size: tuple[float, float] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the corners of what is shown: the picture, or the boxes with a margin, never extremely flat."""
    if size is not None:
        return np.zeros(2), np.array(size)
    low, high = points.min(axis=0), points.max(axis=0)
    extent = np.maximum(high - low, (high - low).max() / 4)
    middle = (low + high) / 2
    reach = extent * (0.5 + MARGIN) if math.isfinite(float(extent.max())) else np.ones(2)
    return middle - reach, middle + reach
