"""A message that is published directly is sent, or stored, or raises; nothing overtakes what is stored."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from streams.outbox.capacity import Capacity, CapacityLimits
from streams.outbox.direct import DirectPublisher, NotPublished, Outcome
from streams.outbox.envelope import OutgoingMessage
from streams.outbox.headers import pack, unpack
from streams.resilience.circuit_breaker import State
from tests.kit import rows
from tests.unit.outbox.test_refusals import TIMED_OUT, TOO_LARGE, Answering, put

if TYPE_CHECKING:
    from streams.storage.database import Database

SENT, STORED = Outcome.SENT, Outcome.STORED


def messages(*values: str) -> list[OutgoingMessage]:
    """The key of a value is what stands before its dot."""
    return [
        OutgoingMessage("t", value.split(".")[0].encode(), 0, value.encode(), b"[]", value, "x.v1") for value in values
    ]


async def stored(database: Database) -> list[str]:
    return [row[0].decode() for row in await rows(database, "SELECT value FROM outbox ORDER BY id")]


async def test_what_kafka_takes_is_sent(database: Database) -> None:
    """And leaves nothing in the store."""
    producer = Answering()
    assert await DirectPublisher(producer, 1.0, database).publish(messages("a.1", "a.2", "b.1")) == [SENT] * 3
    assert producer.log == ["a.1", "b.1", "a.2"]
    assert producer.most_in_flight == 2, "one unacknowledged message per key"
    assert await stored(database) == []


async def test_what_is_not_acknowledged_is_stored_with_all_behind_it(database: Database) -> None:
    """Of its key; the others go out."""
    producer = Answering(lambda _topic, value: TIMED_OUT if value == b"a.1" else None)
    outcomes = await DirectPublisher(producer, 1.0, database).publish(messages("a.1", "a.2", "b.1"))
    assert outcomes == [STORED, STORED, SENT]
    assert await stored(database) == ["a.1", "a.2"]
    assert producer.log == ["b.1"]


async def test_nothing_overtakes_what_is_stored(database: Database) -> None:
    """Although Kafka takes everything by now."""
    await put(database, "a.1")
    producer = Answering()
    assert await DirectPublisher(producer, 1.0, database).publish(messages("a.2", "b.1")) == [STORED, SENT]
    assert producer.log == ["b.1"]
    assert await stored(database) == ["a.1", "a.2"]


async def test_an_open_breaker_stores_without_asking(database: Database) -> None:
    """After enough of them were not answered."""
    producer = Answering(lambda _topic, _value: TIMED_OUT)
    publisher = DirectPublisher(producer, 1.0, database)
    await publisher.publish(messages(*(f"k{number}.1" for number in range(6))))
    assert publisher.breaker.state is State.OPEN
    asked = len(producer.asked)
    assert await publisher.publish(messages("z.1")) == [STORED]
    assert len(producer.asked) == asked


async def test_a_silent_broker_does_not_keep_the_caller(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even if librdkafka said nothing at all."""
    monkeypatch.setattr("streams.outbox.direct.DELIVER_MARGIN_SECONDS", 0.1)
    producer = Answering(lambda _topic, _value: Answering.silent)
    began = time.monotonic()
    assert await DirectPublisher(producer, 0.1, database).publish(messages("a.1")) == [STORED]
    assert time.monotonic() - began < 2


async def test_a_refused_message_raises_and_is_not_passed(database: Database) -> None:
    """Storing would not help it; what stands behind it of its key is neither sent nor stored."""
    producer = Answering(lambda _topic, value: TOO_LARGE if value == b"a.1" else None)
    with pytest.raises(NotPublished) as raised:
        await DirectPublisher(producer, 1.0, database).publish(messages("a.1", "a.2", "b.1"))
    assert raised.value.outcomes == {2: SENT}
    assert raised.value.reasons.keys() == {0, 1}
    assert producer.log == ["b.1"]
    assert await stored(database) == []


async def test_what_cannot_be_encoded_does_not_open_the_breaker(database: Database) -> None:
    """However often: it says nothing about the broker."""
    publisher = DirectPublisher(Answering(lambda _topic, _value: TypeError("no bytes")), 1.0, database)
    for _ in range(30):
        with pytest.raises(NotPublished, match="no bytes"):
            await publisher.publish(messages("a.1"))
    assert publisher.breaker.state is State.CLOSED


async def test_without_a_store_what_is_not_sent_raises() -> None:
    """Silence is no answer."""
    publisher = DirectPublisher(Answering(lambda _topic, _value: TIMED_OUT), 1.0)
    with pytest.raises(NotPublished, match="timed out"):
        await publisher.publish(messages("a.1"))


async def test_a_full_store_refuses(database: Database) -> None:
    """With a clear error; and takes again when there is room."""
    await put(database, "a.1", "b.1")
    capacity = Capacity(database, CapacityLimits(max_rows=2))
    publisher = DirectPublisher(Answering(lambda _topic, _value: TIMED_OUT), 1.0, database, capacity)
    with pytest.raises(NotPublished, match="the outbox is full: 2 of 2 rows"):
        await publisher.publish(messages("c.1"))
    async with database.write() as connection:
        await connection.exec_driver_sql("UPDATE outbox SET sent_at_ms = 1")
    capacity._look_again_at = 0.0
    assert await publisher.publish(messages("c.1")) == [STORED]


async def test_a_local_queue_that_is_full_is_waited_for(database: Database) -> None:
    """It is no failure."""

    class FullAtFirst(Answering):
        refusals = 3

        def produce(self, topic: str, **options: Any) -> None:
            if self.refusals:
                self.refusals -= 1
                raise BufferError
            super().produce(topic, **options)

    assert await DirectPublisher(FullAtFirst(), 1.0, database).publish(messages("a.1")) == [SENT]


async def test_header_bytes_survive_the_detour(database: Database) -> None:
    """Also those that are no text, and the trace context."""
    headers: list[tuple[str, str | bytes | None]] = [("x", b"\xff"), ("traceparent", "00-1-2-01"), ("n", None)]
    one = messages("a.1")[0]._replace(headers=pack(headers))
    await DirectPublisher(Answering(lambda _topic, _value: TIMED_OUT), 1.0, database).publish([one])
    kept = (await rows(database, "SELECT headers FROM outbox"))[0][0]
    assert unpack(kept) == [("x", b"\xff"), ("traceparent", b"00-1-2-01"), ("n", None)]
