"""Single-label classification: people choose one of the categories for an image or a text."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

import msgspec

from voxpop.formats import augmented
from voxpop.workers.task_types.base import TaskType

if TYPE_CHECKING:
    from voxpop.broker.models import JobSpec
    from voxpop.formats.augmented import SingleLabelType

__all__ = ["IMAGE_SINGLE_LABEL", "TEXT_SINGLE_LABEL", "SingleLabel", "SingleLabelAnswer"]


class SingleLabelAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``{"label": "x"}``: one of the categories that the item offers."""

    label: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class SingleLabel(TaskType):
    """The label is the place of the category among the job's, an int, as in files of Ground Truth (its manual 1.5)."""

    label_type: SingleLabelType

    def chosen(self, answer: SingleLabelAnswer) -> str:
        """Return the category."""
        return answer.label

    def value(self, spec: JobSpec, place: int) -> int:  # noqa: ARG002 - other types look the category up
        """Return the class index."""
        return place

    def metadata(self, spec: JobSpec, place: int, confidence: float, created_at_ms: int) -> dict[str, Any]:
        """Return confidence (two decimals, as the service writes it), job, class name, date and type."""
        return augmented.single_label_metadata(
            self.label_type,
            confidence=round(confidence, 2),
            job_name=spec.name,
            class_name=spec.categories[place],
            created_at_ms=created_at_ms,
        )

    def failed_metadata(self, spec: JobSpec, created_at_ms: int) -> dict[str, Any]:
        """Return job, date and type."""
        return augmented.failed_metadata(self.label_type, job_name=spec.name, created_at_ms=created_at_ms)


IMAGE_SINGLE_LABEL: Final = SingleLabel(
    name="image_single_label",
    title="Image classification, one category an image",
    answer=SingleLabelAnswer,
    source="source-ref",
    element="crowd-image-classifier",
    function="ImageMultiClass",
    methods=("auto", "dawid_skene", "majority"),
    default_method="auto",
    min_categories=2,
    label_type="image-classification",
)

TEXT_SINGLE_LABEL: Final = SingleLabel(
    name="text_single_label",
    title="Text classification, one category a text",
    answer=SingleLabelAnswer,
    source="source",
    element="crowd-classifier",
    function="TextMultiClass",
    methods=("auto", "dawid_skene", "majority"),
    default_method="auto",
    min_categories=2,
    label_type="text-classification",
)
