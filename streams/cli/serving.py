"""The app as a process runs it: checked, started, paced where the broker is the embedded one, stopped within a bound.

Invariant: nothing is started before the settings, the broker's address and the database have been found sound, and a
stop ends within `STOP_MAX_SECONDS`, whatever hangs. A broker that does not answer is an outage, not a mistake.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from streams.cli.opening import open_broker
from streams.cli.output import say
from streams.cli.pace import pace_of
from streams.cli.signals import leave_at_once
from streams.cli.topics import check_topics
from streams.settings import BrokerUnknown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from streams.app import Payday
    from streams.inspection.log_ends import LogEndsReader
    from streams.settings import Settings
    from streams.storage.database import Database

__all__ = ["STOP_MAX_SECONDS", "serving"]

STOP_MAX_SECONDS = 18.0
"""A stop takes at most this long; what is not drained by then is in the database and goes on after the next start."""
BETWEEN_LOOKS_SECONDS = 5.0


@asynccontextmanager
async def serving(settings: Settings, parts: Sequence[str]) -> AsyncIterator[Payday]:
    """Run these parts of the app for as long as the block lasts.

    Raises:
        BrokerUnknown: nobody said where Kafka is.
        StorageError: the database cannot be opened, is not writable or not of this version.
    """
    from streams.app import compose, tune_garbage_collection
    from streams.embedded.broker import LIMITS

    async with open_broker(settings) as broker:
        payday: Payday | None = None

        async def database() -> Database:
            assert payday is not None, "nothing is published before the app has been wired"
            return payday.database

        if settings.uses_embedded_broker:
            say(f"payday run: {LIMITS}")
        groups = [settings.group_prefix + part for part in parts]
        payday = compose(
            settings, only=parts, pace=pace_of(settings, broker, database, always=groups, stall_seconds=None)
        )
        try:
            await check_topics(settings)
            await _check_database(payday.database)
            await payday.app.start()
            tune_garbage_collection()
        except BaseException:
            await payday.database.close()
            raise
        watching = asyncio.create_task(_tell_of_outages(settings, broker), name="outages")
        try:
            yield payday
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await _stop(payday)


async def _check_database(database: Database) -> None:
    """Find out now what would otherwise only show with the first message."""
    from streams.storage.errors import DatabaseBusy
    from streams.storage.migrate import prepare

    await prepare(database)
    with contextlib.suppress(DatabaseBusy):  # another instance is writing: that will pass
        await database.probe_write()


async def _tell_of_outages(settings: Settings, broker: LogEndsReader) -> None:
    """Say once that the broker is away and once that it is back: librdkafka says it dozens of times a second."""
    from streams.inspection.log_ends import BrokerUnreachable

    away = False
    while True:
        try:
            await broker.read(())
        except BrokerUnreachable as error:
            if not away:
                say(f"payday run: {error}; trying until it does")
            away = True
            moved_to = _new_address(settings, broker.bootstrap_servers)
            if moved_to is not None:
                say(f"payday run: the embedded broker of this home is at {moved_to} now: restart this")
                return
        else:
            if away:
                say(f"payday run: Kafka at {broker.bootstrap_servers} answers again")
            away = False
        await asyncio.sleep(BETWEEN_LOOKS_SECONDS)


def _new_address(settings: Settings, known: str) -> str | None:
    """Where this home's embedded broker is by now, if it was started anew: it gets another port each time."""
    with contextlib.suppress(BrokerUnknown):
        address = settings.bootstrap_servers()
        return address if address != known else None
    return None


async def _stop(payday: Payday) -> None:
    """Drain and stop, within the bound."""
    try:
        await asyncio.wait_for(payday.app.stop(), STOP_MAX_SECONDS)
    except TimeoutError:
        say(f"payday run: not everything was drained within {STOP_MAX_SECONDS:g} s; the rest goes on at the next start")
        leave_at_once(0)
