"""A small FastStream app on the kit and an embedded broker, in this process."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
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

    from streams.intake.unit_of_work import UnitOfWork

LIMITS = Limits(max_records=50, contention_budget_seconds=0.3, outage_first_wait_seconds=0.05)

Handle = "Callable[[Batch[Any], UnitOfWork], Awaitable[None]]"


async def echo(batch: Batch[Any], work: UnitOfWork) -> None:
    """Emit one event per record."""
    for record in batch:
        if record.message is not None:
            work.send([work.outgoing(Note(record.message.text), work.cause(record), 0)])


class NotesApp:
    """What a test sees of the app."""

    def __init__(self, address: str, database: Database, intake: Intake) -> None:
        self.address = address
        self.database = database
        self.intake = intake
        self._producer = Producer(producer_settings(address))
        self.sent = 0

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
            self._producer.produce(TOPIC, key=key, value=value, headers=headers)
            self.sent += 1
        assert self._producer.flush(10) == 0

    async def until_taken(self, count: int | None = None, seconds: float = 20.0) -> None:
        """Wait until so many records have had an outcome."""
        await self.until(lambda: self._consumed(self.sent if count is None else count), seconds)

    async def until(self, condition: Callable[[], Awaitable[bool]], seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not await condition():
            assert time.monotonic() < deadline, "waited in vain"
            await asyncio.sleep(0.02)

    async def counts(self) -> dict[str, int]:
        names = ("consumed", "handled", "duplicate", "parked", "lost", "skipped")
        columns = ", ".join(f"coalesce(sum({name}), 0)" for name in names)
        (found,) = await rows(self.database, f"SELECT {columns} FROM progress")
        return dict(zip(names, found, strict=True))

    def committed(self) -> int:
        """The group's committed offsets, summed over the partitions."""
        consumer = Consumer({"bootstrap.servers": self.address, "group.id": GROUP})
        partitions = consumer.committed([TopicPartition(TOPIC, number) for number in range(4)], timeout=5)
        consumer.close()
        return sum(max(one.offset, 0) for one in partitions)

    async def _consumed(self, count: int) -> bool:
        return (await self.counts())["consumed"] >= count


@asynccontextmanager
async def notes_app(
    database_file: Path, handle: Any = echo, *, middlewares: Sequence[Any] = (), limits: Limits = LIMITS
) -> AsyncIterator[NotesApp]:
    """Run the app until the block ends."""
    database = Database(f"sqlite+aiosqlite:///{database_file}", lock_timeout_seconds=0.1)
    with EmbeddedBroker([TOPIC]) as kafka:
        intake = Intake(database, NoteCatalog(), wake_relay=lambda: None, limits=limits)
        broker = KafkaBroker(
            kafka.address,
            allow_auto_create_topics=False,
            config=consumer_config(limits),  # type: ignore[arg-type]
            middlewares=[*intake.middlewares, *middlewares],
            logger=None,
        )
        subscription = intake.subscribe(TOPIC, group=GROUP, accepts=["note.v1"])

        @broker.subscriber(*subscription.topics, **intake.options(subscription))  # type: ignore[untyped-decorator]
        async def notes(batch: Batch[Note], work: Work) -> None:
            await handle(batch, work)

        await intake.start()
        await broker.start()
        try:
            yield NotesApp(kafka.address, database, intake)
        finally:
            await broker.stop()
            await intake.stop()
            await database.close()
