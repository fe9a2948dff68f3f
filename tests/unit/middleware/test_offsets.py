"""The outermost step settles every delivery: finished offsets are stored, the rest is read again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from faststream import ContextRepo

from streams.intake.classify import Fenced, Outage
from streams.intake.record import Outcome
from streams.middleware.message import IntakeMessage, parse_message
from streams.middleware.offsets import Offsets
from streams.middleware.step import Subscriptions
from tests.kit import GROUP, TOPIC, FakeConsumer, subscription

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.intake.subscription import Subscription
    from streams.storage.database import Database


class Raw:
    """A record-like object."""

    def __init__(self, offset: int, partition: int = 0) -> None:
        self._offset, self._partition = offset, partition

    def topic(self) -> str:
        return TOPIC

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes:
        return b"k"

    def value(self) -> bytes:
        return b"{}"

    def headers(self) -> list[tuple[str, bytes]]:
        return []

    def timestamp(self) -> tuple[int, int]:
        return (1, 0)


class Subscriber:
    """What is read of a FastStream subscriber."""

    group_id = GROUP
    topic_names = (TOPIC,)


async def deliver(
    subscribed: Subscription, raws: tuple[Raw, ...], handle: Callable[[IntakeMessage], Any]
) -> FakeConsumer:
    """Run one delivery through the step as FastStream does, swallowing what escapes as FastStream does."""
    consumer = FakeConsumer()
    subscribed.assignment._consumer = consumer
    known = Subscriptions()
    known.add(subscribed)
    context = ContextRepo()
    with context.scope("handler_", Subscriber()):
        try:
            async with Offsets(raws, context=context, subscriptions=known) as step:
                message = await parse_message(raws)

                async def call_next(part: IntakeMessage) -> None:
                    await handle(part)

                await step.consume_scope(call_next, message)
        except Exception:
            pass
    return consumer


def finish(message: IntakeMessage, *offsets: int) -> None:
    for record in message.records:
        if record.offset in offsets:
            record.outcome = Outcome.HANDLED


async def test_offsets_of_finished_records_are_stored(database: Database) -> None:
    """After a committed batch the position behind its last record is stored, per partition."""

    async def handle(message: IntakeMessage) -> None:
        finish(message, 0, 1, 7)

    consumer = await deliver(subscription(database), (Raw(0), Raw(1), Raw(7, 1)), handle)
    assert consumer.stored == {(TOPIC, 0): 2, (TOPIC, 1): 8}
    assert consumer.sought == []


@pytest.mark.parametrize("error", [ValueError("a bug"), Outage("away"), Fenced("replaced"), asyncio.CancelledError()])
async def test_an_unfinished_batch_is_read_again(database: Database, error: BaseException) -> None:
    """Whatever ends the delivery without a commit, nothing is stored and the consumer goes back."""

    async def handle(_message: IntakeMessage) -> None:
        raise error

    subscribed = subscription(database)
    consumer = await deliver(subscribed, (Raw(4), Raw(5), Raw(9, 1)), handle)
    await subscribed.close()
    assert consumer.stored == {}
    assert consumer.sought == [(TOPIC, 0, 4), (TOPIC, 1, 9)]


async def test_nothing_beyond_an_unfinished_record_is_stored(database: Database) -> None:
    """A finished record behind an unfinished one of its partition does not move the offset past it."""

    async def handle(message: IntakeMessage) -> None:
        finish(message, 0, 2)

    consumer = await deliver(subscription(database), (Raw(0), Raw(1), Raw(2)), handle)
    assert consumer.stored == {(TOPIC, 0): 1}
    assert consumer.sought == [(TOPIC, 0, 1)]


async def test_an_error_before_the_steps_loses_nothing(database: Database) -> None:
    """An error in a later middleware's on_receive never reaches consume_scope; the batch is read again."""
    consumer = FakeConsumer()
    subscribed = subscription(database)
    subscribed.assignment._consumer = consumer
    known = Subscriptions()
    known.add(subscribed)
    context = ContextRepo()
    with context.scope("handler_", Subscriber()), pytest.raises(RuntimeError, match="on_receive"):
        async with Offsets((Raw(3),), context=context, subscriptions=known):
            raise RuntimeError("on_receive")
    assert consumer.sought == [(TOPIC, 0, 3)]


async def test_an_outage_pauses_the_assignment(database: Database) -> None:
    """During an outage the consumer stays in the group with its partitions paused, and resumes by itself."""

    async def handle(_message: IntakeMessage) -> None:
        raise Outage("the database is away")

    subscribed = subscription(database)
    consumer = await deliver(subscribed, (Raw(0),), handle)
    flags = [consumer.paused, subscribed.assignment.paused]
    async with asyncio.timeout(5):
        while subscribed.assignment.paused:  # noqa: ASYNC110  the point is to watch it from outside
            await asyncio.sleep(0.01)
    assert [*flags, consumer.paused] == [True, True, False]
    await subscribed.close()


async def test_a_batch_polled_before_a_pause_is_not_handled(database: Database) -> None:
    """What FastStream had polled already goes back unseen."""
    handled = []

    async def handle(message: IntakeMessage) -> None:
        handled.append(message)

    subscribed = subscription(database)
    subscribed.assignment.paused = True
    consumer = await deliver(subscribed, (Raw(0),), handle)
    assert handled == []
    assert consumer.sought == [(TOPIC, 0, 0)]


async def test_a_cancellation_of_the_task_itself_is_not_swallowed(database: Database) -> None:
    """Only a stray cancellation is; a real stop goes through."""

    async def handle(_message: IntakeMessage) -> None:
        await asyncio.sleep(10)

    task = asyncio.create_task(deliver(subscription(database), (Raw(0),), handle))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_partitions_are_resumed_or_paused_explicitly_when_assigned(database: Database) -> None:
    """librdkafka keeps a pause flag across a revocation, so each assignment says what it wants."""
    from confluent_kafka import TopicPartition  # noqa: PLC0415

    subscribed = subscription(database)
    subscribed.assignment.attach(asyncio.get_running_loop())
    consumer = FakeConsumer(paused=True)
    await asyncio.to_thread(subscribed.assignment.on_assign, consumer, [TopicPartition(TOPIC, 0)])
    assert not consumer.paused
    subscribed.assignment.pause()
    consumer.paused = False
    await asyncio.to_thread(subscribed.assignment.on_assign, consumer, [TopicPartition(TOPIC, 1)])
    assert consumer.paused


async def test_a_restored_database_is_read_from_its_own_position(database: Database) -> None:
    """Where Kafka's committed offset is ahead of progress, reading starts at progress."""
    from confluent_kafka import TopicPartition  # noqa: PLC0415

    from tests.kit import note, take  # noqa: PLC0415

    await take(subscription(database), [note(0), note(1)])
    subscribed = subscription(database)
    subscribed.assignment.attach(asyncio.get_running_loop())
    consumer = FakeConsumer(committed_offsets={(TOPIC, 0): 50})
    partitions = [TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)]
    await asyncio.to_thread(subscribed.assignment.on_assign, consumer, partitions)
    assert [(p.partition, p.offset) for p in consumer.assigned] == [(0, 2), (1, -1001)]
