"""Finds the record that kills its process: who owns a partition, and what was being handled when somebody died.

A process that dies says nothing. So each one writes down which partitions it is handling and where they stood when it
began, and takes the row away when it gives a partition back in good order. Whoever finds a row of somebody else, and
the partition where that one began, treats the next records as suspects: an owner that came on before it died was killed
by somebody else, or its successor dies at the same place without having come on. A
suspect is handled alone, and that it is about to be handled is committed first; the one whose attempts begin too often
without an end is the killer. What is released from the parked records has no owner: of these, every chunk's attempts
are written down, and records with an attempt that has no end are tried alone from then on.

Invariant: of all groups in a process one suspect at a time is handled, so that a death is blamed on one record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from streams.intake.tables import ownership, progress, suspect
from streams.storage.bulk import among, execute_many
from streams.storage.clock import database_time_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.intake.record import PartitionKey, Record

__all__ = ["begin_attempt", "begin_attempts", "end_attempts", "give_back", "take_over", "unfinished_attempts"]

_END = delete(suspect).where(
    suspect.c.group_name == bindparam("in_group"),
    suspect.c.topic == bindparam("in_topic"),
    suspect.c.partition == bindparam("in_partition"),
    suspect.c.offset == bindparam("in_offset"),
)


async def take_over(
    connection: AsyncConnection, group: str, partitions: Iterable[PartitionKey], holder: str
) -> set[PartitionKey]:
    """Write down that this process handles these partitions.

    Returns:
        Those that somebody else has not given back, and has not come on in or has left an attempt without an end in.
    """
    now_ms = await database_time_ms(connection)
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    left: set[PartitionKey] = set()
    for topic, partition in sorted(partitions):
        found = await connection.execute(
            select(ownership.c.holder, ownership.c.from_offset).where(
                ownership.c.group_name == group, ownership.c.topic == topic, ownership.c.partition == partition
            )
        )
        before = found.first()
        stands_at = await _next_offset(connection, group, topic, partition)
        if before is not None and before.holder != holder:
            stuck = before.from_offset == stands_at
            if stuck or await _has_attempt(connection, group, topic, partition):
                left.add((topic, partition))
        statement = dialect.insert(ownership).values(
            group_name=group, topic=topic, partition=partition, holder=holder, since_ms=now_ms, from_offset=stands_at
        )
        await connection.execute(
            statement.on_conflict_do_update(
                index_elements=["group_name", "topic", "partition"],
                set_={name: statement.excluded[name] for name in ("holder", "since_ms", "from_offset")},
            )
        )
    return left


async def _next_offset(connection: AsyncConnection, group: str, topic: str, partition: int) -> int | None:
    found = await connection.execute(
        select(progress.c.next_offset).where(
            progress.c.group_name == group, progress.c.topic == topic, progress.c.partition == partition
        )
    )
    offset: int | None = found.scalar()
    return offset


async def _has_attempt(connection: AsyncConnection, group: str, topic: str, partition: int) -> bool:
    found = await connection.execute(
        select(suspect.c.offset)
        .where(suspect.c.group_name == group, suspect.c.topic == topic, suspect.c.partition == partition)
        .limit(1)
    )
    return found.first() is not None


async def give_back(
    connection: AsyncConnection, group: str, holder: str, partitions: Iterable[PartitionKey] | None = None
) -> None:
    """Say that nothing of these partitions, or of any, is being handled here any more."""
    mine = (ownership.c.group_name == group, ownership.c.holder == holder)
    if partitions is None:
        await connection.execute(delete(ownership).where(*mine))
        return
    for topic, partition in sorted(partitions):
        await connection.execute(
            delete(ownership).where(*mine, ownership.c.topic == topic, ownership.c.partition == partition)
        )


async def unfinished_attempts(connection: AsyncConnection, group: str, records: Sequence[Record]) -> int:
    """How many attempts at these records began and have no end."""
    found = await connection.execute(
        select(suspect.c.topic, suspect.c.partition, suspect.c.offset).where(
            suspect.c.group_name == group, among(connection, suspect.c.offset, {record.offset for record in records})
        )
    )
    begun = {(topic, partition, offset) for topic, partition, offset in found}
    return sum((record.topic, record.partition, record.offset) in begun for record in records)


async def begin_attempts(connection: AsyncConnection, group: str, records: Sequence[Record]) -> None:
    """Write down that records are about to be handled."""
    now_ms = await database_time_ms(connection)
    statement = _upsert(connection).values([_row(group, record, now_ms) for record in records])
    await connection.execute(_counting(statement))


async def begin_attempt(connection: AsyncConnection, group: str, record: Record) -> int:
    """Write down that a record is about to be handled; how often that has been done, this time included."""
    statement = _upsert(connection).values(_row(group, record, await database_time_ms(connection)))
    return int((await connection.execute(_counting(statement).returning(suspect.c.attempts))).scalar_one())


async def end_attempts(connection: AsyncConnection, group: str, records: Sequence[Record]) -> None:
    """Write down that the process has outlived them."""
    await execute_many(
        connection,
        _END,
        [
            {
                "in_group": group,
                "in_topic": record.topic,
                "in_partition": record.partition,
                "in_offset": record.offset,
            }
            for record in records
        ],
    )


def _row(group: str, record: Record, now_ms: int) -> dict[str, Any]:
    return {
        "group_name": group,
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "attempts": 1,
        "began_at_ms": now_ms,
    }


def _upsert(connection: AsyncConnection) -> Any:
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(suspect)


def _counting(statement: Any) -> Any:
    return statement.on_conflict_do_update(
        index_elements=["group_name", "topic", "partition", "offset"],
        set_={"attempts": suspect.c.attempts + 1, "began_at_ms": statement.excluded.began_at_ms},
    )
