"""Offsets and the database that do not agree any more: what was applied stays applied once, what is gone is counted."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.integration.notes_app import RealNotesBroker, notes_app
from tests.integration.real.notes import Traffic
from tests.kit import GROUP, TOPIC, rows

if TYPE_CHECKING:
    from pathlib import Path

    from tests.services.kafka import Kafka

RECORDS = 120


@pytest.fixture
def broker(kafka: Kafka, kafka_prefix: str) -> RealNotesBroker:
    return RealNotesBroker(kafka, kafka_prefix)


async def test_offsets_set_back_and_offsets_forgotten_lead_to_duplicates_only(
    kafka: Kafka, broker: RealNotesBroker, database_file: Path
) -> None:
    """A group that starts again at the beginning applies nothing twice, whether its offsets were reset or deleted."""
    traffic = Traffic(broker)
    group = broker.prefix + GROUP
    traffic.send(RECORDS)
    async with notes_app(broker, database_file) as app:
        await app.until_taken(RECORDS)
        await traffic.assert_at_the_end(app, kafka)
    kafka.set_committed(group, dict.fromkeys(kafka.committed(group), 0))
    async with notes_app(broker, database_file) as app:
        await app.until_taken(2 * RECORDS)
        assert (await app.counts())["duplicate"] == RECORDS
        await traffic.assert_at_the_end(app, kafka)
    kafka.forget_group(group)
    traffic.send(RECORDS)
    async with notes_app(broker, database_file) as app:
        await app.until_taken(4 * RECORDS)
        assert (await app.counts())["duplicate"] == 2 * RECORDS
        await traffic.assert_exact(app)
        await traffic.assert_at_the_end(app, kafka)


async def test_what_retention_removed_unread_is_counted_exactly(
    kafka: Kafka, broker: RealNotesBroker, database_file: Path
) -> None:
    """Records removed while the app was down are `lost`, one by one, also where all that was left was removed."""
    traffic = Traffic(broker)
    topic = broker.prefix + TOPIC
    traffic.send(RECORDS)
    async with notes_app(broker, database_file) as app:
        await app.until_taken(RECORDS)
        await traffic.assert_at_the_end(app, kafka)
    read_to = {number: end for (_, number), (_, end) in kafka.watermarks(topic).items()}
    traffic.send(RECORDS)
    ends = {number: end for (_, number), (_, end) in kafka.watermarks(topic).items()}
    unread = {number: ends[number] - read_to[number] for number in ends}
    assert min(unread.values()) > 2, "every partition has records that were not read"
    removed = {0: 0, 1: 1, 2: unread[2] // 2, 3: unread[3]}
    before = {value for _, _, value in kafka.read(topic)}
    for number, count in removed.items():
        kafka.delete_records(topic, number, read_to[number] + count)
    after = {value for _, _, value in kafka.read(topic)}
    texts = (int(json.loads(value or b"")["text"]) for value in before - after)
    gone = frozenset(number for number in texts if number >= RECORDS)
    assert len(gone) == sum(removed.values())

    traffic.send(RECORDS)  # shows what is missing where nothing was left to read
    async with notes_app(broker, database_file) as app:
        await app.until_taken(3 * RECORDS - len(gone))
        await traffic.assert_exact(app, without=gone)
        await traffic.assert_at_the_end(app, kafka)


async def test_a_database_that_was_restored_takes_the_group_back_with_it(
    kafka: Kafka, broker: RealNotesBroker, database_file: Path
) -> None:
    """Kafka's committed offsets are ahead of the restored database: what it has forgotten is handled again, once."""
    traffic = Traffic(broker)
    traffic.send(RECORDS)
    async with notes_app(broker, database_file) as app:
        await app.until_taken(RECORDS)
    backup = database_file.with_name("backup.db")
    with closing(sqlite3.connect(database_file)) as source, closing(sqlite3.connect(backup)) as copy:
        source.backup(copy)
    traffic.send(RECORDS)
    async with notes_app(broker, database_file) as app:
        await app.until_taken(2 * RECORDS)
        await traffic.assert_at_the_end(app, kafka)
        emitted = set(await rows(app.database, "SELECT message_id, value FROM outbox"))
    for rest in ("payday.db-wal", "payday.db-shm"):
        database_file.with_name(rest).unlink(missing_ok=True)
    backup.replace(database_file)
    async with notes_app(broker, database_file) as app:
        await app.until_taken(2 * RECORDS)  # without a new record that would show what is missing
        assert set(await rows(app.database, "SELECT message_id, value FROM outbox")) == emitted
        traffic.send(RECORDS)
        await app.until_taken(3 * RECORDS)
        assert (await app.counts())["duplicate"] == 0
        await traffic.assert_exact(app)
        await traffic.assert_at_the_end(app, kafka)
