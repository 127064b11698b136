"""Logs: structlog on standard error, one line an event, facts as fields.

Owned by the composition root, which calls `configure` once. A message is a constant; its facts are fields. Neither an
API key nor customer data is ever a field: topic, partition and offset name a record.

A traceback shows lines and no values; structlog's own would show variables, such as a key or an order. Foreign text (an
order ID, an API's words) stays on one line and moves no terminal's cursor: JSON escapes it, and the console's renderer
escapes it here.
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import TextIO

import structlog

from processor.config import LogFormat, LogLevel


def configure(log_format: LogFormat, level: LogLevel) -> None:
    """Sends all logs, with those of libraries, through one renderer."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderers: list[structlog.typing.Processor]
    match log_format:
        case LogFormat.JSON:
            frames = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
            renderers = [structlog.processors.ExceptionRenderer(frames), structlog.processors.JSONRenderer()]
        case LogFormat.CONSOLE:
            console = structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=_printable_traceback
            )
            renderers = [_printable_fields, console]
    number = logging.getLevelNamesMapping()[level]
    structlog.configure(
        processors=[*shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))


def _printable_fields(
    _logger: structlog.typing.WrappedLogger, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    return {name: _printable(value) if isinstance(value, str) else value for name, value in event.items()}


def _printable_traceback(to: TextIO, raised: structlog.typing.ExcInfo) -> None:
    to.write("\n" + _printable("".join(traceback.format_exception(*raised)).rstrip(), but="\n"))


def _printable(text: str, but: str = "") -> str:
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one in but else one.encode("unicode_escape").decode("ascii") for one in text
    )
