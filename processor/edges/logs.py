"""Logs: structlog on standard error, one line an event, facts as fields.

Owned by the composition root, which calls `configure` once. A message is a constant; what varies is a field. Neither
an API key nor customer data is ever a field: what names a record is its topic, partition and offset.
"""

from __future__ import annotations

import logging
import sys

import structlog

from processor.config import LogFormat, LogLevel


def configure(log_format: LogFormat, level: LogLevel) -> None:
    """Sends everything, the libraries' own logging too, through one renderer."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderers: list[structlog.typing.Processor]
    match log_format:
        case LogFormat.JSON:
            renderers = [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
        case LogFormat.CONSOLE:
            renderers = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
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
