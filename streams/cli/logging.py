"""The log of a command: structlog and the standard library's logging, both to standard error."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from structlog.typing import Processor

__all__ = ["configure_logging"]

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
CHATTY = ("aiosqlite", "asyncio", "alembic", "faststream", "payday.broker")
"""Talk about every statement; below errors they are heard at the level debug only."""
LIBRDKAFKA = ("faststream.confluent", "payday.librdkafka")
"""Repeat dozens of times a second that a broker cannot be reached, or that one has stopped; the commands say that once,
in their own words. Heard at the level debug only."""


def configure_logging(level_name: str) -> None:
    """Send everything from this level on to standard error, a line each.

    Args:
        level_name: `debug`, `info`, `warning` or `error`.
    """
    level = LEVELS[level_name]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
            ],
        )
    )
    if level > logging.DEBUG:
        handler.addFilter(_is_our_own)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in CHATTY:
        logging.getLogger(name).setLevel(level if level == logging.DEBUG else logging.ERROR)
    logging.captureWarnings(capture=True)


def _is_our_own(record: logging.LogRecord) -> bool:
    """Loggers of librdkafka's are not all in the hierarchy, so that their level cannot be set."""
    return not record.name.startswith(LIBRDKAFKA) or record.levelno >= logging.CRITICAL
