"""What the demo came to: each staged claim checked against the archive and the files, and how it is shown."""

from __future__ import annotations

import math
import shutil
from datetime import UTC, datetime
from shlex import quote
from typing import TYPE_CHECKING, Any, Final

import msgspec

from voxpop.cli.demo_evidence import Record, counted_once, handover, what_is_wrong
from voxpop.cli.demo_scene import CATEGORIES, JOB, OUTSIDE, REPLICATION
from voxpop.cli.output import CommandFailedError, duration, own_command, table
from voxpop.cli.published import published_labels
from voxpop.cli.report import Happening, JobReport, write_report
from voxpop.cli.scores import Answers, CountedAnswer, evaluate, fit_methods, method_title, score
from voxpop.formats.answers import write_columns

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import RenderableType

    from voxpop.cli.demo_scene import Story
    from voxpop.cli.scores import Evaluation, ItemLabel, MethodScore
    from voxpop.simulator.recorded import RecordedCrowd

__all__ = ["Summary", "deliver", "shown", "summarise"]

FEW: Final = f"{REPLICATION} answers an item"
OUTPUT: Final = f"{JOB}/manifests/output/output.manifest"
RESPONSES: Final = f"{JOB}/annotations/worker-response"


# Name, place in the output folder, what it is.
FILES: Final = (
    (
        "output_manifest",
        OUTPUT,
        "A label with its confidence for each line of the input, in Ground Truth's augmented form.",
    ),
    ("worker_responses", RESPONSES, "What each worker answered, one file an item."),
    ("report", "report.html", "This page."),
    ("input_manifest", f"{JOB}.manifest", "The input: one line an item."),
    ("job_file", "job.toml", "The job, for `voxpop run` and `voxpop job create`."),
    ("answers", "answers.csv", "The answers that counted: item, worker, label."),
    ("recorded_answers", "recorded.csv", "Everything that was recorded: all people, all items."),
    ("gold", "gold.csv", "The true labels."),
)
CHECKED: Final = {
    "outsider_is_told_not_found": "an outsider was told the same as if there were no job",
    "walked_away_item_goes_to_somebody_else": "an item that was walked away from went to somebody else",
    "repeated_submit_counts_once": "submits that arrived twice count once",
    "killed_actor_loses_nothing": "an actor process was killed half-way; nothing was lost",
    "every_label_and_answer_is_there": "every item has its label, and answers of different people",
    "history_keeps_every_promise": "the history of all calls keeps every promise",
}
JOB_FILE: Final = """\
# The job of `voxpop demo`. Run it again, with nothing running before or after: voxpop run job.toml --out again
name = "bluebirds"
task_type = "text_single_label"
categories = ["0", "1"]
replication = 5
title = "Is it an Indigo Bunting?"
instructions = "Answer 1 if the bird in the picture is an Indigo Bunting, 0 if it is not."

[input]
manifest = "bluebirds.manifest"

[pool]
name = "birdwatchers"

[crowd]
who = "replay:recorded.csv"
gold = "gold.csv"
"""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that the demo stages, and whether it held."""

    name: str
    held: bool
    at_seconds: float
    title: str
    evidence: str


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """A method's labels against gold."""

    method: str
    answers: str
    n_gold: int
    accuracy: float
    accuracy_low: float  # 95% interval
    accuracy_high: float
    ece: float
    log_loss: float


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What ``voxpop demo --json`` prints."""

    job: str
    items: int
    labels: int
    answers: int
    workers: int
    replication: int
    seconds: float
    answers_per_second: float
    claims: dict[str, bool]  # each staged claim: whether it was found to hold
    findings: list[Finding]
    scores: list[Scores]
    files: dict[str, str]
    all_held: bool


def summarise(story: Story, folder: Path, out: Path) -> Summary:
    """Check every claim, write the report and the answers, and return the summary.

    Args:
        story: what happened.
        folder: where the job's output is.
        out: where it will be, as the user named it.
    """
    crowd, record = story.crowd, story.record
    labels = published_labels(str(folder / OUTPUT), JOB, crowd.gold)
    answers = [
        CountedAnswer(
            one.item,
            one.worker,
            one.content["label"],
            (one.at_ms - story.created_at_ms) / 1000,
            one.seconds,
        )
        for one in record.used
    ]
    findings = _findings(story, record, labels)
    found = evaluate(Answers.collect(answers, CATEGORIES), labels, FEW)
    every = Answers.collect(_everything_recorded(crowd), CATEGORIES).votes()
    truth = {place: crowd.gold[item] for place, item in enumerate(crowd.items) if item in crowd.gold}
    many = [
        score(name, result, truth, f"all {len(crowd.workers)} answers an item")
        for name, result in fit_methods(every).items()
    ]
    _write_inputs(folder, crowd, answers)
    write_report(_report(story, found, findings, many, out), folder / "report.html")
    return Summary(
        job=JOB,
        items=len(crowd.items),
        labels=sum(not label.reason for label in labels),
        answers=len(answers),
        workers=len({answer.worker for answer in answers}),
        replication=REPLICATION,
        seconds=round(story.seconds, 3),
        answers_per_second=round(len(answers) / story.seconds, 2),
        claims={finding.name: finding.held for finding in findings},
        findings=findings,
        scores=[_scores(one) for one in (*found.scores, *many)],
        files={name: str(out / path) for name, path, _ in FILES},
        all_held=all(finding.held for finding in findings),
    )


def deliver(folder: Path, out: Path) -> None:
    """Put the results where the user wants them, in place of those of an earlier demo. Other files there stay.

    Raises:
        CommandFailedError: they cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        for entry in sorted(folder.iterdir()):  # the demo's marker first: what is cut short can be replaced
            target = out / entry.name
            if target.is_dir():
                shutil.rmtree(target)
            if entry.is_dir():
                shutil.copytree(entry, target)
            else:
                shutil.copyfile(entry, target)
    except OSError as error:
        raise CommandFailedError(f"the results cannot be written to {out}: {error.strerror or error}") from error


def _findings(story: Story, record: Record, labels: Sequence[ItemLabel]) -> list[Finding]:
    crowd = story.crowd
    lost = handover(record, story.walker_item, story.walker)
    once = counted_once(record, story.twice_items, story.twice)
    wrong = what_is_wrong(
        record, len(crowd.items), REPLICATION, lambda worker, item: _said(crowd, worker, item), story.acknowledged
    )
    in_order = [label.item for label in labels] == list(crowd.items)
    labeled = sum(not label.reason for label in labels)
    whole = not wrong and in_order and labeled == len(crowd.items)
    picture = crowd.items[story.walker_item]
    killed = bool(story.killed_pid and story.replaced_by_pid)
    return [
        Finding(
            name="outsider_is_told_not_found",
            held=bool(story.told_outside) and story.told_outside == story.told_unknown and story.refusals > 0,
            at_seconds=story.outsider_at_seconds,
            title="An outsider knocks",
            evidence=f"{story.outsider}, a member, asked for work from {OUTSIDE}, outside the allowlist, and "
            f'was told: "{story.told_outside}". Before the job existed, the same member was told from inside: '
            f'"{story.told_unknown}". Nobody can tell the two apart; the requester sees {story.refusals} refusal.',
        ),
        Finding(
            name="walked_away_item_goes_to_somebody_else",
            held=lost is not None,
            at_seconds=story.walked_at_seconds,
            title="A worker walks away",
            evidence=f"{story.walker} took picture {picture} and left it without a word. "
            + (
                f"The lease lapsed at {_after(story, lost.lapsed_at_ms)}, {lost.taken_by} got the picture at "
                f"{_after(story, lost.taken_at_ms)} and answered; no answer of {story.walker} to it counts."
                if lost
                else "The archive does not show that somebody else got it and answered."
            ),
        ),
        Finding(
            name="repeated_submit_counts_once",
            held=once and story.twice_same_receipts,
            at_seconds=story.twice_at_seconds,
            title="Submits arrive twice",
            evidence=f"{story.twice} sent each of {len(story.twice_items)} submits twice and got "
            f"{'the same receipt' if story.twice_same_receipts else 'another receipt'} the second time. "
            f"The archive has {'one answer for each' if once else 'not one answer for each'}.",
        ),
        Finding(
            name="killed_actor_loses_nothing",
            held=killed and whole,
            at_seconds=story.killed_at_seconds,
            title="An actor process is killed",
            evidence=f"SIGKILL to process {story.killed_pid} after {story.killed_after_answers} answers and "
            f"{story.killed_after_labels} labels. "
            + (
                f"Process {story.replaced_by_pid} took its place "
                f"{story.replaced_at_seconds - story.killed_at_seconds:.1f} s later."
                if killed
                else "No other process took its place."
            ),
        ),
        Finding(
            name="every_label_and_answer_is_there",
            held=whole,
            at_seconds=story.seconds,
            title="Nothing is lost",
            evidence=f"{labeled} labels in the output, {'in' if in_order else 'NOT in'} the order of the input. "
            f"{len(record.used)} answers count, {story.acknowledged} were acknowledged. "
            + (
                f"Each item has {REPLICATION}, of different people, and each is what that person said in the recording."
                if not wrong
                else "; ".join(wrong[:5])
            ),
        ),
        Finding(
            name="history_keeps_every_promise",
            held=not story.violations and story.calls > 0,
            at_seconds=story.seconds,
            title="The history holds",
            evidence=f"The history checker joined {story.calls} calls of clients with {record.events} events "
            f"of the log: {'no violation' if not story.violations else '; '.join(story.violations[:5])}.",
        ),
    ]


def _report(
    story: Story, found: Evaluation, findings: Sequence[Finding], many: Sequence[MethodScore], out: Path
) -> JobReport:
    crowd = story.crowd
    accuracies = [(method_title(one.method), f"{one.accuracy:.1%} right") for one in found.scores]
    return JobReport(
        title=f"Labeling job {JOB}",
        lead=f"{len(crowd.workers)} people said of {len(crowd.items)} pictures whether they show an Indigo Bunting. "
        f"What they answered is what they answered when the data was recorded; {REPLICATION} different people answered "
        "each picture here, through the real broker, and Dawid-Skene merged their answers into one label.",
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        facts=[
            ("items", str(len(crowd.items))),
            ("answers", str(len(found.answers))),
            ("people", str(len(found.answers.workers))),
            ("time", duration(story.seconds)),
            *accuracies,
        ],
        evaluation=found,
        wanted=len(crowd.items) * REPLICATION,
        happenings=sorted(
            (Happening(one.at_seconds, one.title, one.evidence, one.held) for one in findings),
            key=lambda one: one.at_seconds,
        ),
        compared=many,
        files=[(str(out / path), what) for _, path, what in FILES],
        repeat=next_steps(out),
    )


def shown(summary: Summary, out: Path) -> list[RenderableType]:
    """Return what the terminal shows at the end, at most 80 columns wide."""
    from rich.text import Text

    facts = Text(
        f"{summary.items} items, {summary.answers} answers of {summary.workers} people in {duration(summary.seconds)}, "
        f"{summary.answers_per_second:.0f} a second"
    )
    accuracy = table("against gold", "answers", "accuracy", "95%", "ECE", right=("accuracy", "95%", "ECE"))
    for one in summary.scores:
        accuracy.add_row(
            method_title(one.method),
            one.answers,
            f"{one.accuracy:.1%}",
            f"{one.accuracy_low:.0%} - {one.accuracy_high:.0%}",
            f"{one.ece:.3f}" if math.isfinite(one.ece) else "",
        )
    race = Text(
        "Who takes which picture is a race, so the first two rows change from run to run;\n"
        "with more answers Dawid-Skene learns whom to believe, as the last two show.\n",
        style="dim",
    )
    held = Text()
    for finding in summary.findings:
        held.append("✓ " if finding.held else "✗ ", style="green" if finding.held else "bold red")
        held.append(f"{CHECKED[finding.name]}\n" if finding.held else f"{finding.title}: {finding.evidence}\n")
    files = Text(f"Report     {out / 'report.html'}\nLabels     {out / OUTPUT}\nResponses  {out / RESPONSES}/")
    steps = Text("\nTry next\n", style="bold")
    for command, what in next_steps(out):
        steps.append(f"  {command}\n", style="cyan").append(f"      {what}\n", style="dim")
    return [Text(), facts, accuracy, race, held, files, steps]


def next_steps(out: Path) -> list[tuple[str, str]]:
    """Return three commands that work from here, and what each does."""
    here, voxpop = quote(str(out)), own_command()
    return [
        (
            f"{voxpop} consolidate votes {here}/answers.csv --gold {here}/gold.csv",
            "Merge the same answers again; --method majority does it by counting.",
        ),
        (
            f"{voxpop} run {here}/job.toml --out {here}-again",
            "Run the job from its file, with the same people; change replication in it first.",
        ),
        (f"{voxpop} demo --seed 1 --out another-demo", "The same pictures, with other people taking each of them."),
    ]


def _said(crowd: RecordedCrowd, worker: str, item: int) -> Any:
    return getattr(crowd.answer(worker, item), "content", None)


def _after(story: Story, at_ms: int) -> str:
    return f"{(at_ms - story.created_at_ms) / 1000:.1f} s"


def _everything_recorded(crowd: RecordedCrowd) -> list[CountedAnswer]:
    return [
        CountedAnswer(item, worker, said["label"], 0.0)
        for item in range(len(crowd.items))
        for worker in crowd.workers
        if (said := _said(crowd, worker, item)) is not None
    ]


def _write_inputs(folder: Path, crowd: RecordedCrowd, answers: Sequence[CountedAnswer]) -> None:
    """Write what the next commands work on."""
    for name, some in (("answers.csv", answers), ("recorded.csv", _everything_recorded(crowd))):
        columns = {
            "item": [crowd.items[answer.item] for answer in some],
            "worker": [answer.worker for answer in some],
            "label": [answer.label for answer in some],
        }
        write_columns(str(folder / name), columns)
    write_columns(str(folder / "gold.csv"), {"item": list(crowd.gold), "label": list(crowd.gold.values())})
    (folder / "job.toml").write_text(JOB_FILE, encoding="utf-8")


def _scores(one: MethodScore) -> Scores:
    return Scores(
        method=one.method,
        answers=one.answers,
        n_gold=one.n,
        accuracy=one.accuracy,
        accuracy_low=one.low,
        accuracy_high=one.high,
        ece=one.ece,
        log_loss=one.log_loss,
    )
