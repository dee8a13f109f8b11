"""``voxpop consolidate``: recorded answers into labels, without a job or a server."""

from __future__ import annotations

import time
from pathlib import Path  # noqa: TC003 - typer reads it
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voxpop.cli.options import JsonOption, examples
from voxpop.cli.output import Output, WrongInputError, table

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["app", "scores_against"]

app = typer.Typer(help="Merge recorded answers into labels.", no_args_is_help=True)
PLOT_SUFFIXES = (".png", ".svg")


@app.callback()
def _group() -> None:
    """Merge recorded answers into labels."""


@app.command(
    epilog=examples(
        "voxpop consolidate votes answers.csv.gz --gold truth.csv.gz",
        "voxpop consolidate votes answers.csv --method majority --out labels.csv",
        "voxpop consolidate votes answers.csv --plot workers.svg --json",
    )
)
def votes(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Answers: columns item, worker, label; CSV or JSON Lines.")
    ],
    method: Annotated[str, typer.Option(metavar="NAME", help="Consolidation method.")] = "dawid_skene",
    gold: Annotated[str, typer.Option(metavar="FILE", help="Gold labels: columns item, label.")] = "",
    out: Annotated[
        str, typer.Option(metavar="FILE", help="Write item, label, confidence here (.csv, .jsonl, +.gz).")
    ] = "",
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Plot each worker's quality (.png, .svg).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Merge what several people said about each item into one label with a confidence.

    The file may be a path or a URI, plain or gzipped. With gold labels it also says how often the labels are right
    (accuracy), and how far their confidences are from the truth (ece, log_loss; 0 is perfect). Items with gold are
    labeled from the answers alone, as all others.
    """
    from voxpop.consolidation.method import get_method
    from voxpop.formats.answers import read_gold, read_votes, write_columns

    if plot is not None and plot.suffix not in PLOT_SUFFIXES:
        raise WrongInputError(f"--plot {plot}: found {plot.suffix or 'no suffix'!r}, expected .png or .svg")
    printer = Output(as_json=as_json)
    chosen = get_method(method)
    read = read_votes(file)
    truth = read_gold(gold) if gold else {}
    started = time.perf_counter()
    result: Any = chosen.fit(read)
    found: dict[str, Any] = {
        "method": chosen.name,
        "n_items": read.n_items,
        "n_workers": read.n_workers,
        "n_classes": read.n_classes,
        "n_answers": read.n_votes,
        "seconds": time.perf_counter() - started,
    }
    if truth:
        found |= scores_against(result, truth, gold)
    if out:
        write_columns(out, {name: column.tolist() for name, column in result.to_columns().items()})
        found["labels"] = out
        printer.note(f"Labels: {out}")
    if plot:
        from voxpop.cli.plots import plot_worker_quality

        plot_worker_quality(result, plot)
        found["plot"] = plot
        printer.note(f"Plot: {plot}")
    printer.result(found, _shown(found))


def scores_against(result: Any, gold: dict[str, str], place: str) -> dict[str, Any]:
    """Return n_gold, accuracy, ece and log_loss of a result's labels.

    Raises:
        WrongInputError: no gold item was labeled; ``place`` names the file.
    """
    from voxpop.cli.scores import score

    found = score("", result, gold, "")
    if not found.n:
        raise WrongInputError(
            f"{place}: none of its {len(gold):,} items has answers; expected the same item names, "
            f"such as {str(result.items[0])!r}, found {next(iter(gold))!r}"
        )
    return {"n_gold": found.n, "accuracy": found.accuracy, "ece": found.ece, "log_loss": found.log_loss}


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
    "n_answers": ("answers", "{:,}"),
    "seconds": ("seconds", "{:.3f}"),
    "n_gold": ("gold", "{:,}"),
    "accuracy": ("accuracy", "{:.1%}"),
    "ece": ("ece", "{:.3f}"),
    "log_loss": ("log_loss", "{:.3f}"),
}
