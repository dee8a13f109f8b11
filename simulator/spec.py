"""Specifications of simulated crowds as people write them: presets, ``name=value`` lists, TOML files; and their schema.

``parse_crowd`` turns the command line's ``--crowd`` into one of two typed things; what they mean is in ``recorded.py``
and ``annotators/``.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import Any, Final

import msgspec

from voxpop.simulator.annotators.category import CategorySpec
from voxpop.simulator.crowd import CrowdError

__all__ = ["PRESETS", "Replay", "parse_crowd", "parse_spec", "spec_schema"]

PRESETS: Final[dict[str, CategorySpec]] = {
    # A handful of trained colleagues: slow, good, and all alike.
    "careful-team": CategorySpec(
        workers=8, accuracy=0.95, accuracy_spread=0.02, decline_rate=0.01, think_seconds=9.0, arrive_seconds=300.0
    ),
    # A hired company: steady, a few who do not look.
    "vendor": CategorySpec(
        workers=40,
        accuracy=0.88,
        accuracy_spread=0.05,
        spammers=0.025,
        abandon_rate=0.005,
        think_seconds=6.0,
        arrive_seconds=900.0,
        k=10,
    ),
    # Anybody: from excellent to careless; they come, skip and leave as they like.
    "open-crowd": CategorySpec(
        workers=200,
        accuracy=0.78,
        accuracy_spread=0.12,
        spammers=0.1,
        decline_rate=0.03,
        abandon_rate=0.03,
        think_seconds=5.0,
        think_spread=0.8,
        arrive_seconds=3600.0,
    ),
    # Half of the accounts press one key as fast as they can.
    "attack": CategorySpec(
        workers=60,
        accuracy=0.78,
        accuracy_spread=0.12,
        spammers=0.5,
        spam="constant",
        abandon_rate=0.1,
        think_seconds=1.0,
        think_spread=0.8,
        arrive_seconds=60.0,
        k=20,
    ),
}


class Replay(msgspec.Struct, frozen=True):
    """Recorded people: the file of their answers."""

    uri: str


def parse_crowd(text: str) -> Replay | CategorySpec:
    """Return what ``replay:FILE`` or ``simulated[:SPEC]`` asks for.

    Raises:
        CrowdError: neither of the two, or the specification is wrong; the message names the field.
    """
    kind, _, rest = text.partition(":")
    if kind == "replay" and rest:
        return Replay(rest)
    if kind == "simulated":
        return parse_spec(rest)
    raise CrowdError(
        f"crowd {text!r} is not known; expected replay:FILE, simulated, simulated:PRESET ({', '.join(PRESETS)}), "
        "simulated:workers=50,accuracy=0.8 or simulated:FILE.toml"
    )


def parse_spec(text: str) -> CategorySpec:
    """Return the specification that ``text`` writes: "" (defaults), a preset, fields, a preset and fields, or a file.

    Examples: ``vendor``; ``workers=50,accuracy=0.8``; ``vendor,workers=20``; ``prior=0.7/0.2/0.1``; ``crowd.toml``.

    Raises:
        CrowdError: names the field, what was found and what was expected.
    """
    if text.endswith(".toml"):
        return _from_file(Path(text))
    first, _, rest = text.partition(",")
    values: dict[str, Any] = {}
    if first and "=" not in first:
        if first not in PRESETS:
            raise CrowdError(
                f"simulated crowd {first!r} is not known{_near(first, PRESETS)}; presets: {', '.join(PRESETS)}; or "
                "write fields as name=value, or name a file that ends in .toml"
            )
        values, text = msgspec.structs.asdict(PRESETS[first]), rest
    given: set[str] = set()
    for part in filter(None, text.split(",")):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value:
            raise CrowdError(f"simulated crowd: {part!r} is not name=value, such as accuracy=0.8")
        if name in given:
            raise CrowdError(f"simulated crowd: {name} is given twice; give it once")
        given.add(name)
        values[name] = [_number(weight) for weight in value.split("/")] if name == "prior" else _number(value)
    return _converted(values, "simulated crowd")


def spec_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a specification, for editors and for ``docs/``."""
    return msgspec.json.schema(CategorySpec)


def _from_file(path: Path) -> CategorySpec:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CrowdError(f"{path}: {error.strerror or error}; expected a TOML file of a simulated crowd") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CrowdError(f"{path} is not TOML: {error}") from None
    return _converted(values, str(path))


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _converted(values: dict[str, Any], where: str) -> CategorySpec:
    fields = CategorySpec.__struct_fields__
    for name in values:
        if name not in fields:
            raise CrowdError(f"{where}: unknown field {name!r}{_near(name, fields)}; fields: {', '.join(fields)}")
    try:
        return msgspec.convert(values, CategorySpec)
    except CrowdError as error:
        raise CrowdError(f"{where}: {error}") from None
    except msgspec.ValidationError as error:
        raise CrowdError(f"{where}: {_explained(str(error), values)}") from None


def _explained(message: str, values: dict[str, Any]) -> str:
    """Turn msgspec's "Expected `float` <= 1.0 - at `$.accuracy`" around: the field and what was found come first."""
    said, _, path = message.partition(" - at `$.")
    name = re.match(r"\w*", path)
    field = name.group() if name else ""
    if field not in values:
        return message
    if "enum value" in said:
        kinds = {info.name: info.type for info in msgspec.inspect.type_info(CategorySpec).fields}  # type: ignore[attr-defined]  # of a Struct
        said = f"Expected {' or '.join(kinds[field].values)}"
    for code, word in (("`float`", "a number"), ("`int`", "a whole number"), ("`str`", "text"), ("`array`", "a list")):
        said = said.replace(code, word)
    return f"{field} is {values[field]!r}: {said[0].lower()}{said[1:]}"


def _near(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f" (did you mean {close[0]!r}?)" if close else ""
