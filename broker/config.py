"""All settings: what they are called, what they mean, where their values come from, and what is said of a wrong one.

Later sources win: the defaults here, then ``voxpop.toml``, then environment variables ``VOXPOP_*``, then what the
caller gives explicitly. What a setting does is the business of whoever reads it; a job's own options are no settings.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from voxpop.broker.connect import check_url, url_database, with_database, without_password
from voxpop.broker.errors import ConfigError
from voxpop.broker.limits import MAX_LEASE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CONFIG_FILE", "ENVIRONMENT_PREFIX", "Config", "Setting"]

CONFIG_FILE: Final = "voxpop.toml"
ENVIRONMENT_PREFIX: Final = "VOXPOP_"
STORAGE_SCHEMES: Final = ("file", "s3", "gs", "az")

DEFAULT: Final = "default"
EXPLICIT: Final = "given explicitly"


class Setting(msgspec.Struct, frozen=True):
    """One line of ``voxpop config show``. The value is fit to be shown: a password in it is ``***``."""

    name: str
    value: str
    origin: str
    meaning: str


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Every setting, checked. Made by ``Config.load``; a field's ``Meta`` holds its meaning and its bounds."""

    data_dir: Annotated[
        Path, Meta(description="Directory of the embedded server and, unless storage says otherwise, of all results.")
    ] = Path("voxpop-data")
    redis_url: Annotated[
        str, Meta(description="Server to use: redis://, rediss:// or unix://. Empty: an embedded one in data_dir.")
    ] = ""
    redis_db: Annotated[int, Meta(ge=0, description="Logical database of the broker.")] = 0
    queue_db: Annotated[
        int, Meta(ge=0, description="Logical database of dramatiq's queues; not the broker's, since it is scanned.")
    ] = 1
    key_prefix: Annotated[
        str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,15}$", description="First part of every key that the broker writes.")
    ] = "vp"
    storage: Annotated[
        str,
        Meta(description="Where payloads and results go: a path, file://, s3://, gs:// or az://. Empty: in data_dir."),
    ] = ""
    sweep_seconds: Annotated[
        float, Meta(gt=0, le=3600, description="How often the sweeper looks for what a crash left.")
    ] = 5.0
    lease_seconds: Annotated[
        float, Meta(gt=0, le=MAX_LEASE_SECONDS, description="How long a worker may hold an item, unless the job says.")
    ] = 3600.0
    retry_seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=MAX_LEASE_SECONDS,
            description="After which a former holder may get an item again, unless the job says.",
        ),
    ] = 60.0
    log_high_bytes: Annotated[
        int, Meta(ge=65_536, description="Size of a shard's event log beyond which claims wait until it is archived.")
    ] = 256 * 2**20
    actors: Annotated[int, Meta(ge=1, le=256, description="Number of actor processes.")] = 2
    actor_threads: Annotated[int, Meta(ge=1, le=256, description="Threads of each actor process.")] = 4
    appendfsync: Annotated[
        Literal["always", "everysec", "no"],
        Meta(description="When the embedded server forces its log to disk: before every reply, every second, never."),
    ] = "always"
    max_memory_bytes: Annotated[
        int, Meta(ge=0, description="Memory beyond which the embedded server refuses writes. 0: no limit.")
    ] = 0
    server_port: Annotated[
        int, Meta(ge=0, le=65_535, description="Loopback port of the embedded server. 0: a private Unix socket.")
    ] = 0
    log_format: Annotated[
        Literal["auto", "console", "json"], Meta(description="auto: console in a terminal, else JSON lines.")
    ] = "auto"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="The least severe messages that are logged.")
    ] = "info"
    origins: dict[str, str] = {}

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        explicit: Mapping[str, object] | None = None,
    ) -> Self:
        """Collect the settings from all sources and check them.

        Args:
            path: the settings file. None: ``voxpop.toml`` in the working directory if there is one. Relative paths in a
                file start at the file's directory, all others at the working directory.
            environment: instead of the process's own.
            explicit: values that win over all others, such as command line options. None as a value means not given.

        Raises:
            ConfigError: names the setting, where it came from, what was found and what is expected.
        """
        working_directory = Path()
        sources = [
            _file(path),
            _environment(os.environ if environment is None else environment),
            _Source(
                {name: (EXPLICIT, value) for name, value in (explicit or {}).items() if value is not None},
                working_directory,
            ),
        ]
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}
        for source in sources:
            for name, (origin, found) in source.found.items():
                values[name] = _parsed(name, origin, found, source)
                origins[name] = origin
        _complete(values, origins)
        return cls(**values, origins=origins)

    @property
    def queue_url(self) -> str:
        """The URL of dramatiq's queues: the server of ``redis_url``, in the logical database ``queue_db``."""
        return with_database(self.redis_url, self.queue_db)

    def at_server(self, url: str) -> Self:
        """Return these settings for a server that was started for them, such as the embedded one."""
        origins = {**self.origins, "redis_url": "the embedded server"}
        return msgspec.structs.replace(self, redis_url=with_database(url, self.redis_db), origins=origins)

    def environment(self) -> dict[str, str]:
        """Return the environment variables that give another process the same settings, secrets included."""
        return {ENVIRONMENT_PREFIX + name.upper(): str(getattr(self, name)) for name in _types()}

    def settings(self) -> list[Setting]:
        """Return every setting with its value, origin and meaning, without secrets, for ``voxpop config show``."""
        return [
            Setting(name, _shown(getattr(self, name)), self.origins.get(name, DEFAULT), _meta(name).description or "")
            for name in _types()
        ]


class _Source(msgspec.Struct, frozen=True):
    """What one source says: by setting, where exactly it stands and what was found there."""

    found: dict[str, tuple[str, object]]
    directory: Path  # where relative paths start
    has_types: bool = True  # False: everything is text


def _file(path: str | os.PathLike[str] | None) -> _Source:
    file = Path(CONFIG_FILE if path is None else path)
    try:
        table = tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        if path is None:
            return _Source({}, Path())
        raise ConfigError(f"the settings file {file} does not exist; expected a TOML file") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the settings file {file} is not TOML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the settings file {file} cannot be read ({error}); expected a TOML file in UTF-8") from None
    return _Source({name: (str(file), value) for name, value in table.items()}, file.parent)


def _environment(environment: Mapping[str, str]) -> _Source:
    found: dict[str, tuple[str, object]] = {
        variable.removeprefix(ENVIRONMENT_PREFIX).lower(): (f"environment variable {variable}", value)
        for variable, value in environment.items()
        if variable.startswith(ENVIRONMENT_PREFIX)
    }
    return _Source(found, Path(), has_types=False)


def _types() -> dict[str, Any]:
    """Return the annotation of every setting, by name, in the order above."""
    hints = get_type_hints(Config, include_extras=True)
    return {name: hint for name, hint in hints.items() if name != "origins"}


def _meta(name: str) -> Meta:
    meta: Meta = get_args(_types()[name])[1]
    return meta


def _parsed(name: str, origin: str, found: object, source: _Source) -> object:
    """Return the value of one setting in its own type, or say what is wrong with it."""
    types = _types()
    if name not in types:
        near = difflib.get_close_matches(name, types, n=1)
        advice = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(types)}"
        raise ConfigError(f"unknown setting {name!r} ({origin}); {advice}")
    try:
        value: object = msgspec.convert(found, types[name], strict=source.has_types, dec_hook=_to_path)
        if name == "data_dir":
            return _absolute(str(value), source.directory)
        if name == "storage" and value:
            return _storage(str(value), source.directory)
        if name == "redis_url" and value:
            check_url(str(value))
    except ConfigError as error:
        raise ConfigError(f"setting redis_url ({origin}): {error}") from None
    except ValueError:
        raise ConfigError(f"setting {name} ({origin}): found {_shown(found)!r}, expected {_expected(name)}") from None
    return value


def _to_path(kind: type, found: object) -> object:
    """Make a path of text; called by msgspec for types that it does not know."""
    if kind is Path and isinstance(found, str | Path) and str(found):
        return Path(found)
    raise ValueError


def _absolute(path: str, directory: Path) -> Path:
    return (directory / Path(path).expanduser()).absolute()


def _storage(value: str, directory: Path) -> str:
    scheme, separator, rest = value.partition("://")
    if not separator:
        return _absolute(value, directory).as_uri()
    if scheme not in STORAGE_SCHEMES or not rest:
        raise ValueError
    return value


def _expected(name: str) -> str:
    """Say in words what a setting may be, from its annotation."""
    if name == "storage":
        return f"a path, or a URI with one of {', '.join(f'{scheme}://' for scheme in STORAGE_SCHEMES)}"
    kind, meta = get_args(_types()[name])
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    words = {Path: "a path", str: "text", int: "a whole number", float: "a number"}[kind]
    bounds = {"over": meta.gt, "of at least": meta.ge, "of at most": meta.le, "like": meta.pattern}
    stated = [f"{relation} {bound}" for relation, bound in bounds.items() if bound is not None]
    return " ".join([words, " and ".join(stated)]).strip()


def _complete(values: dict[str, Any], origins: dict[str, str]) -> None:
    """Fill in what follows from other settings, and check what has to fit together."""
    values.setdefault("data_dir", Config().data_dir.absolute())
    if not values.get("storage"):
        values["storage"] = (values["data_dir"] / "storage").as_uri()
    url = values.get("redis_url", "")
    named = url_database(url) if url else None
    if named is not None:
        if values.setdefault("redis_db", named) != named:
            raise ConfigError(
                f"setting redis_db ({origins['redis_db']}): found {values['redis_db']}, but redis_url "
                f"({origins['redis_url']}) names database {named}; expected one of the two, or both the same"
            )
        origins.setdefault("redis_db", origins["redis_url"])
    broker, queue = (values.get(name, getattr(Config(), name)) for name in ("redis_db", "queue_db"))
    if broker == queue:
        raise ConfigError(
            f"setting queue_db ({origins.get('queue_db', DEFAULT)}): found {queue}, which is the broker's own database "
            f"(redis_db, {origins.get('redis_db', DEFAULT)}); expected another one"
        )
    if url:
        values["redis_url"] = with_database(url, broker)


def _shown(value: object) -> str:
    return without_password(str(value))
