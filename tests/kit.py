"""A tiny app on the reliability kit, for the kit's own tests: notes instead of tasks and money."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from confluent_kafka import TopicPartition
from sqlalchemy import text

from streams.intake.record import Record
from streams.intake.subscription import Subscription
from streams.intake.unit_of_work import UnitOfWork
from streams.outbox.envelope import Description

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streams.storage.database import Database

GROUP = "notes"
TOPIC = "notes.commands"


@dataclass(frozen=True)
class Note:
    """A message of the tests' own format."""

    text: str
    key: str = "k"


class NoteCatalog:
    """Knows one type in two versions, and another one."""

    def describe(self, message: Note) -> Description:
        return Description("note.v1", "notes.events", message.key.encode(), "notes")

    def encode(self, message: Note) -> bytes:
        return json.dumps({"text": message.text}).encode()

    def decoder(self, type_name: str) -> Callable[[bytes], Note] | None:
        return {"note.v1": read_note, "note.v2": read_note, "other.v1": read_note}.get(type_name)

    def topic_of(self, _type_name: str) -> str:
        return TOPIC

    def id_problem(self, _message_id: str) -> str | None:
        return None


def read_note(value: bytes) -> Note:
    body = json.loads(value)
    if not isinstance(body, dict) or not isinstance(body.get("text"), str):
        raise ValueError("text: is missing")  # noqa: TRY004  what a decoder raises by its protocol
    return Note(body["text"])


def note(
    offset: int,
    body: str = "hello",
    *,
    key: bytes | None = b"k",
    value: bytes | None = None,
    message_id: str | None = None,
    type_name: str = "note.v1",
    partition: int = 0,
    headers: Sequence[tuple[str, bytes | None]] = (),
    topic: str = TOPIC,
) -> Record:
    """A record as it comes from Kafka, well-formed unless told otherwise."""
    return Record(
        topic,
        partition,
        offset,
        1_700_000_000_000 + offset,
        key,
        json.dumps({"text": body}).encode() if value is None else value,
        [
            ("ce_id", (message_id or str(uuid4())).encode()),
            ("ce_source", b"test"),
            ("ce_type", type_name.encode()),
            *headers,
        ],
    )


@dataclass
class FakeConsumer:
    """Writes down what it is told; says what it is told to say."""

    low: int = 0
    stored: dict[tuple[str, int], int] = field(default_factory=dict)
    sought: list[tuple[str, int, int]] = field(default_factory=list)
    paused: bool = False
    assigned: list[TopicPartition] = field(default_factory=list)
    committed_offsets: dict[tuple[str, int], int] = field(default_factory=dict)

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        self.assigned += partitions

    def assignment(self) -> list[TopicPartition]:
        return self.assigned

    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        return [
            TopicPartition(p.topic, p.partition, self.committed_offsets.get((p.topic, p.partition), -1001))
            for p in partitions
        ]

    def get_watermark_offsets(
        self, partition: TopicPartition, timeout: float = 0.0, *, cached: bool = False
    ) -> tuple[int, int]:
        return self.low, 1_000_000

    def pause(self, partitions: list[TopicPartition]) -> None:
        self.paused = True

    def resume(self, partitions: list[TopicPartition]) -> None:
        self.paused = False

    def seek(self, partition: TopicPartition) -> None:
        self.sought.append((partition.topic, partition.partition, partition.offset))

    def store_offsets(self, *, offsets: list[TopicPartition]) -> None:
        for one in offsets:
            self.stored[one.topic, one.partition] = one.offset


def subscription(database: Database, **options: Any) -> Subscription:
    """A subscription of the tests' app."""
    options = {"accepts": ["note.v1"], "topics": [TOPIC], "group": GROUP, **options}
    return Subscription(catalog=NoteCatalog(), database=database, wake_relay=lambda: None, **options)


async def rows(database: Database, sql: str) -> list[tuple[Any, ...]]:
    """What a SELECT finds."""
    async with database.read() as connection:
        return [tuple(row) for row in await connection.execute(text(sql))]


async def take(
    subscribed: Subscription, records: Sequence[Record], handle: Callable[[UnitOfWork], Any] | None = None
) -> UnitOfWork:
    """Run records through one unit of work, as the middleware does."""
    from streams.intake.decode import decode_all  # noqa: PLC0415  the steps in their order

    decode_all(records, subscribed.catalog, subscribed.accepts)
    async with subscribed.database.write() as connection:
        work = UnitOfWork(connection, subscribed, records)
        await work.open()
        if handle is not None and work.live:
            await handle(work)
        await work.save()
    work.finish()
    return work
