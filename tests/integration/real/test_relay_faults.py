"""The relay on a real Kafka that is frozen, killed, refuses a record or does not know a topic.

After each, once the cause is gone: every event is in the topic, first occurrences in the order of their keys, and what
is marked sent is there.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # documented, but not marked as exported
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)

from streams.outbox.envelope import OutgoingMessage, lane_of
from streams.outbox.producer import producer_settings
from streams.outbox.relay import Relay, RelayLimits
from streams.outbox.store import append
from streams.resilience.circuit_breaker import BreakerLimits, State
from tests.kit import rows
from tests.unit.outbox.test_relay import unsent, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from streams.storage.database import Database
    from tests.services.kafka_local import LocalKafka

TOPIC = "events"
KEYS, ROUNDS = 40, 25
MESSAGE_TIMEOUT_MS = 1500
LIMITS = RelayLimits(breaker=BreakerLimits(window_seconds=5.0, first_open_seconds=0.1, max_open_seconds=0.5))
SOON = 40.0


def message(key: str, turn: int, *, topic: str = TOPIC, size: int = 0) -> OutgoingMessage:
    value = f"{key}.{turn}.".encode() + b"x" * size
    return OutgoingMessage(topic, key.encode(), lane_of(topic, key.encode()), value, b"[]", f"{key}.{turn}", "x.v1")


async def put(database: Database, *messages: OutgoingMessage) -> None:
    async with database.write() as connection:
        await append(connection, messages, time.time_ns() // 1_000_000)


@pytest.fixture
async def start(own_kafka: LocalKafka, database: Database) -> AsyncIterator[Callable[[], Relay]]:
    """Starts relays with short time-outs; stops them after the test."""
    relays: list[Relay] = []

    def make() -> Any:
        settings = producer_settings(own_kafka.address, MESSAGE_TIMEOUT_MS) | {"reconnect.backoff.max.ms": 500}
        return Producer({**settings, "log_level": 0})

    def start_one() -> Relay:
        relays.append(Relay(database, make, limits=LIMITS))
        relays[-1].start()
        return relays[-1]

    yield start_one
    for relay in relays:
        await relay.stop(0.0)


async def marked_are_there(database: Database, kafka: LocalKafka, topic: str = TOPIC) -> None:
    """What is marked sent is in the topic, and of each key the first occurrences are in order."""
    log = [value.decode() for _partition, _key, value in await asyncio.to_thread(kafka.read, topic) if value]
    sent = {
        row[0].decode()
        for row in await rows(database, f"SELECT value FROM outbox WHERE sent_at_ms > 0 AND topic = '{topic}'")
    }
    assert sent <= set(log)
    seen: dict[str, list[int]] = {}
    for value in dict.fromkeys(log):  # first occurrences
        key, turn, _rest = value.split(".", 2)
        seen.setdefault(key, []).append(int(turn))
    for turns in seen.values():
        assert turns == sorted(turns)


def raise_limit(kafka: LocalKafka) -> None:
    """Let the topic take larger records from now on."""
    entry = ConfigEntry("max.message.bytes", "1000000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, TOPIC, incremental_configs=[entry])
    client = AdminClient({"bootstrap.servers": kafka.address})  # its futures end with it
    for future in client.incremental_alter_configs([resource]).values():
        future.result(15.0)


def all_sent(database: Database, but: int = 0) -> Callable[[], Any]:
    async def nothing_left() -> bool:
        return await unsent(database) == but

    return nothing_left


async def test_a_broker_that_is_frozen_longer_than_the_time_out(
    own_kafka: LocalKafka, database: Database, start: Callable[[], Relay]
) -> None:
    """Many rows per key, some in flight when it freezes, given up by librdkafka and perhaps written all the same."""
    own_kafka.create_topic(TOPIC, 2)
    await put(database, *(message(f"k{key}", turn) for turn in range(ROUNDS) for key in range(KEYS)))
    relay = start()

    async def begun() -> bool:
        return await unsent(database) < KEYS * ROUNDS

    await until(begun, SOON)
    own_kafka.freeze()

    async def opened() -> bool:
        return relay.breaker.state is not State.CLOSED

    await until(opened, SOON)
    assert await rows(database, "SELECT count(*) FROM outbox WHERE sent_at_ms IS NULL AND attempts > 0") == [(0,)]
    await put(database, *(message(f"k{key}", ROUNDS) for key in range(KEYS)))
    own_kafka.thaw()
    await until(all_sent(database), SOON)
    await marked_are_there(database, own_kafka)
    assert len({value for _, _, value in own_kafka.read(TOPIC)}) == KEYS * (ROUNDS + 1)


async def test_a_broker_that_is_killed(own_kafka: LocalKafka, database: Database, start: Callable[[], Relay]) -> None:
    """And comes back with its data."""
    own_kafka.create_topic(TOPIC, 2)
    await put(database, *(message(f"k{key}", turn) for turn in range(ROUNDS) for key in range(KEYS)))
    start()

    async def begun() -> bool:
        return await unsent(database) < KEYS * ROUNDS

    await until(begun, SOON)
    own_kafka.kill()
    await put(database, *(message(f"k{key}", ROUNDS) for key in range(KEYS)))
    await asyncio.to_thread(own_kafka.restart)
    await until(all_sent(database), SOON)
    await marked_are_there(database, own_kafka)
    assert len({value for _, _, value in own_kafka.read(TOPIC)}) == KEYS * (ROUNDS + 1)


async def test_a_stop_while_the_broker_is_away_is_bounded(
    own_kafka: LocalKafka, database: Database, start: Callable[[], Relay]
) -> None:
    """And marks nothing that was not acknowledged; the next start publishes it."""
    own_kafka.create_topic(TOPIC, 2)
    own_kafka.freeze()
    relay = start()
    await put(database, *(message(f"k{key}", 0) for key in range(KEYS)))
    relay.wake()

    async def in_flight() -> bool:
        return relay._publisher is not None and relay._publisher.in_flight == KEYS

    await until(in_flight, SOON)
    began = time.monotonic()
    await relay.stop(0.5)
    assert time.monotonic() - began < 5
    assert await unsent(database) == KEYS
    own_kafka.thaw()
    relay.start()
    await until(all_sent(database), SOON)
    await marked_are_there(database, own_kafka)


async def test_a_record_that_is_too_large_between_good_ones(
    own_kafka: LocalKafka, database: Database, start: Callable[[], Relay]
) -> None:
    """It waits with those behind it; the other keys go out; when the limit is raised it goes out in its place."""
    own_kafka.create_topic(TOPIC, 2, {"max.message.bytes": "1000"})
    await put(database, message("a", 0), message("b", 0), message("a", 1, size=5000), message("b", 1), message("a", 2))
    start()
    await until(all_sent(database, but=2), SOON)
    refused = await rows(database, "SELECT attempts > 0, error FROM outbox WHERE sent_at_ms IS NULL ORDER BY id")
    assert [bool(row[0]) for row in refused] == [True, False]
    assert "MSG_SIZE_TOO_LARGE" in refused[0][1]
    await marked_are_there(database, own_kafka)
    await asyncio.to_thread(raise_limit, own_kafka)
    await until(all_sent(database), SOON)
    await marked_are_there(database, own_kafka)


async def test_a_topic_that_does_not_exist_yet(
    own_kafka: LocalKafka, database: Database, start: Callable[[], Relay]
) -> None:
    """Its events wait, other topics go on, and once it is made everything goes out."""
    own_kafka.create_topic(TOPIC, 2)
    await put(database, *(message(f"k{key}", turn, topic="later") for turn in range(3) for key in range(10)))
    start()

    async def held() -> bool:
        return bool((await rows(database, "SELECT count(*) FROM outbox WHERE attempts > 0"))[0][0] == 1)

    await until(held, SOON)
    await put(database, *(message(f"k{key}", 0) for key in range(KEYS)))
    await until(all_sent(database, but=30), SOON)
    own_kafka.create_topic("later", 2)
    await until(all_sent(database), SOON)
    await marked_are_there(database, own_kafka, "later")
