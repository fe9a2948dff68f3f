"""Parked records on their way back: the statements.

Invariant: of the unresolved rows that hold a key the oldest, its head, is `dead` or has a time for its next attempt.
The others have none. What resolves a head promotes the next one in the same transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, exists, func, select, true, update

from streams.intake.parked_row import ParkedRow
from streams.intake.parking import DEAD, RETRYING
from streams.intake.tables import parked, progress
from streams.storage.bulk import among, execute_many

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.intake.record import PartitionKey, Rejection

__all__ = ["Queue", "adopt", "claim", "count", "due", "fail", "next_due_ms", "promote", "resolve"]

Queue = tuple[str, bytes]
"""Topic and key."""

CHUNK_MAX_BYTES = 16_000_000
"""Of one release: rows are read into memory."""

_COLUMNS = (
    parked.c.id,
    parked.c.topic,
    parked.c.partition,
    parked.c.offset,
    parked.c.timestamp_ms,
    parked.c.key,
    parked.c.value,
    parked.c.headers,
    parked.c.attempts,
    parked.c.holds_key,
    parked.c.edits,
    parked.c.edited_value,
    parked.c.edited_headers,
)

_FAIL = (
    update(parked)
    .where(parked.c.id == bindparam("row_id"))
    .values(
        reason=bindparam("new_reason"),
        state=bindparam("new_state"),
        holds_key=bindparam("new_holds_key"),
        attempts=bindparam("new_attempts"),
        next_attempt_at_ms=bindparam("new_next"),
        error_type=bindparam("new_error_type"),
        error=bindparam("new_error"),
        stack=bindparam("new_stack"),
    )
)
_COUNT = (
    update(progress)
    .where(
        progress.c.group_name == bindparam("in_group"),
        progress.c.topic == bindparam("in_topic"),
        progress.c.partition == bindparam("in_partition"),
    )
    .values(
        parked=progress.c.parked - bindparam("fewer_parked"),
        handled=progress.c.handled + bindparam("more_handled"),
        duplicate=progress.c.duplicate + bindparam("more_duplicate"),
        discarded=progress.c.discarded + bindparam("more_discarded"),
    )
)


async def due(
    connection: AsyncConnection, group: str, topics: Sequence[str], now_ms: int, at_most: int
) -> list[ParkedRow]:
    """Records whose time has come, and behind each those that wait for it, in the order of their arrival."""
    heads = await connection.execute(
        select(*_COLUMNS)
        .where(
            parked.c.group_name == group,
            parked.c.resolved_at_ms.is_(None),
            parked.c.next_attempt_at_ms <= now_ms,
            parked.c.topic.in_(topics),
        )
        .order_by(parked.c.next_attempt_at_ms, parked.c.id)
        .limit(at_most)
    )
    rows = [ParkedRow(*tuple(row)) for row in heads]
    queues = {row.queue: row.id for row in rows if row.queue is not None}
    if queues and len(rows) < at_most:
        rows += await _followers(connection, group, queues, at_most - len(rows))
    return _bounded(sorted(rows, key=lambda row: row.id))


async def _followers(
    connection: AsyncConnection, group: str, heads: Mapping[Queue, int], at_most: int
) -> list[ParkedRow]:
    hashes = {ParkedRow.hash_of(key) for _, key in heads}
    found = await connection.execute(
        select(*_COLUMNS)
        .where(
            parked.c.group_name == group,
            parked.c.resolved_at_ms.is_(None),
            parked.c.holds_key == true(),
            parked.c.topic.in_(sorted({topic for topic, _ in heads})),
            among(connection, parked.c.key_hash, hashes),
            parked.c.state == RETRYING,
            parked.c.next_attempt_at_ms.is_(None),
        )
        .order_by(parked.c.id)
        .limit(at_most)
    )
    rows = (ParkedRow(*tuple(row)) for row in found)
    return [row for row in rows if row.queue is not None and row.id > heads.get(row.queue, row.id)]


def _bounded(rows: list[ParkedRow]) -> list[ParkedRow]:
    """As many as fit into memory, at least one: what is cut off are the latest of all."""
    total_bytes = 0
    for number, row in enumerate(rows):
        total_bytes += row.size_bytes
        if number and total_bytes > CHUNK_MAX_BYTES:
            return rows[:number]
    return rows


async def next_due_ms(connection: AsyncConnection, group: str, topics: Sequence[str]) -> int | None:
    """When the next record's time comes; None where there is none."""
    found = await connection.execute(
        select(func.min(parked.c.next_attempt_at_ms)).where(
            parked.c.group_name == group,
            parked.c.resolved_at_ms.is_(None),
            parked.c.next_attempt_at_ms.is_not(None),
            parked.c.topic.in_(topics),
        )
    )
    earliest: int | None = found.scalar()
    return earliest


async def claim(connection: AsyncConnection, rows: Sequence[ParkedRow], now_ms: int) -> set[int]:
    """Lock those of these rows that this transaction may handle.

    Of each key they are its head, which must be due, and followers without a gap. What somebody else has locked,
    resolved, edited or put off since it was read is left to the next look, and so is what comes behind it.
    """
    ids = [row.id for row in rows]
    found = await connection.execute(
        select(parked.c.id, parked.c.edits, parked.c.next_attempt_at_ms)
        .where(among(connection, parked.c.id, ids), parked.c.resolved_at_ms.is_(None), parked.c.state == RETRYING)
        .order_by(parked.c.id)
        .with_for_update(skip_locked=True)
    )
    locked = {row.id: row for row in found}
    claimed: set[int] = set()
    begun: set[Queue] = set()
    broken: set[Queue] = set()
    for row in rows:
        now = locked.get(row.id)
        usable = now is not None and now.edits == row.edits
        is_due = now is not None and now.next_attempt_at_ms is not None and now.next_attempt_at_ms <= now_ms
        queue = row.queue
        if queue is None:
            if usable and is_due:
                claimed.add(row.id)
        elif queue in broken:
            continue
        elif usable and (queue in begun or is_due):
            begun.add(queue)
            claimed.add(row.id)
        else:
            broken.add(queue)
    return claimed


async def resolve(connection: AsyncConnection, ids: Collection[int], now_ms: int) -> None:
    """Mark rows as finished: handled after all, or known as duplicates."""
    if ids:
        await connection.execute(
            update(parked)
            .where(among(connection, parked.c.id, ids))
            .values(resolved_at_ms=now_ms, next_attempt_at_ms=None, attempts=parked.c.attempts + 1)
        )


async def fail(
    connection: AsyncConnection,
    failed: Iterable[tuple[ParkedRow, Rejection, bool, bool, int | None]],
) -> None:
    """Write failed attempts down.

    Args:
        connection: of the transaction that tried.
        failed: row, why, whether it holds its key from now on, whether it is dead, and when to try again if not.
    """
    await execute_many(
        connection,
        _FAIL,
        [
            {
                "row_id": row.id,
                "new_reason": rejection.reason.value,
                "new_state": DEAD if dead else RETRYING,
                "new_holds_key": holds_key,
                "new_attempts": row.attempts + 1,
                "new_next": None if dead else next_attempt_at_ms,
                "new_error_type": rejection.error_type,
                "new_error": rejection.error,
                "new_stack": rejection.stack,
            }
            for row, rejection, holds_key, dead, next_attempt_at_ms in failed
        ],
    )


async def promote(connection: AsyncConnection, group: str, queues: Collection[Queue], now_ms: int) -> None:
    """Make the oldest unresolved row of each of these keys its head, due now unless it is dead."""
    if not queues:
        return
    hashes = {ParkedRow.hash_of(key) for _, key in queues}
    oldest = await connection.execute(
        select(parked.c.topic, parked.c.key, func.min(parked.c.id))
        .where(
            parked.c.group_name == group,
            parked.c.resolved_at_ms.is_(None),
            parked.c.holds_key == true(),
            among(connection, parked.c.key_hash, hashes),
        )
        .group_by(parked.c.topic, parked.c.key)
    )
    ids = sorted(row_id for topic, key, row_id in oldest if (topic, key) in queues)
    await _make_due(connection, ids, now_ms)


async def adopt(connection: AsyncConnection, group: str, topics: Sequence[str], now_ms: int) -> int:
    """Give keys without a head one: a row was removed by hand, or a defect has orphaned its followers.

    Returns:
        How many there were.
    """
    older = parked.alias("older")
    orphans = await connection.execute(
        select(parked.c.id)
        .where(
            parked.c.group_name == group,
            parked.c.topic.in_(topics),
            parked.c.resolved_at_ms.is_(None),
            parked.c.state == RETRYING,
            parked.c.next_attempt_at_ms.is_(None),
            ~exists().where(
                older.c.group_name == parked.c.group_name,
                older.c.topic == parked.c.topic,
                older.c.key_hash == parked.c.key_hash,
                older.c.resolved_at_ms.is_(None),
                older.c.holds_key == true(),
                older.c.id < parked.c.id,
            ),
        )
        .with_for_update(skip_locked=True, of=parked)
    )
    ids = [row.id for row in orphans]
    await _make_due(connection, ids, now_ms)
    return len(ids)


async def _make_due(connection: AsyncConnection, ids: Collection[int], now_ms: int) -> None:
    if ids:
        await connection.execute(
            update(parked)
            .where(
                among(connection, parked.c.id, ids),
                parked.c.state == RETRYING,
                parked.c.next_attempt_at_ms.is_(None),
            )
            .values(next_attempt_at_ms=now_ms)
        )


async def count(
    connection: AsyncConnection,
    group: str,
    resolved: Mapping[PartitionKey, tuple[int, int, int]],
) -> None:
    """Move records from `parked` to another count of their partition.

    Args:
        connection: of the transaction that resolves them.
        group: whose they are.
        resolved: per partition, how many were handled, duplicates and discarded.
    """
    await execute_many(
        connection,
        _COUNT,
        [
            {
                "in_group": group,
                "in_topic": topic,
                "in_partition": partition,
                "fewer_parked": handled + duplicate + discarded,
                "more_handled": handled,
                "more_duplicate": duplicate,
                "more_discarded": discarded,
            }
            for (topic, partition), (handled, duplicate, discarded) in sorted(resolved.items())
        ],
    )
