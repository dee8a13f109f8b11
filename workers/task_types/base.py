"""What a task type is: one immutable object that names everything special about one kind of question.

The registry that finds it by name is in ``__init__.py``; how answers are counted is in ``ballots.py``; when an item is
done is in ``policy.py``. ``docs/adding-a-task-type.md`` adds one step by step.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from voxpop.broker.errors import InvalidInputError
from voxpop.consolidation.method import UnknownMethodError, get_method, parameter_problem
from voxpop.formats.augmented import check_label_attribute
from voxpop.formats.model import FormatError

if TYPE_CHECKING:
    from voxpop.broker.models import JobSpec
    from voxpop.formats.model import Item

__all__ = ["TaskType"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskType(abc.ABC):
    """One kind of question that people are asked about items, and answer by choosing one class.

    The portal's page and the simulator's annotator of a task type are found under the same ``name``.

    Attributes:
        name: as in a job's ``task_type``, and in the entry point group ``voxpop.task_types``.
        title: for people.
        answer: the schema of an answer, plain JSON values; also the JSON Schema that the portal and other clients get.
        source: which field an item has to have: ``source`` (inline text) or ``source-ref`` (a URI).
        element: the key of the answer in worker-response files, which is the name of the page's input element.
        function: suffix of Ground Truth's pre- and post-annotation functions, ``PRE-<function>``, ``ACS-<function>``.
        methods: consolidation methods to offer, by their names in ``voxpop.methods``; a job may name another one.
        default_method: the one that a job gets which names none.
        min_categories: how many categories a job has to have.
    """

    name: str
    title: str
    answer: type[msgspec.Struct]
    source: Literal["source", "source-ref"]
    element: str
    function: str
    methods: tuple[str, ...]
    default_method: str
    min_categories: int

    @abc.abstractmethod
    def chosen(self, answer: Any) -> str:
        """Return the category that an answer, an instance of ``self.answer``, chooses."""

    @abc.abstractmethod
    def value(self, spec: JobSpec, place: int) -> Any:
        """Return the label, as the output manifest spells it, for the category at ``place`` of the job's."""

    @abc.abstractmethod
    def metadata(self, spec: JobSpec, place: int, confidence: float, created_at_ms: int) -> dict[str, Any]:
        """Return the label's metadata, keys in the order of the output manifest.

        Args:
            spec: the job.
            place: of the label's category among the job's.
            confidence: probability of the label, 0 to 1; 0 if only one person answered.
            created_at_ms: when the answers were consolidated, milliseconds since the epoch.
        """

    @abc.abstractmethod
    def failed_metadata(self, spec: JobSpec, created_at_ms: int) -> dict[str, Any]:
        """Return the metadata of an item that ended without a label."""

    def method_of(self, spec: JobSpec) -> Any:
        """Return the job's consolidation method with its parameters.

        Raises:
            InvalidInputError: no such method, or not its parameters.
        """
        name, given = spec.method or self.default_method, spec.method_parameters
        try:
            return get_method(name, merges="votes", **given)
        except UnknownMethodError as error:
            raise InvalidInputError(f"job {spec.name!r}: {error}") from None
        except (TypeError, ValueError) as error:
            problem = parameter_problem(name, given, error)
            raise InvalidInputError(f"job {spec.name!r}: method_parameters: {problem}") from None

    def check_spec(self, spec: JobSpec) -> None:
        """Check what only a task type can know about a job.

        Raises:
            InvalidInputError: too few categories, a method that does not fit, or a label attribute that cannot be.
        """
        if len(spec.categories) < self.min_categories:
            raise InvalidInputError(
                f"job {spec.name!r}: {len(spec.categories)} categories given; {self.name} needs at least "
                f"{self.min_categories}"
            )
        try:
            check_label_attribute(spec.attribute)
        except FormatError as error:
            raise InvalidInputError(f"job {spec.name!r}: {error}") from None
        self.method_of(spec)

    def check_item(self, item: Item) -> tuple[str, str] | None:
        """Return what is wrong with an item, as (field, message), or None."""
        if (item.source is None) is (self.source == "source"):
            found = "source-ref" if self.source == "source" else "source"
            kind = "inline text" if self.source == "source" else "the URI of a file"
            return found, f"is set, but {self.name} takes {self.source!r}, {kind}"
        if item.categories is not None and len(item.categories) < self.min_categories:
            return (
                "voxpop-categories",
                f"has {len(item.categories)} categories; {self.name} needs at least {self.min_categories}",
            )
        return None

    def check_answer(self, spec: JobSpec, item: Item, content: Any) -> None:
        """Check an answer before it is submitted: in the portal, the command line, the simulator's driver.

        Raises:
            InvalidInputError: it does not follow the schema, or chooses what the item does not offer.
        """
        try:
            choice = self.chosen(msgspec.convert(content, self.answer))
        except msgspec.ValidationError as error:
            raise InvalidInputError(f"answer to item {item.index} of job {spec.name!r}: {error}") from None
        offered = spec.categories if item.categories is None else item.categories
        if choice not in offered:
            some = ", ".join(repr(name) for name in offered[:8]) + (", ..." if len(offered) > 8 else "")
            raise InvalidInputError(
                f"answer to item {item.index} of job {spec.name!r}: {choice!r} is not offered; choose one of {some}"
            )

    def vote_of(self, spec: JobSpec, content: bytes) -> int | None:
        """Return the place among the job's categories that an archived answer chooses; None if it cannot be used."""
        try:
            return spec.categories.index(self.chosen(msgspec.json.decode(content, type=self.answer)))
        except (msgspec.DecodeError, ValueError):  # a ValidationError is a DecodeError
            return None
