"""Logging: one line an event, as JSON, or coloured text when a person is watching."""

import logging
import sys
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

# Their lower levels are noisy, and an operator cannot act on them.
_QUIET = {
    "asyncio": logging.ERROR,
    "asyncpg": logging.ERROR,
    "aiohttp.access": logging.ERROR,
    "aiosmtplib": logging.ERROR,
    "mail.log": logging.ERROR,
    "opentelemetry": logging.CRITICAL,
    "pgqueuer": logging.CRITICAL,
    "watchfiles": logging.ERROR,
}


def _known_only(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A fact that is not known is left out of the line."""
    return {key: value for key, value in event.items() if value is not None}


def _to_json(value: Any, default: Any = None, **_: Any) -> str:
    return orjson.dumps(value, default=default or str, option=orjson.OPT_NON_STR_KEYS).decode()


def configure_logging(level: str = "info", *, stream: TextIO | None = None, pretty: bool | None = None) -> None:
    """Send every log line, also those of libraries, to ``stream`` (standard error) from ``level`` on."""
    stream = stream or sys.stderr
    pretty = stream.isatty() if pretty is None else pretty
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _known_only,
    ]
    renderer: list[Processor] = (
        [structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)]
        if pretty
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_to_json)]
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name, quiet in _QUIET.items():
        logging.getLogger(name).setLevel(max(quiet, root.level))
    # Our own lines bypass the logging module, which would take half the time of a request.
    structlog.configure(
        processors=[*shared, *renderer],
        logger_factory=structlog.WriteLoggerFactory(stream),
        wrapper_class=structlog.make_filtering_bound_logger(root.level),
        cache_logger_on_first_use=True,
    )
