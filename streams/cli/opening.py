"""What commands begin with: the settings, the database as it is, the broker, what the groups read."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from streams.cli.errors import Failed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from typing import Any

    from streams.inspection.log_ends import LogEndsReader
    from streams.inspection.readings import Reading
    from streams.settings import Settings
    from streams.storage.database import Database

__all__ = ["existing_database", "load", "open_broker", "open_database", "readings_of", "run_job"]

T = TypeVar("T")


def load(**overrides: object) -> Settings:
    """The settings, and the log set up as they say."""
    from streams.cli.logging import configure_logging
    from streams.settings import load_settings

    settings = load_settings(**overrides)
    configure_logging(settings.log_level)
    return settings


def run_job(job: Callable[[Settings], Coroutine[Any, Any, T]]) -> T:
    """Run a job with the settings, to its end."""
    return asyncio.run(job(load()))


@asynccontextmanager
async def existing_database(settings: Settings) -> AsyncIterator[Database]:
    """The database, whatever its tables are. None is made.

    Raises:
        Failed: there is none yet.
    """
    from streams.storage.database import Database

    database = Database(settings.database)
    try:
        path = database.path
        if path is not None and not str(path).startswith("file:") and not path.exists():
            raise Failed(f"there is no database at {path} yet: `payday run` makes it, and so does `payday db upgrade`")
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """The database, for looking: nothing in it is made or changed.

    Raises:
        Failed: there is none yet.
        SchemaMismatch: its tables are not those of this version.
    """
    from streams.storage.errors import SchemaMismatch
    from streams.storage.migrate import schema_state

    async with existing_database(settings) as database:
        state = await schema_state(database)
        if not state.matches:
            what = "has no tables yet" if state.empty else f"is at {state.current or 'no known version'}"
            raise SchemaMismatch(
                f"{database.described} {what}, this version needs {state.expected}: run `payday db upgrade`"
            )
        yield database


def open_broker(settings: Settings, timeout_seconds: float = 5.0) -> LogEndsReader:
    """The broker, for looking. Connects at the first question.

    Raises:
        BrokerUnknown: nobody said where it is.
    """
    from streams.inspection.log_ends import LogEndsReader

    return LogEndsReader(settings.bootstrap_servers(), timeout_seconds)


def readings_of(settings: Settings) -> tuple[Reading, ...]:
    """What this deployment's groups read."""
    from streams.inspection.readings import app_readings

    return app_readings(settings.topic_prefix, settings.group_prefix)
