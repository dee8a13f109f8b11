"""What a run came to: counts, what the labels are worth against gold, and its report. Reads the output tree."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from voxpop.cli.output import duration, table
from voxpop.cli.published import given_answers, published_labels
from voxpop.cli.report import JobReport
from voxpop.cli.scores import evaluate, method_title
from voxpop.workers.export import MANIFEST
from voxpop.workers.task_types import get_task_type

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.console import RenderableType

    from voxpop.cli.scores import Evaluation
    from voxpop.cli.status import JobView

__all__ = ["evaluated", "reported", "shown", "summary", "unmatched_gold"]

RESPONSES = "annotations/worker-response"


def evaluated(view: JobView, gold: Mapping[str, str]) -> Evaluation:
    """Return what the answers and labels of a job that has ended amount to.

    Args:
        view: the job.
        gold: labels by name of the item.

    Raises:
        StorageError, FormatError: the output cannot be read.
    """
    spec = view.job.spec
    labels = published_labels(view.job.output_uri, spec.attribute, gold)
    answers = given_answers(_root(view), spec, view.job.created_at_ms)
    count = f"{spec.replication or len(answers) / max(1, len(labels)):.3g}"
    return evaluate(answers, labels, f"{count} answer{'' if count == '1' else 's'} an item")


def unmatched_gold(found: Evaluation, gold: Mapping[str, str]) -> str:
    """Return what to say of gold labels that no item of the job has; empty if each has its item.

    Args:
        found: what the job's labels amount to.
        gold: labels by name of the item.
    """
    matched = len({label.item for label in found.labels if label.gold is not None})
    if matched >= len(gold):
        return ""
    return (
        f"{len(gold) - matched:,} of the {len(gold):,} gold labels name no item of this job, which has "
        f"{len(found.labels):,}, {matched:,} of them with gold; gold is found by an item's field `item`, else by its "
        "source or source-ref"
    )


def summary(view: JobView, found: Evaluation | None, *, seconds: float, report: str | None) -> dict[str, Any]:
    """Return the figures of a job that has ended.

    Args:
        view: the job.
        found: what its answers and labels amount to; figures about gold are left out without it.
        seconds: how long everything took.
        report: the path of the report, if one was written.
    """
    counts = _counts(view)
    told: dict[str, Any] = {
        "job": view.job.name,
        "status": view.job.status.value,
        **counts,
        "people": view.people,
        "people_needed": view.people_needed,
        "seconds": seconds,
        "output": view.job.output_uri,
        "report": report,
    }
    if found and found.published:
        told |= {"n_gold": found.published.n, "accuracy": found.published.accuracy, "ece": found.published.ece}
        for one in found.scores:
            told |= {f"{one.method}_accuracy": one.accuracy, f"{one.method}_ece": one.ece}
    return told


def shown(told: Mapping[str, Any], found: Evaluation | None) -> Iterator[RenderableType]:
    """Yield the figures for people.

    Args:
        told: the summary.
        found: what it was made from.
    """
    names = [
        name for name in ("items", "labeled", "failed", "unlabeled", "answers") if told[name] or name != "unlabeled"
    ]
    counts = table("job", "status", *names, "time", right=(*names, "time"))
    counts.add_row(told["job"], told["status"], *(f"{told[name]:,}" for name in names), duration(told["seconds"]))
    yield counts
    if found and found.published:
        columns = [found.published, *found.scores]
        titles = [method_title(one.method) for one in columns]
        worth = table(f"against {found.published.n:,} gold labels", *titles, right=tuple(titles))
        worth.add_row("accuracy", *(f"{one.accuracy:.1%}" for one in columns))
        worth.add_row("calibration error (ece, 0 is perfect)", *(f"{one.ece:.3f}" for one in columns))
        yield worth
    files = {"Labels": told["output"], "Report": told["report"]}
    yield "\n".join(f"{name}: {place}" for name, place in files.items() if place)


def reported(view: JobView, found: Evaluation, *, people: str, seconds: float, page: str, repeat: str) -> JobReport:
    """Return the report of a run.

    Args:
        view: the job.
        found: what its answers and labels amount to.
        people: who answered: ``simulated`` or ``recorded`` people.
        seconds: how long everything took.
        page: where the report will be.
        repeat: the command that does it again.
    """
    spec = view.job.spec
    kind = get_task_type(spec.task_type)
    number = len(found.answers.workers)
    named = spec.assignment == "named"
    question = f'They were asked: "{spec.title}" ' if spec.title else ""
    scores = [found.published, *found.scores] if found.published else []
    return JobReport(
        title=f"Labeling job {view.job.name}",
        lead=f"{number:,} {people} {'person' if number == 1 else 'people'} worked on {view.items:,} items. "
        f"{kind.title}. {question}"
        + ("Each item went to the people that it names." if named else f"The job wanted {found.per_item}."),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        facts=[
            ("status", view.job.status.value),
            *((name, f"{count:,}") for name, count in _counts(view).items() if count or name == "labeled"),
            ("people", f"{number:,}"),
            ("time", duration(seconds)),
            ("method", method_title(spec.method or kind.default_method)),
            *((method_title(one.method), f"{one.accuracy:.1%} right") for one in scores),
        ],
        evaluation=found,
        wanted=view.items * spec.replication,
        files=[
            (view.job.output_uri, "A label with its confidence for each line of the input, in Ground Truth's form."),
            (_root(view) + RESPONSES, "What each worker answered."),
            (page, "This page."),
        ],
        repeat=[(repeat, "Run the job again, into another folder; change something in its file first.")],
    )


def _counts(view: JobView) -> dict[str, int]:
    now = view.counters
    assert now is not None
    return {
        "items": view.items,
        "labeled": now.labeled,
        "failed": now.failed,
        "unlabeled": view.items - now.labeled - now.failed,
        "answers": now.answers,
    }


def _root(view: JobView) -> str:
    return view.job.output_uri.removesuffix(MANIFEST)
