"""The log of a command: structlog and the standard library's logging, both to standard error."""

from __future__ import annotations

import logging
import sys
import warnings

import structlog

__all__ = ["configure_logging"]

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
CHATTY = ("aiosqlite", "asyncio", "alembic", "faststream", "payday.broker", "payday.librdkafka")
"""Talk about every statement or every connection; heard at the level debug only."""


def configure_logging(level_name: str) -> None:
    """Send everything from this level on to standard error, a line each.

    Args:
        level_name: `debug`, `info`, `warning` or `error`.
    """
    level = LEVELS[level_name]
    shared = [
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
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in CHATTY:
        logging.getLogger(name).setLevel(level if level == logging.DEBUG else logging.ERROR)
    logging.captureWarnings(capture=True)
    warnings.simplefilter("default")
