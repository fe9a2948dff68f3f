"""Relays of other processes are woken by the commit, and look by themselves where they were not."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from streams.outbox import relay as relay_module
from streams.outbox import wakeup
from streams.outbox.relay import Relay
from streams.outbox.wakeup import OutboxListener
from tests.unit.outbox.test_relay import NumberedProducer, emit, unsent, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streams.storage.database import Database

DATABASES = ("postgresql",)


class Listening:
    """A listener, and what it was told."""

    def __init__(self, database: Database) -> None:
        self.woken = asyncio.Event()
        self.times = 0
        self.listener = OutboxListener(database, self._wake)

    def _wake(self) -> None:
        self.times += 1
        self.woken.set()

    async def start(self) -> None:
        self.listener.start()
        await asyncio.wait_for(self.listener.listening.wait(), 10)
        self.woken.clear()
        self.times = 0


@pytest.fixture
async def listening(database: Database) -> AsyncIterator[Listening]:
    """In one process; the other one writes."""
    listening = Listening(database)
    await listening.start()
    yield listening
    await listening.listener.stop()


async def test_a_commit_of_another_process_wakes(listening: Listening, other_database: Database) -> None:
    """At once, not with the next look."""
    await emit(other_database, "a")
    await asyncio.wait_for(listening.woken.wait(), 10)


async def test_what_was_rolled_back_wakes_nobody(listening: Listening, other_database: Database) -> None:
    """The notification is part of the transaction: only the second one's arrives."""

    async def notify(*, fail: bool) -> None:
        async with other_database.write() as connection:
            await wakeup.notify_relays(connection)
            if fail:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        await notify(fail=True)
    await notify(fail=False)
    await asyncio.wait_for(listening.woken.wait(), 10)
    assert listening.times == 1


async def test_a_lost_connection_is_made_anew(
    listening: Listening, other_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what was committed while nobody listened is looked for at once."""
    monkeypatch.setattr(wakeup, "FIRST_WAIT_SECONDS", 0.01)
    async with other_database.write() as connection:
        sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
        await connection.execute(text(f"{sql} AND datname = current_database()"))
    await asyncio.wait_for(listening.woken.wait(), 10)
    await asyncio.wait_for(listening.listener.listening.wait(), 10)
    listening.woken.clear()
    await emit(other_database, "a")
    await asyncio.wait_for(listening.woken.wait(), 10)


async def test_a_relay_publishes_what_another_process_committed(
    database: Database, other_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although it would not have looked by itself for a long time."""
    monkeypatch.setattr(relay_module, "IDLE_POLL_SECONDS", 60.0)
    producer = NumberedProducer()
    relay = Relay(database, lambda: producer)
    listener = OutboxListener(database, relay.wake)
    relay.start()
    listener.start()
    await asyncio.wait_for(listener.listening.wait(), 10)
    started = time.monotonic()
    await emit(other_database, "a", "b")

    async def sent() -> bool:
        return await unsent(other_database) == 0

    await until(sent)
    assert time.monotonic() - started < 5
    await listener.stop()
    await relay.stop(1.0)
    assert producer.count == 2


async def test_stopping_leaves_no_connection(
    listening: Listening, database: Database, other_database: Database
) -> None:
    """A connection that listens is not given back to the pool: its notifications would pile up."""
    await listening.listener.stop()
    async with asyncio.timeout(10):
        while True:
            async with other_database.write() as connection:
                sql = (
                    "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"
                )
                if (await connection.execute(text(sql))).scalar_one() == 0:
                    return
