"""``voxpop agreement``: how far people agree, before anybody believes a label."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from voxpop.cli.options import JsonOption, examples
from voxpop.cli.output import Output, WrongInputError, table

if TYPE_CHECKING:
    from rich.table import Table

    from voxpop.consolidation.agreement import Coefficient, Level
    from voxpop.consolidation.votes.table import Votes

__all__ = ["register"]

SHOWN_ROWS = 8
TITLES = {
    "krippendorff_alpha": "Krippendorff's alpha",
    "fleiss_kappa": "Fleiss' kappa",
    "gwet_ac1": "Gwet's AC1",
    "percent_agreement": "share of pairs that agree",
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "agreement",
        rich_help_panel="Tools",
        epilog=examples(
            "voxpop agreement answers.csv.gz",
            "voxpop agreement stars.csv --level ordinal",
            "voxpop agreement answers.csv --pairs 20 --json",
        ),
    )(agreement)


def agreement(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Answers: columns item, worker, label; CSV, JSON Lines or Parquet.")
    ],
    level: Annotated[
        str, typer.Option(metavar="LEVEL", help="What labels mean: nominal, ordinal, interval or ratio.")
    ] = "nominal",
    classes: Annotated[
        str, typer.Option(metavar="A,B,C", help="All classes in their order, for ordinal text labels.")
    ] = "",
    resamples: Annotated[int, typer.Option(min=0, help="Bootstrap samples of the items; 0 for no intervals.")] = 1000,
    confidence: Annotated[float, typer.Option(help="Confidence of the intervals.")] = 0.95,
    pairs: Annotated[int, typer.Option(min=0, help="Show this many pairs of workers, least agreeing first.")] = 0,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Say how far workers agree on the same items, beyond what chance explains.

    1 is perfect, 0 is chance. Below about .67 (Krippendorff's rule of thumb) labels are doubtful, whatever method
    merges them: look at the classes and workers that stand out, and at the instructions. Intervals come from drawing
    items anew.
    """
    from voxpop.consolidation import agreement as package

    printer = Output(as_json=as_json)
    measured = _level(level)
    votes = _read(file, measured, classes)
    with printer.progress("resamples", resamples) as advance:
        found = package.agreement(
            votes, measured, resamples=resamples, confidence=confidence, seed=seed, progress=advance
        )
    if found[0].n_items == 0:
        raise WrongInputError(f"{file}: no item has two answers; agreement needs items that several people answered")
    by_class = package.class_alpha(votes)
    by_worker = package.worker_agreement(votes)
    document: dict[str, Any] = {
        "level": level,
        "n_items": votes.n_items,
        "n_workers": votes.n_workers,
        "n_classes": votes.n_classes,
        "n_answers": votes.n_votes,
        "n_items_compared": found[0].n_items,
        "coefficients": [_document(one) for one in found],
        "classes": [
            {"class": name, "krippendorff_alpha": _number(value)}
            for name, value in zip(votes.classes.tolist(), by_class.tolist(), strict=True)
        ],
        "workers": [
            {"worker": name, "agreement": _number(value)}
            for name, value in zip(votes.workers.tolist(), by_worker.tolist(), strict=True)
        ],
    }
    shown: list[Any] = [_coefficients(found), _classes(document["classes"]), _workers(document["workers"])]
    if pairs:
        document["pairs"] = _pairs(votes, pairs)
        shown.append(_pair_table(document["pairs"]))
    printer.result(document, *shown)


def _level(text: str) -> Level:
    from voxpop.consolidation.agreement import LEVELS

    for level in LEVELS:
        if level == text:
            return level
    raise WrongInputError(f"--level {text}: expected one of {', '.join(LEVELS)}")


def _read(file: str, level: Level, classes: str) -> Votes:
    """Return the answers; labels that are numbers are numbers where their size matters."""
    from voxpop.consolidation.votes.columns import VotesError
    from voxpop.consolidation.votes.table import Votes
    from voxpop.formats.answers import read_answers

    columns = list(zip(*read_answers(file), strict=True)) or [(), (), ()]
    labels: Any = columns[2]
    order: list[Any] | None = classes.split(",") if classes else None
    if level != "nominal" and order is None:
        try:
            labels = [float(label) for label in labels]
        except ValueError:
            text = next(label for label in labels if not _is_number(label))
            hint = (
                "name them in their order: --classes low,middle,high" if level == "ordinal" else "use --level ordinal"
            )
            raise WrongInputError(
                f"{file}: label {text!r} is no number, so its {level} place is unknown; {hint}"
            ) from None
    try:
        return Votes.from_columns(columns[0], columns[1], labels, classes=order)
    except VotesError as error:
        raise WrongInputError(f"{file}: {error}") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _document(one: Coefficient) -> dict[str, Any]:
    return {
        "name": one.name,
        "value": _number(one.value),
        "low": _number(one.low),
        "high": _number(one.high),
        "confidence": one.confidence,
    }


def _number(value: float) -> float | None:
    return None if value != value else value  # noqa: PLR0124 - JSON has no NaN


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _coefficients(found: list[Coefficient]) -> Table:
    interval = f"{found[0].confidence:.0%} interval"
    rows = table("coefficient", "value", interval, right=("value", interval))
    for one in found:
        shown = "-" if _number(one.low) is None else f"{one.low:.3f} to {one.high:.3f}"
        rows.add_row(TITLES[one.name], _text(_number(one.value)), shown)
    return rows


def _classes(classes: list[dict[str, Any]]) -> Table:
    rows = table("class against the rest", "alpha", right=("alpha",))
    for one in sorted(classes, key=lambda one: (one["krippendorff_alpha"] is None, one["krippendorff_alpha"]))[
        :SHOWN_ROWS
    ]:
        rows.add_row(str(one["class"]), _text(one["krippendorff_alpha"]))
    if len(classes) > SHOWN_ROWS:
        rows.add_row(f"... {len(classes) - SHOWN_ROWS} more with --json", "")
    return rows


def _workers(workers: list[dict[str, Any]]) -> Table:
    known = sorted((one for one in workers if one["agreement"] is not None), key=lambda one: one["agreement"])
    rows = table("worker, least agreeing first", "agrees with others", right=("agrees with others",))
    for one in known[:SHOWN_ROWS]:
        rows.add_row(str(one["worker"]), f"{one['agreement']:.1%}")
    if len(workers) > SHOWN_ROWS:
        rows.add_row(f"... {len(workers) - SHOWN_ROWS} more with --json", "")
    return rows


def _pairs(votes: Votes, count: int) -> list[dict[str, Any]]:
    import numpy as np

    from voxpop.consolidation.agreement import worker_pairs

    found = worker_pairs(votes, min_items=2)
    order = np.lexsort((-found.n_items, np.nan_to_num(found.kappa, nan=np.inf)))[:count]
    return [
        {
            "first": votes.workers[found.first[row]],
            "second": votes.workers[found.second[row]],
            "n_items": int(found.n_items[row]),
            "agreement": float(found.agreement[row]),
            "cohen_kappa": _number(float(found.kappa[row])),
        }
        for row in order.tolist()
    ]


def _pair_table(pairs: list[dict[str, Any]]) -> Table:
    rows = table("pair of workers", "items", "agree", "kappa", right=("items", "agree", "kappa"))
    for one in pairs:
        agree = f"{one['agreement']:.1%}"
        rows.add_row(f"{one['first']}, {one['second']}", f"{one['n_items']:,}", agree, _text(one["cohen_kappa"]))
    return rows
