"""The publish middleware in a FastStream app on a real Kafka that goes away and comes back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer
from faststream.confluent import KafkaBroker

from streams.middleware.circuit_breaker import Fallback, publisher_config
from streams.outbox.direct import NotPublished, Outcome
from streams.outbox.headers import unpack
from streams.outbox.producer import producer_settings
from streams.outbox.relay import Relay
from streams.resilience.circuit_breaker import State
from tests.kit import rows
from tests.unit.outbox.test_relay import unsent, until

if TYPE_CHECKING:
    from streams.storage.database import Database
    from tests.services.kafka_local import LocalKafka

TOPIC = "parcels"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def values(kafka: LocalKafka) -> list[bytes | None]:
    return [value for _partition, _key, value in kafka.read(TOPIC)]


async def test_what_a_frozen_broker_does_not_take_is_stored_and_goes_out_later(
    own_kafka: LocalKafka, database: Database
) -> None:
    """Sent, stored, nothing overtakes, all there in order at the end, headers and body as FastStream writes them."""
    own_kafka.create_topic(TOPIC, 1, {"max.message.bytes": "2000"})
    fallback = Fallback(database)
    config: Any = publisher_config(1000)
    broker: Any = KafkaBroker(
        own_kafka.address, config=config, allow_auto_create_topics=False, middlewares=[fallback.middleware], logger=None
    )
    await broker.connect()
    assert await broker.publish({"n": 1}, TOPIC, key=b"a", headers={"traceparent": TRACE}) is Outcome.SENT
    with pytest.raises(NotPublished, match="MSG_SIZE_TOO_LARGE"):
        await broker.publish("x" * 5000, TOPIC, key=b"b")
    assert fallback.breaker.status().state is State.CLOSED
    own_kafka.freeze()
    stored = await broker.publish({"n": 2}, TOPIC, key=b"a", headers={"traceparent": TRACE})
    assert stored is Outcome.STORED
    for number in range(4):
        await broker.publish({"n": number}, TOPIC, key=f"other{number}".encode())
    assert fallback.breaker.status().state is State.OPEN
    own_kafka.thaw()
    behind = await broker.publish({"n": 3}, TOPIC, key=b"a")
    assert behind is Outcome.STORED, "its key has a message in the store"
    headers = dict(unpack((await rows(database, "SELECT headers FROM outbox ORDER BY id"))[0][0]))
    assert headers["traceparent"] == TRACE.encode()
    assert headers["content-type"] == b"application/json"
    assert len(headers["ce_id"] or b"") == 36
    producer: Any = Producer(producer_settings(own_kafka.address, 5000))
    relay = Relay(database, lambda: producer)
    relay.start()

    async def nothing_left() -> bool:
        return await unsent(database) == 0

    await until(nothing_left, 30)
    await relay.stop(1.0)
    await broker.stop()
    of_a = [value for _partition, key, value in await asyncio.to_thread(own_kafka.read, TOPIC) if key == b"a"]
    assert list(dict.fromkeys(of_a)) == [b'{"n":1}', b'{"n":2}', b'{"n":3}']
