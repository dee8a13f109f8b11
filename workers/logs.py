"""Logging: one line an event, as JSON for machines or readable in a terminal, with job, item and actor bound.

All of it goes through structlog, the standard library's loggers (dramatiq, redis) included. Modules write
``log = structlog.get_logger()``; programs call ``configure`` once; actors get their context from ``LogContext``.
"""

from __future__ import annotations

import logging
import sys
from typing import IO, TYPE_CHECKING, Any, Final, Literal

import dramatiq
import msgspec
import structlog
from structlog.contextvars import bind_contextvars, merge_contextvars, unbind_contextvars

if TYPE_CHECKING:
    from structlog.typing import Processor

__all__ = ["LogContext", "configure"]

MESSAGE_ARGUMENTS: Final = ("job", "shard", "item")
ACTOR_KEYS: Final = ("actor", "message_id", *MESSAGE_ARGUMENTS)


def configure(
    *,
    log_format: Literal["auto", "console", "json"] = "auto",
    log_level: Literal["debug", "info", "warning", "error"] = "info",
    stream: IO[str] | None = None,
) -> None:
    """Send all logging of this process to ``stream`` (standard error), one line an event.

    ``auto`` is ``console`` in a terminal and ``json`` elsewhere. JSON lines have ``ts`` (UTC, ISO 8601), ``level``,
    ``logger``, ``event``, what is bound, and ``exception`` with its traceback. A second call replaces the first.
    """
    stream = sys.stderr if stream is None else stream
    is_console = log_format == "console" or (log_format == "auto" and stream.isatty())
    shared: list[Processor] = [
        merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,  # a second call of this function reaches every logger
    )
    rendered: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if is_console:
        rendered.append(structlog.dev.ConsoleRenderer(colors=stream.isatty(), timestamp_key="ts"))
    else:
        rendered += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_to_json)]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=rendered))
    logging.basicConfig(handlers=[handler], level=log_level.upper(), force=True)


class LogContext(dramatiq.Middleware):
    """Binds ``actor``, ``message_id`` and the message's ``job``, ``shard`` and ``item`` while an actor handles it.

    The last three are taken from the message's keyword arguments of these names.
    """

    def before_process_message(self, broker: dramatiq.Broker, message: Any) -> None:  # noqa: ARG002, D102 - dramatiq's
        given = {name: message.kwargs[name] for name in MESSAGE_ARGUMENTS if name in message.kwargs}
        bind_contextvars(actor=message.actor_name, message_id=message.message_id, **given)

    def after_process_message(  # noqa: D102 - dramatiq's
        self,
        broker: dramatiq.Broker,  # noqa: ARG002 - dramatiq's
        message: Any,  # noqa: ARG002 - dramatiq's
        *,
        result: Any = None,  # noqa: ARG002 - dramatiq's
        exception: BaseException | None = None,  # noqa: ARG002 - dramatiq's
    ) -> None:
        unbind_contextvars(*ACTOR_KEYS)

    def after_skip_message(self, broker: dramatiq.Broker, message: Any) -> None:  # noqa: ARG002, D102 - dramatiq's
        unbind_contextvars(*ACTOR_KEYS)


def _to_json(event: Any, **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=repr).decode()
