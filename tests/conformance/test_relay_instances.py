"""Several relays on PostgreSQL, and transactions that commit in another order than their ids."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from streams.outbox.envelope import OutgoingMessage, lane_of
from streams.outbox.relay import Relay, RelayLimits
from streams.outbox.store import append
from tests.kit import rows
from tests.unit.outbox.test_refusals import Answering, left
from tests.unit.outbox.test_relay import until

if TYPE_CHECKING:
    from streams.storage.database import Database

DATABASES = ("postgresql",)
LEASE_SECONDS = 2.0


def message(key: str, turn: int) -> OutgoingMessage:
    value = f"{key}.{turn}".encode()
    return OutgoingMessage("t", key.encode(), lane_of("t", key.encode()), value, b"[]", value.decode(), "x.v1")


async def put(database: Database, *messages: OutgoingMessage) -> None:
    async with database.write() as connection:
        await append(connection, messages, time.time_ns() // 1_000_000)


async def test_the_lanes_of_a_killed_relay_are_taken_over_within_the_lease(
    database: Database, other_database: Database
) -> None:
    """It dies with rows in flight that nobody answers; the other one publishes everything, each key in order."""
    dead_producer = Answering(lambda _topic, value: None if value.endswith(b".0") else Answering.silent)
    heir_producer = Answering()
    limits = RelayLimits(lease_seconds=LEASE_SECONDS)
    dead = Relay(database, lambda: dead_producer, limits=limits)
    heir = Relay(other_database, lambda: heir_producer, limits=limits)
    dead.start()
    heir.start()

    async def divided() -> bool:
        return len(dead.lanes) == len(heir.lanes) == 8

    await until(divided, 10)
    await put(database, *(message(f"k{key}", turn) for turn in range(3) for key in range(60)))
    dead.wake()

    async def in_flight() -> bool:
        return bool(dead_producer.pending) and not any(value.endswith(b".0") for _t, value, _d in dead_producer.pending)

    await until(in_flight, 10)
    for task in (dead._task, dead._beat_task):  # as a kill: nothing is given back
        assert task is not None
        task.cancel()
    killed = time.monotonic()
    await until(left(other_database, 0), 20)
    took = time.monotonic() - killed
    assert took < 2 * LEASE_SECONDS, "the lease, and the next look of the heir"
    for key in range(60):
        log = [value for value in dead_producer.log + heir_producer.log if value.startswith(f"k{key}.")]
        assert list(dict.fromkeys(log)) == [f"k{key}.{turn}" for turn in range(3)]
    assert dead_producer.log, "both had lanes"
    await heir.stop(1.0)
    await asyncio.gather(*(task for task in (dead._task, dead._beat_task) if task), return_exceptions=True)


async def test_a_row_that_commits_after_later_ids_is_not_passed_by(
    database: Database, other_database: Database
) -> None:
    """The later id is published at once; the earlier one as soon as it is there."""
    producer = Answering()
    relay = Relay(database, lambda: producer)
    relay.start()
    async with other_database.write() as slow:
        await append(slow, [message("slow", 0)], 1)
        await put(database, message("fast", 0))
        relay.wake()
        await until(left(database, 0), 10)
        assert producer.log == ["fast.0"]
    relay.wake()

    async def there() -> bool:
        return producer.log == ["fast.0", "slow.0"]

    await until(there, 10)
    await until(left(database, 0), 10)
    assert await rows(database, "SELECT count(*) FROM outbox WHERE sent_at_ms IS NULL") == [(0,)]
    await relay.stop(1.0)


async def test_a_common_row_lock_makes_the_order_of_a_key(database: Database, other_database: Database) -> None:
    """Many transactions of two processes emit for a few keys, each holding its key's row; other keys interleave."""
    producer = Answering()
    relay = Relay(database, lambda: producer)
    async with database.write() as connection:
        await connection.execute(text("CREATE TABLE locked (key text PRIMARY KEY, turn int NOT NULL)"))
        await connection.execute(text("INSERT INTO locked VALUES ('a', 0), ('b', 0), ('c', 0)"))
    relay.start()

    async def emit(one: Database, number: int) -> None:
        key = "abc"[number % 3]
        async with one.write() as connection:
            locked = await connection.execute(
                text("UPDATE locked SET turn = turn + 1 WHERE key = :key RETURNING turn"), {"key": key}
            )
            turn: Any = locked.scalar_one()
            await append(connection, [message(key, turn), message(f"other{number}", 0)], 1)
            await asyncio.sleep(0.002 * (number % 4))  # so that commits come in another order than ids

    await asyncio.gather(*(emit((database, other_database)[number % 2], number) for number in range(60)))
    relay.wake()
    await until(left(database, 0), 20)
    for key in "abc":
        assert [value for value in producer.log if value.startswith(f"{key}.")] == [f"{key}.{n}" for n in range(1, 21)]
    assert len(producer.log) == 120
    await relay.stop(1.0)
