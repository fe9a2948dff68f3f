"""The relay marks what the broker has acknowledged, and nothing else."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from streams.outbox.envelope import Cause, outgoing
from streams.outbox.relay import Relay
from streams.outbox.store import append, backlog
from tests.kit import Note, NoteCatalog, rows
from tests.unit.outbox.test_producer import FakeProducer

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.storage.database import Database


class NumberedProducer(FakeProducer):
    """Numbers what it is given, since these rows carry JSON."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.count = 0

    def produce(self, topic: str, **options: Any) -> None:
        self.count += 1
        super().produce(topic, **{**options, "value": str(self.count)})


async def emit(database: Database, *keys: str) -> None:
    cause = Cause("c", "test", "note.v1", 0, None, "c", None, 0)
    messages = [outgoing(NoteCatalog(), Note("x", key), cause, index) for index, key in enumerate(keys)]
    async with database.write() as connection:
        await append(connection, messages, time.time_ns() // 1_000_000)


async def until(condition: Callable[[], Any], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.01)


async def unsent(database: Database) -> int:
    async with database.read() as connection:
        return (await backlog(connection)).unsent


async def test_committed_events_are_published_and_marked(database: Database) -> None:
    """A woken relay publishes at once and marks each row it got an acknowledgement for."""
    producer = NumberedProducer()
    relay = Relay(database, lambda: producer)
    relay.start()
    await emit(database, "a", "b", "a")
    relay.wake()

    async def sent() -> bool:
        return await unsent(database) == 0

    await until(sent)
    await relay.stop(1.0)
    assert producer.count == 3


async def test_nothing_is_marked_before_its_acknowledgement(database: Database) -> None:
    """While the broker is silent the rows stay unsent, also when the relay has to stop."""
    producer = NumberedProducer(silent=True)
    relay = Relay(database, lambda: producer)
    await emit(database, "a", "b")
    relay.start()
    await asyncio.sleep(0.3)
    assert producer.count == 2
    assert await unsent(database) == 2
    await relay.stop(0.1)
    assert await unsent(database) == 2


async def test_a_refused_event_is_published_again_in_order(database: Database) -> None:
    """What the broker refuses stays unsent and goes out before the later events of its key."""
    producer = NumberedProducer(refuse={1})
    relay = Relay(database, lambda: producer)
    await emit(database, "a", "a")
    relay.start()

    async def sent() -> bool:
        return await unsent(database) == 0

    await until(sent)
    await relay.stop(1.0)
    assert producer.log == [2, 3]
    assert (await rows(database, "SELECT count(*) FROM outbox WHERE sent_at_ms IS NOT NULL"))[0] == (2,)


async def test_stopping_publishes_what_is_left(database: Database) -> None:
    """A stop drains the outbox first."""
    producer = NumberedProducer()
    relay = Relay(database, lambda: producer)
    relay.start()
    await emit(database, *(str(number) for number in range(50)))
    await relay.stop(5.0)
    assert await unsent(database) == 0


@pytest.mark.parametrize("drain_seconds", [0.0, 0.2])
async def test_a_stop_is_bounded(database: Database, drain_seconds: float) -> None:
    """With a silent broker a stop takes its time-out and not longer."""
    await emit(database, "a")
    relay = Relay(database, lambda: NumberedProducer(silent=True))
    relay.start()
    await asyncio.sleep(0.05)
    started = time.monotonic()
    await relay.stop(drain_seconds)
    assert time.monotonic() - started < drain_seconds + 1.0


async def test_only_the_acknowledged_rows_are_marked(database: Database) -> None:
    """A row whose acknowledgement is missing stays unsent although a later one has its own."""

    class FirstIsSilent(NumberedProducer):
        def poll(self, timeout: float) -> int:
            silent = [one for one in self.pending if one[0] == 1]
            self.pending = [one for one in self.pending if one[0] != 1]
            answered = super().poll(timeout)
            self.pending += silent
            return answered

    await emit(database, "a", "b", "c")
    relay = Relay(database, FirstIsSilent)
    relay.start()

    async def two_marked() -> bool:
        return await unsent(database) == 1

    await until(two_marked)
    assert await rows(database, "SELECT id FROM outbox WHERE sent_at_ms IS NULL") == [(1,)]
    await relay.stop(0.0)
