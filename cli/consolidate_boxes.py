"""``voxpop consolidate boxes``: boxes that several people drew into one set, without a job or a server."""

from __future__ import annotations

import json
import time
from pathlib import Path  # noqa: TC003 - typer reads it
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voxpop.cli.options import JsonOption, examples
from voxpop.cli.output import Output, WrongInputError, table
from voxpop.consolidation.method import UnknownMethodError

if TYPE_CHECKING:
    from rich.table import Table

    from voxpop.consolidation.boxes.result import BoxesResult
    from voxpop.consolidation.boxes.table import Boxes
    from voxpop.formats.model import Problem

__all__ = ["register"]

SHOWN_PROBLEMS = 5


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "boxes",
        epilog=examples(
            "voxpop consolidate boxes answers.csv.gz --gold truth.csv.gz",
            "voxpop consolidate boxes annotators/ --method box_median --param quorum=0.6 --out merged.json",
            "voxpop consolidate boxes detections.json --method box_wbf --param iou=0.6 --plot pictures",
        ),
    )(boxes)


def boxes(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="Boxes: CSV or JSON Lines with item, worker, left, top, width, height; COCO; a folder of annotators.",
        ),
    ],
    method: Annotated[str, typer.Option(metavar="NAME", help="Consolidation method.")] = "box_weighted",
    param: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A parameter of the method; may be repeated.")
    ] = None,
    gold: Annotated[
        str, typer.Option(metavar="FILE", help="Boxes to score against, which the method does not see.")
    ] = "",
    iou: Annotated[float, typer.Option(help="Least intersection over union of a match with gold.")] = 0.5,
    out: Annotated[
        str, typer.Option(metavar="FILE", help="Write merged boxes here (.csv, .jsonl, +.gz, .parquet; .json is COCO).")
    ] = "",
    plot: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Draw a sample of items: everyone's boxes and the merged ones.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Merge the boxes that several people drew in each picture into one set with confidences.

    The file may be a path or a URI, plain or gzipped; docs/boxes.md tells what each format looks like. A row with an
    item and a worker and no box says that they found nothing. With --gold it also says how many boxes are right: those
    that overlap a gold box of their class by --iou, one each.
    """
    from voxpop.formats.boxes import read_boxes, read_gold_boxes, write_merged

    if not 0 < iou <= 1:
        raise WrongInputError(f"--iou {iou}: expected above 0 and at most 1")
    printer = Output(as_json=as_json)
    chosen = made_method(method, param or [], merges="boxes")
    with printer.working(f"reading {file}"):
        read = read_boxes(file)
        truth = read_gold_boxes(gold) if gold else None
    _tell_left_out(printer, [*read.left_out, *(truth.left_out if truth else [])])
    given = read.boxes
    started = time.perf_counter()
    with printer.working(f"{chosen.name}: {given.n_objects:,} boxes"):
        result: Any = chosen.fit(given)
    found: dict[str, Any] = {
        "method": chosen.name,
        "n_items": given.n_items,
        "n_workers": given.n_workers,
        "n_classes": given.n_classes,
        "n_answers": given.n_answers,
        "n_boxes": given.n_objects,
        "n_merged": result.n_objects,
        "seconds": time.perf_counter() - started,
        "n_left_out": len(read.left_out),
    }
    if truth:
        found |= _scores(result, truth.boxes, iou, gold)
    if out:
        write_merged(out, result, read.image_sizes)
        found["merged"] = out
        printer.note(f"Merged boxes: {out}")
    if plot:
        from voxpop.cli.box_plots import plot_items

        with printer.working("drawing"):
            files = plot_items(plot, given, result, truth.boxes if truth else None, read.image_sizes)
        found["plots"] = files
        printer.note(f"Plots: {len(files)} items in {plot}")
    printer.result(found, _shown(found))


def made_method(name: str, parameters: list[str], *, merges: str) -> Any:
    """Return a method with parameters as they are typed: ``NAME=VALUE``, values in JSON or text.

    Raises:
        UnknownMethodError: there is none for these annotations.
        WrongInputError: a parameter is wrong.
    """
    from voxpop.consolidation.method import get_method, parameter_problem

    given = {}
    for one in parameters:
        key, separator, text = one.partition("=")
        if not separator:
            raise WrongInputError(f"--param {one}: found no '='; expected NAME=VALUE, such as iou=0.5")
        try:
            given[key] = json.loads(text)
        except json.JSONDecodeError:
            given[key] = text
    try:
        return get_method(name, merges=merges, **given)
    except UnknownMethodError:
        raise
    except (TypeError, ValueError) as error:
        raise WrongInputError(f"--param: {parameter_problem(name, given, error)}") from None


def _tell_left_out(printer: Output, problems: list[Problem]) -> None:
    if not problems:
        return
    shown = [f"  {problem}" for problem in problems[:SHOWN_PROBLEMS]]
    if len(problems) > SHOWN_PROBLEMS:
        shown.append(f"  ... and {len(problems) - SHOWN_PROBLEMS:,} more")
    printer.warn("\n".join([f"{len(problems):,} things in the input were left out:", *shown]))


def _scores(result: BoxesResult, gold: Boxes, iou: float, place: str) -> dict[str, Any]:
    from voxpop.consolidation.boxes.scores import score_boxes

    if not set(gold.items.tolist()) & set(result.items.tolist()):
        raise WrongInputError(
            f"{place}: none of its {gold.n_items:,} items has answers; expected the same item names, "
            f"such as {str(result.items[0])!r}, found {str(gold.items[0])!r}"
        )
    scores = score_boxes(result, gold, iou)
    return {
        "n_gold": scores.n_gold,
        "f1": scores.f1,
        "precision": scores.precision,
        "recall": scores.recall,
        "mean_iou": scores.mean_similarity,
    }


def _shown(found: dict[str, Any]) -> Table:
    names = [name for name in COLUMNS if name in found]
    rows = table(*(COLUMNS[name][0] for name in names), right=tuple(COLUMNS[name][0] for name in names[1:]))
    rows.add_row(*(COLUMNS[name][1].format(found[name]) for name in names))
    return rows


COLUMNS = {
    "method": ("method", "{}"),
    "n_items": ("items", "{:,}"),
    "n_workers": ("workers", "{:,}"),
    "n_classes": ("classes", "{:,}"),
    "n_boxes": ("boxes", "{:,}"),
    "n_merged": ("merged", "{:,}"),
    "seconds": ("seconds", "{:.3f}"),
    "n_gold": ("gold", "{:,}"),
    "f1": ("f1", "{:.3f}"),
    "precision": ("precision", "{:.3f}"),
    "recall": ("recall", "{:.3f}"),
    "mean_iou": ("mean iou", "{:.3f}"),
}
