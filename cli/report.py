"""The report of one job: a single HTML file with its own styles and drawings, no script, nothing from any network.

Built as a tree of elements, so every value is escaped and every tag closed by construction. What is in it is computed
in ``scores.py`` and drawn in ``plots.py``; the look is in ``report.css``. A job without gold gets the same report
without the parts that need it.
"""

from __future__ import annotations

import dataclasses
import math
import os
import xml.etree.ElementTree as ET
from heapq import nlargest, nsmallest
from importlib.resources import files
from typing import TYPE_CHECKING, Final

import numpy as np

from voxpop.cli import plots
from voxpop.cli.scores import method_title, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

    from voxpop.cli.scores import Answers, Evaluation, MethodScore, WorkerRow

__all__ = ["Happening", "JobReport", "render_report", "write_report"]

# Tables are for reading, however big the job: the tenth of its items with the least confidence, within these bounds ...
MIN_SHOWN_ITEMS: Final = 12
MAX_SHOWN_ITEMS: Final = 50
SHOWN_WORKERS: Final = 200  # ... and the busiest workers
BLOCKS: Final = frozenset({"div", "figure", "h2", "header", "p", "pre", "section", "style", "table", "tr"})  # own lines
NONE: Final = "\N{EN DASH}"


@dataclasses.dataclass(frozen=True)
class Happening:
    """One thing that happened while the job ran, and how we know."""

    at_seconds: float  # after the job was created
    title: str
    evidence: str
    held: bool | None = None  # whether what should follow from it was found to hold; None = nothing to check


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobReport:
    """Everything that a report shows.

    Attributes:
        title: the job, as a heading.
        lead: a few sentences that say what this was.
        created: when the report was made, as it is printed.
        facts: (name, value) of the summary, in order.
        evaluation: the job's answers and labels, and what they are worth.
        wanted: answers that the whole job wanted; 0 = not known.
        happenings: in order of time.
        compared: scores of other sets of answers, shown beside the job's own.
        files: (path as the reader can open it, what it is).
        repeat: (command, what it does).
    """

    title: str
    lead: str
    created: str
    facts: Sequence[tuple[str, str]]
    evaluation: Evaluation
    wanted: int
    happenings: Sequence[Happening] = ()
    compared: Sequence[MethodScore] = ()
    files: Sequence[tuple[str, str]] = ()
    repeat: Sequence[tuple[str, str]] = ()


def write_report(report: JobReport, path: Path) -> None:
    """Write the report; a reader sees the old file or the new one, never a part of it.

    Raises:
        OSError: it cannot be written; nothing is left of the attempt.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(render_report(report), encoding="utf-8")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def render_report(report: JobReport) -> str:
    """Return the report as one HTML document."""
    found = report.evaluation
    body = _el("main", _header(report))
    if report.happenings or len(found.answers):
        body.append(_what_happened(report))
    if found.published:
        body.append(_quality(found.scores, found.published, report.compared))
    if found.labels:
        body.append(_doubtful(found))
    if found.workers:
        body.append(_workers(found.workers))
    if report.files:
        body.append(_files(report))
    if report.repeat:
        body.append(_repeat(report))
    head = _el(
        "head",
        _el("meta", charset="utf-8"),
        _el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        _el("meta", name="color-scheme", content="light dark"),
        _el("title", report.title),
        _style(),
    )
    page = _el("html", head, _el("body", body), lang="en")
    for element in page.iter():
        if element.tag in BLOCKS:
            element.tail = "\n"
    return "<!doctype html>\n" + ET.tostring(page, encoding="unicode", method="html") + "\n"


def _header(report: JobReport) -> ET.Element:
    facts = _el("dl", class_="facts")
    for name, value in report.facts:
        facts.append(_el("div", _el("dt", name), _el("dd", value)))
    return _el(
        "header",
        _el("h1", report.title),
        _el("p", report.lead, class_="lead"),
        facts,
        _el("p", f"Made by voxpop, {report.created}.", class_="small"),
    )


def _what_happened(report: JobReport) -> ET.Element:
    section = _section("What happened" if report.happenings else "How the answers came in", "happened")
    times = report.evaluation.answers.at_seconds
    if times.size:
        marks = [one.at_seconds for one in report.happenings]
        section.append(
            _figure(
                plots.timeline_figure(times, report.wanted, marks, plots.PAGE),
                "timeline",
                f"Answers over time: {times.size:,} in {times.max():.1f} seconds.",
                "Answers that count, over time."
                + (" The numbers are the rows below." if marks else "")
                + (f" Dashed: the {report.wanted:,} that the job wanted." if report.wanted else ""),
                class_="wide",
            )
        )
    if report.happenings:
        rows = [
            (
                _el("td", str(number), class_="number"),
                _el("td", f"{one.at_seconds:.1f} s", class_="number"),
                _el("th", one.title, scope="row"),
                _el("td", one.evidence, class_="evidence"),
                _verdict(one.held),
            )
            for number, one in enumerate(report.happenings, 1)
        ]
        section.append(
            _table("Events", ("#", "time", "what", "how we know", "held"), rows, numbers=("#", "time"), kind="events")
        )
    return section


def _quality(scores: Sequence[MethodScore], published: MethodScore, compared: Sequence[MethodScore]) -> ET.Element:
    section = _section("How good the labels are", "quality")
    rows = [
        (
            _el("th", method_title(one.method), scope="row"),
            _el("td", one.answers, class_="line"),
            _el("td", _percent(one.accuracy), class_="number"),
            _el("td", f"{_percent(one.low)} to {_percent(one.high)}", class_="number"),
            _el("td", _decimal(one.ece), class_="number"),
            _el("td", _decimal(one.log_loss), class_="number"),
        )
        for one in (*scores, published, *compared)
    ]
    section.append(
        _table(
            "Methods against gold",
            ("method", "answers", "accuracy", "95% interval", "ECE", "log loss"),
            rows,
            numbers=("accuracy", "95% interval", "ECE", "log loss"),
        )
    )
    section.append(
        _el(
            "p",
            f"Against {published.n:,} gold labels. ECE: the mean gap between confidence and accuracy, 0 is best. "
            "Log loss: in nats, 0 is best; one wrong certainty costs 34.5.",
            class_="small",
        )
    )
    section.append(
        _el(
            "div",
            _figure(
                plots.accuracy_figure([*scores, *compared], plots.PAGE),
                "accuracy",
                "Accuracy of each method: "
                + "; ".join(
                    f"{method_title(one.method)}, {one.answers}: {_percent(one.accuracy)}"
                    for one in (*scores, *compared)
                ),
                "Accuracy of each method against gold, with its 95% interval.",
            ),
            _figure(
                plots.calibration_figure(scores, plots.PAGE),
                "calibration",
                "Confidence against accuracy: "
                + "; ".join(f"{method_title(one.method)}: ECE {_decimal(one.ece)}" for one in scores),
                "Does a confidence of 80% mean right in 80% of cases? Below the dashed line it promises too much.",
            ),
            class_="pair",
        )
    )
    return section


def _doubtful(found: Evaluation) -> ET.Element:
    section = _section("Items to look at again", "doubtful")
    labels = found.labels
    shown = min(MAX_SHOWN_ITEMS, max(MIN_SHOWN_ITEMS, len(labels) // 10))
    unanimous = _unanimous(found.answers)
    disputed = (place for place, label in enumerate(labels) if not label.reason and place not in unanimous)
    unsure = nsmallest(shown, disputed, key=lambda place: (labels[place].confidence, labels[place].item))
    missing = [place for place, label in enumerate(labels) if label.reason]
    parts = (
        [f"The {len(unsure):,} disputed of {len(labels) - len(missing):,} labels with the lowest confidence"]
        if unsure
        else []
    )
    parts += [f"{_first(shown, len(missing), 'item')} without a label"] if missing else []
    told = ", after ".join(parts)
    section.append(_el("p", f"{told}." if told else "None: everybody agreed about every item."))
    if not parts:
        return section
    places = [*missing[:shown], *unsure]
    said = _said(found.answers, places)
    with_gold = any(label.gold is not None for label in labels)
    rows = []
    for place in places:
        label = labels[place]
        row = [
            _el("th", _el("bdi", label.item), scope="row"),
            _el("td", _el("bdi", label.label) if not label.reason else f"none: {label.reason}"),
            _confidence(label.confidence),
            _el("td", said[place] or NONE, class_="line"),
        ]
        if with_gold:
            row.append(_el("td", NONE if label.gold is None else _el("bdi", label.gold)))
            row.append(_verdict(None if label.gold is None or label.reason else label.gold == label.label))
        rows.append(row)
    heads = ("item", "label", "confidence", "answers", *(("gold", "right") if with_gold else ()))
    section.append(_table("Items with the lowest confidence", heads, rows))
    return section


def _unanimous(answers: Answers) -> set[int]:
    """Return the items on which several people agreed without exception."""
    pairs = np.unique(np.stack([answers.item.astype(np.int64), answers.label.astype(np.int64)]), axis=1)
    items, kinds = np.unique(pairs[0], return_counts=True)
    several = np.bincount(answers.item, minlength=1)
    return {item for item in items[kinds == 1].tolist() if several[item] > 1}


def _said(answers: Answers, places: Sequence[int]) -> dict[int, str]:
    """Return what people said of some items: ``2 said yes, 1 said no``, the most frequent first."""
    wanted = np.isin(answers.item, places)
    items, said = answers.item[wanted], answers.label[wanted]
    told = {}
    for place in places:
        counts = np.bincount(said[items == place], minlength=len(answers.classes))
        told[place] = ", ".join(
            f"{counts[i]} said {answers.classes[i]}" for i in np.argsort(-counts, kind="stable") if counts[i]
        )
    return told


def _first(shown: int, count: int, name: str) -> str:
    things = f"{count:,} {name}{'' if count == 1 else 's'}"
    return things if count <= shown else f"{shown:,} of {things}"


def _workers(everybody: Sequence[WorkerRow]) -> ET.Element:
    section = _section("Workers", "workers")
    rows = everybody
    if len(everybody) > SHOWN_WORKERS:
        busiest = {row.worker for row in nlargest(SHOWN_WORKERS, everybody, key=lambda row: row.answers)}
        rows = [row for row in everybody if row.worker in busiest]
        section.append(_el("p", f"The {SHOWN_WORKERS} of {len(everybody):,} workers who gave the most answers."))
    with_gold = any(row.gold_answers for row in rows)
    timed = any(math.isfinite(row.median_seconds) for row in rows)
    drawings = _el("div", class_="pair")
    if with_gold:
        drawings.append(
            _figure(
                plots.workers_figure(rows, plots.PAGE),
                "workers",
                f"Estimated quality of {len(rows)} workers against their accuracy on gold.",
                "Each worker: quality as estimated from agreement alone, against gold. Larger dot: more answers.",
            )
        )
    if timed:
        drawings.append(
            _figure(
                plots.speed_figure(rows, plots.PAGE),
                "speed",
                f"Time an answer of {len(rows)} workers against how good they are.",
                "Are the quick ones careless? Time an answer against quality.",
            )
        )
    if len(drawings):
        section.append(drawings)
    heads = ["worker", "answers", "estimated quality"]
    heads += ["right on gold", "accuracy on gold"] if with_gold else []
    heads += ["median seconds"] if timed else []
    table_rows = []
    for row in rows:
        cells = [
            _el("th", _el("bdi", row.worker), scope="row"),
            _el("td", f"{row.answers:,}", class_="number"),
            _el("td", _percent(row.quality), class_="number"),
        ]
        if with_gold:
            right = round(row.gold_accuracy * row.gold_answers) if row.gold_answers else 0
            cells.append(_el("td", f"{right} of {row.gold_answers}", class_="number"))
            cells.append(_el("td", _percent(row.gold_accuracy), class_="number"))
        if timed:
            cells.append(_el("td", _decimal(row.median_seconds, 1), class_="number"))
        table_rows.append(cells)
    section.append(_table("Workers, the best estimated quality first", heads, table_rows, numbers=heads[1:]))
    return section


def _files(report: JobReport) -> ET.Element:
    section = _section("Where the files are", "files")
    rows = [(_el("th", _el("code", path), scope="row"), _el("td", what)) for path, what in report.files]
    section.append(_table("Files", ("file", "what it is"), rows))
    return section


def _repeat(report: JobReport) -> ET.Element:
    section = _section("Do it again", "repeat")
    for command, what in report.repeat:
        section.append(_el("p", what))
        section.append(_el("pre", _el("code", command), tabindex="0"))
    return section


def _figure(figure: Figure, name: str, told: str, caption: str, *, class_: str = "") -> ET.Element:
    drawing = plots.svg_element(figure, name, printable(told))
    return _el("figure", drawing, _el("figcaption", caption), **({"class_": class_} if class_ else {}))


def _table(
    caption: str,
    heads: Sequence[str],
    rows: Iterable[Sequence[ET.Element]],
    *,
    numbers: Sequence[str] = (),
    kind: str = "figures",
) -> ET.Element:
    """A table in a box of its own, which scrolls sideways where the screen is narrow."""
    table = _el("table", _el("caption", caption), class_=kind)
    table.append(
        _el(
            "thead",
            _el(
                "tr",
                *(_el("th", head, scope="col", **({"class_": "number"} if head in numbers else {})) for head in heads),
            ),
        )
    )
    table.append(_el("tbody", *(_el("tr", *cells) for cells in rows)))
    return _el("div", table, class_="scroll", tabindex="0", role="region", aria_label=caption)


def _section(title: str, name: str) -> ET.Element:
    return _el("section", _el("h2", title, id=name), aria_labelledby=name)


def _verdict(held: bool | None) -> ET.Element:
    if held is None:
        return _el("td", NONE)
    return _el("td", "yes" if held else "no", class_="yes" if held else "no")


def _confidence(value: float) -> ET.Element:
    if not math.isfinite(value):
        return _el("td", NONE)
    return _el(
        "td", _el("meter", min="0", max="1", value=f"{value:.3f}", aria_hidden="true"), f" {value:.2f}", class_="line"
    )


def _percent(value: float) -> str:
    return f"{value:.1%}" if math.isfinite(value) else NONE


def _decimal(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else NONE


def _style() -> ET.Element:
    return _el("style", (files("voxpop.cli") / "report.css").read_text(encoding="utf-8"))


def _el(tag: str, *content: ET.Element | str, **attributes: str) -> ET.Element:
    """An element. Strings become its text, escaped when written; attributes as ``class_``, ``aria_label``."""
    made = ET.Element(tag)
    for name, value in attributes.items():
        made.set(name.rstrip("_").replace("_", "-"), printable(value))
    last: ET.Element | None = None
    for part in content:
        if isinstance(part, ET.Element):
            made.append(part)
            last = part
            continue
        text = printable(part)
        if last is None:
            made.text = (made.text or "") + text
        else:
            last.tail = (last.tail or "") + text
    return made
