"""A small FastStream app on the kit, in this process, on a broker of either kind."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from confluent_kafka import Consumer, Producer, TopicPartition
from faststream.confluent import KafkaBroker

from streams.embedded.broker import EmbeddedBroker
from streams.intake.batch import Batch
from streams.intake.subscription import Limits
from streams.middleware.intake import Intake, consumer_config
from streams.middleware.unit_of_work import Work
from streams.outbox.producer import producer_settings
from streams.storage.database import Database
from tests.kit import GROUP, TOPIC, Note, NoteCatalog, rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    from streams.intake.classify import Classifiers
    from streams.intake.retries import Retries
    from streams.intake.unit_of_work import UnitOfWork
    from streams.outbox.envelope import MessageCatalog
    from tests.services.kafka import Kafka

PARTITIONS = 4
LIMITS = Limits(max_records=50, contention_budget_seconds=0.3, outage_first_wait_seconds=0.05)
COUNTED = ("consumed", "handled", "duplicate", "parked", "lost", "skipped")

Handle = "Callable[[Batch[Any], UnitOfWork], Awaitable[None]]"


class NotesBroker(Protocol):
    """A broker with the app's topic.

    Attributes:
        address: bootstrap servers.
        prefix: of topics and groups.
    """

    address: str
    prefix: str

    def start_anew(self) -> None:
        """Forget every record and every committed offset."""
        ...


class EmbeddedNotesBroker:
    """The embedded broker, in this process."""

    prefix = ""

    def __init__(self) -> None:
        self._broker = EmbeddedBroker([TOPIC])
        self.address = self._broker.address

    def start_anew(self) -> None:
        self._broker.stop()
        self._broker = EmbeddedBroker([TOPIC])
        self.address = self._broker.address

    def stop(self) -> None:
        self._broker.stop()


class RealNotesBroker:
    """A part of a real Kafka: what begins with a prefix."""

    def __init__(self, kafka: Kafka, prefix: str) -> None:
        self.address = kafka.address
        self.prefix = prefix
        self._kafka = kafka
        kafka.create_topic(prefix + TOPIC, PARTITIONS)

    def start_anew(self) -> None:
        self._kafka.delete_prefix(self.prefix)
        self._kafka.create_topic(self.prefix + TOPIC, PARTITIONS)


async def echo(batch: Batch[Any], work: UnitOfWork) -> None:
    """Emit one event per record, under the record's key."""
    for record in batch:
        if record.message is not None:
            note = Note(record.message.text, (record.key or b"").decode())
            work.send([work.outgoing(note, work.cause(record), 0)])


class NotesSender:
    """Publishes notes, whether an app runs or not."""

    def __init__(self, broker: NotesBroker) -> None:
        self.broker = broker
        self.sent = 0
        self._producer = Producer({**producer_settings(broker.address), "log_level": 0})

    def send(self, *bodies: str | bytes, key: bytes = b"k", message_ids: Sequence[str] = ()) -> None:
        """Publish notes; bytes are sent as they are."""
        for number, body in enumerate(bodies):
            message_id = message_ids[number] if message_ids else str(uuid4())
            value = body if isinstance(body, bytes) else json.dumps({"text": body}).encode()
            headers: list[tuple[str, str | bytes | None]] = [
                ("ce_id", message_id),
                ("ce_source", "test"),
                ("ce_type", "note.v1"),
            ]
            self._producer.produce(self.broker.prefix + TOPIC, key=key, value=value, headers=headers)
            self.sent += 1
        assert self._producer.flush(10) == 0


class NotesApp(NotesSender):
    """What a test sees of the app."""

    def __init__(self, broker: NotesBroker, database: Database, intake: Intake) -> None:
        super().__init__(broker)
        self.database = database
        self.intake = intake

    async def until_taken(self, count: int | None = None, seconds: float = 20.0) -> None:
        """Wait until so many records have had an outcome."""
        await self.until(lambda: self._consumed(self.sent if count is None else count), seconds)

    async def until_handled(self, count: int, seconds: float = 20.0) -> None:
        """Wait until so many records have been handled, however many were read again meanwhile."""

        async def handled() -> bool:
            return (await self.counts())["handled"] >= count

        await self.until(handled, seconds)

    async def until(self, condition: Callable[[], Awaitable[bool]], seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not await condition():
            assert time.monotonic() < deadline, f"waited in vain: {await self.counts()}"
            await asyncio.sleep(0.02)

    async def until_committed(self, offsets: int, seconds: float = 20.0) -> None:
        """Wait until the group's committed offsets, summed over the partitions, are this."""

        async def committed() -> bool:
            return await asyncio.to_thread(self.committed) == offsets

        await self.until(committed, seconds)

    async def until_paused(self) -> None:
        """Wait until the app has noticed that it cannot work."""

        async def paused() -> bool:
            return all(one.assignment.paused for one in self.intake.subscriptions)

        await self.until(paused)

    async def counts(self) -> dict[str, int]:
        columns = ", ".join(f"coalesce(sum({name}), 0)" for name in COUNTED)
        (found,) = await rows(self.database, f"SELECT {columns} FROM progress")
        return {name: int(count) for name, count in zip(COUNTED, found, strict=True)}

    def committed(self) -> int:
        """The group's committed offsets, summed over the partitions."""
        prefix = self.broker.prefix
        consumer = Consumer({"bootstrap.servers": self.broker.address, "group.id": prefix + GROUP, "log_level": 0})
        partitions = [TopicPartition(prefix + TOPIC, number) for number in range(PARTITIONS)]
        committed = consumer.committed(partitions, timeout=5)
        consumer.close()
        return sum(max(one.offset, 0) for one in committed)

    async def _consumed(self, count: int) -> bool:
        return (await self.counts())["consumed"] >= count


@asynccontextmanager
async def notes_app(
    broker: NotesBroker,
    database_url: str | Path,
    handle: Any = echo,
    *,
    middlewares: Sequence[Any] = (),
    limits: Limits = LIMITS,
    catalog: MessageCatalog | None = None,
    retries: Retries | None = None,
    classifiers: Classifiers | None = None,
    **options: Any,
) -> AsyncIterator[NotesApp]:
    """Run the app until the block ends.

    Args:
        broker: has its topic.
        database_url: or the path of an SQLite file.
        handle: called with each batch and its unit of work.
        middlewares: farther in than the kit's.
        limits: of the intake.
        catalog: where it is to be another than the notes' own.
        retries: of the intake; None: what is parked stays so.
        classifiers: of the handler's errors.
        options: of the subscriber, where they are to be others than the kit's.
    """
    url = database_url if isinstance(database_url, str) else f"sqlite+aiosqlite:///{database_url}"
    database = Database(url, lock_timeout_seconds=0.1)
    intake = Intake(
        database,
        catalog or NoteCatalog(),
        wake_relay=lambda: None,
        topic_prefix=broker.prefix,
        group_prefix=broker.prefix,
        limits=limits,
        retries=retries,
        classifiers=classifiers,
    )
    stream = KafkaBroker(
        broker.address,
        allow_auto_create_topics=False,
        config=consumer_config(limits),  # type: ignore[arg-type]
        middlewares=[*intake.middlewares, *middlewares],
        logger=None,
    )
    subscription = intake.subscribe(TOPIC, group=GROUP, accepts=["note.v1"])

    @stream.subscriber(*subscription.topics, **{**intake.options(subscription), **options})  # type: ignore[untyped-decorator]
    async def notes(batch: Batch[Note], work: Work) -> None:
        await handle(batch, work)

    await intake.start(stream if retries is not None else None)
    await stream.start()
    try:
        yield NotesApp(broker, database, intake)
    finally:
        await intake.stop_releasing()
        await stream.stop()
        await intake.stop()
        await database.close()
