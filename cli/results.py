"""What a run came to: counts, and what the labels are worth against gold. Reads the output tree, as anybody could."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from voxpop.cli.crowds import item_name
from voxpop.cli.output import duration, table
from voxpop.consolidation import Votes, get_method
from voxpop.consolidation.calibration import ece
from voxpop.formats.augmented import read_label
from voxpop.formats.manifest import read_manifest
from voxpop.formats.responses import read_responses
from voxpop.workers.task_types import get_task_type

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.console import RenderableType

    from voxpop.broker.models import JobSpec
    from voxpop.cli.status import JobView

__all__ = ["shown", "summary"]

MANIFEST = "manifests/output/output.manifest"


def summary(view: JobView, gold: Mapping[str, str], *, seconds: float) -> dict[str, Any]:
    """Return the figures of a job that has ended.

    Args:
        view: the job.
        gold: labels by name of the item; figures about them are left out if none of the items has one.
        seconds: how long everything took.
    """
    now = view.counters
    assert now is not None
    found: dict[str, Any] = {
        "job": view.job.name,
        "status": view.job.status.value,
        "items": view.items,
        "labeled": now.labeled,
        "failed": now.failed,
        "unlabeled": view.items - now.labeled - now.failed,
        "answers": now.answers,
        "people": view.people,
        "people_needed": view.people_needed,
        "seconds": seconds,
        "output": view.job.output_uri,
    }
    return found | (_against_gold(view, gold) if gold else {})


def shown(found: dict[str, Any]) -> Iterator[RenderableType]:
    """Yield the figures for people."""
    names = [
        name for name in ("items", "labeled", "failed", "unlabeled", "answers") if found[name] or name != "unlabeled"
    ]
    counts = table("job", "status", *names, "time", right=(*names, "time"))
    counts.add_row(found["job"], found["status"], *(f"{found[name]:,}" for name in names), duration(found["seconds"]))
    yield counts
    if "n_gold" in found:
        worth = table(f"against {found['n_gold']:,} gold labels", "labels", "majority", right=("labels", "majority"))
        worth.add_row("accuracy", f"{found['accuracy']:.1%}", f"{found['majority_accuracy']:.1%}")
        worth.add_row("calibration error (ece, 0 is perfect)", f"{found['ece']:.3f}", f"{found['majority_ece']:.3f}")
        yield worth
    yield f"Labels: {found['output']}"


def _against_gold(view: JobView, gold: Mapping[str, str]) -> dict[str, Any]:
    """Compare the labels, and those that a plain majority of the same answers would have given, with gold."""
    spec, root = view.job.spec, view.job.output_uri.removesuffix(MANIFEST)
    names: dict[int, str] = {}
    classes: list[str] = []
    truth: list[str] = []
    confidence: list[float] = []
    for item in read_manifest(view.job.output_uri):
        name = item_name(item)
        label = read_label(item, spec.attribute)
        if name not in gold or label is None or label.failure_reason is not None or not label.metadata:
            continue
        names[item.index] = name
        truth.append(gold[name])
        classes.append(label.metadata["class-name"])
        confidence.append(label.metadata["confidence"])
    if not names:
        return {}
    right = np.array(classes) == np.array(truth)
    return {
        "n_gold": len(names),
        "accuracy": float(right.mean()),
        "ece": ece(confidence, right),
        **_majority(spec, root, {index: gold[name] for index, name in names.items()}),
    }


def _majority(spec: JobSpec, root: str, gold: dict[int, str]) -> dict[str, Any]:
    """Return what majority vote would have been worth on the same items and answers."""
    kind = get_task_type(spec.task_type)
    items: list[int] = []
    workers: list[str] = []
    labels: list[str] = []
    for answer in read_responses(root):
        if answer.item in gold:
            items.append(answer.item)
            workers.append(answer.worker)
            labels.append(answer.content[kind.element]["label"])
    result: Any = get_method("majority").fit(Votes.from_columns(items, workers, labels))
    right = result.labels == np.array([gold[item] for item in result.items.tolist()])
    return {"majority_accuracy": float(right.mean()), "majority_ece": ece(result.confidence, right)}
