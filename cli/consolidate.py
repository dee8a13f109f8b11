"""``voxpop consolidate``: recorded answers into labels, without a job or a server."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path  # noqa: TC003 - typer reads it
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voxpop.cli import consolidate_boxes
from voxpop.cli.options import JsonOption, examples
from voxpop.cli.output import Output, WrongInputError, table
from voxpop.consolidation.method import UnknownMethodError

if TYPE_CHECKING:
    from rich.table import Table

    from voxpop.consolidation.recalibration import Correction
    from voxpop.consolidation.votes.result import VoteResult
    from voxpop.consolidation.votes.table import Repeats, Votes

__all__ = ["app", "scores_against"]

app = typer.Typer(help="Merge recorded answers into labels.", no_args_is_help=True)
PLOT_SUFFIXES = (".png", ".svg")


consolidate_boxes.register(app)


@app.callback()
def _group() -> None:
    """Merge recorded answers into labels."""


@app.command(
    epilog=examples(
        "voxpop consolidate votes answers.csv.gz --gold truth.csv.gz",
        "voxpop consolidate votes answers.parquet --method dawid_skene --param smoothing=2 --out labels.csv",
        "voxpop consolidate votes answers.csv --abstain unsure --gold truth.csv --calibrate temperature",
        "voxpop consolidate votes answers.csv --plot workers.svg --json",
    )
)
def votes(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Answers: columns item, worker, label; CSV, JSON Lines or Parquet.")
    ],
    method: Annotated[str, typer.Option(metavar="NAME", help="Consolidation method.")] = "auto",
    param: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A parameter of the method; may be repeated.")
    ] = None,
    known: Annotated[
        str, typer.Option(metavar="FILE", help="Labels that are known and teach the method: columns item, label.")
    ] = "",
    gold: Annotated[
        str, typer.Option(metavar="FILE", help="Labels to score against, which the method does not see.")
    ] = "",
    calibrate: Annotated[
        str, typer.Option(metavar="HOW", help="Correct confidences by --gold: temperature or isotonic.")
    ] = "",
    abstain: Annotated[str, typer.Option(metavar="LABEL", help="A label that stands for no opinion.")] = "",
    repeats: Annotated[
        str, typer.Option(metavar="RULE", help="Of a worker's several answers to an item: all count, or the last.")
    ] = "all",
    out: Annotated[
        str, typer.Option(metavar="FILE", help="Write item, label, confidence here (.csv, .jsonl, +.gz, .parquet).")
    ] = "",
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Plot each worker's quality (.png, .svg).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Merge what several people said about each item into one label with a confidence.

    The file may be a path or a URI, plain or gzipped. With --gold it also says how often the labels are right
    (accuracy), and how far their confidences are from the truth (ece, log_loss; 0 is perfect). Items with gold are
    labeled from the answers alone, as all others. Scores of corrected confidences are cross-validated: each fifth of
    the gold items is corrected by the other four.
    """
    from voxpop.formats.answers import read_gold, read_votes, write_columns

    if plot is not None and plot.suffix not in PLOT_SUFFIXES:
        raise WrongInputError(f"--plot {plot}: found {plot.suffix or 'no suffix'!r}, expected .png or .svg")
    printer = Output(as_json=as_json)
    chosen = _method(method, param or [])
    correction = _correction(calibrate, gold)
    with printer.working(f"reading {file}"):
        read = read_votes(file, abstain=abstain or None, repeats=_repeats(repeats))
        truth = read_gold(gold) if gold else {}
        if known:
            read = _with_known(read, known, read_gold(known))
    started = time.perf_counter()
    with printer.working(f"{chosen.name}: {read.n_votes:,} answers"):
        result: Any = chosen.fit(read)
    found: dict[str, Any] = {
        "method": chosen.name,
        "n_items": read.n_items,
        "n_workers": read.n_workers,
        "n_classes": read.n_classes,
        "n_answers": read.n_votes,
        "seconds": time.perf_counter() - started,
    }
    scored = result
    if correction:
        result, scored = _corrected(result, correction, truth, gold)
        found["calibrated"] = calibrate
    if truth:
        found |= scores_against(scored, truth, gold)
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


def _method(name: str, parameters: list[str]) -> Any:
    from voxpop.consolidation.method import get_method, parameter_problem

    given = {}
    for one in parameters:
        key, separator, text = one.partition("=")
        if not separator:
            raise WrongInputError(f"--param {one}: found no '='; expected NAME=VALUE, such as smoothing=2")
        try:
            given[key] = json.loads(text)
        except json.JSONDecodeError:
            given[key] = text
    try:
        return get_method(name, merges="votes", **given)
    except UnknownMethodError:
        raise
    except (TypeError, ValueError) as error:
        raise WrongInputError(f"--param: {parameter_problem(name, given, error)}") from None


def _correction(name: str, gold: str) -> type[Correction] | None:
    from voxpop.consolidation.recalibration import CORRECTIONS

    if not name:
        return None
    if name not in CORRECTIONS:
        raise WrongInputError(f"--calibrate {name}: expected one of {', '.join(CORRECTIONS)}")
    if not gold:
        raise WrongInputError(f"--calibrate {name}: it learns from gold labels; name their file with --gold")
    return CORRECTIONS[name]


def _repeats(rule: str) -> Repeats:
    for known in ("all", "last"):
        if rule == known:
            return known
    raise WrongInputError(f"--repeats {rule}: expected all or last")


def _with_known(votes: Votes, place: str, known: dict[str, str]) -> Votes:
    from voxpop.consolidation.votes.columns import VotesError

    try:
        return votes.with_gold(known)
    except VotesError as error:
        raise WrongInputError(f"{place}: {error}") from None


def _corrected(
    result: VoteResult, kind: type[Correction], gold: dict[str, str], place: str
) -> tuple[VoteResult, VoteResult]:
    """Return the result with corrected confidences, and one in which those of gold items were learned from others."""
    from voxpop.consolidation.recalibration import RecalibrationError, cross_validated

    truth = result.gold_codes(gold)
    rows = ((truth >= 0) & (truth < result.classes.size)).nonzero()[0]
    try:
        corrected = kind.fit(result.posterior[rows], truth[rows]).apply(result.posterior)
        held_out = corrected.copy()
        held_out[rows] = cross_validated(kind, result.posterior[rows], truth[rows])
    except RecalibrationError as error:
        raise WrongInputError(f"{place}: {error}") from None
    return dataclasses.replace(result, posterior=corrected), dataclasses.replace(result, posterior=held_out)


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
