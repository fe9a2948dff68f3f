"""Records that cannot be handled now, kept whole and in order.

Invariant: while a key of a group and topic has an unresolved row that holds it, every later record of that key is
appended behind it.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from sqlalchemy import case as sql_case
from sqlalchemy import exists, func, or_, select, true

from streams.intake.parked_row import ParkedRow
from streams.intake.record import Reason
from streams.intake.tables import parked
from streams.outbox.headers import pack
from streams.storage.bulk import among, insert_rows
from streams.storage.errors import DatabaseBusy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.intake.record import Record, Rejection
    from streams.intake.retries import Retries

__all__ = [
    "DEAD",
    "RETRYING",
    "HeldKeys",
    "already_parked",
    "count_held",
    "load_held_keys",
    "park",
    "parked_counts",
    "parked_identity",
    "store_size",
]

RETRYING = "retrying"
DEAD = "dead"
"""The stored states of an unresolved row."""
BLOCKED = "blocked"
"""How a row is shown that waits for its turn: stored is that it has no time for a next attempt."""
LOCK_ROUNDS = 10
"""How often heads are locked anew because a release had moved on; then the transaction is redone."""

COLUMNS = (
    "group_name",
    "topic",
    "partition",
    "offset",
    "timestamp_ms",
    "record_hash",
    "key",
    "key_hash",
    "value",
    "headers",
    "type",
    "source",
    "message_id",
    "reason",
    "state",
    "holds_key",
    "attempts",
    "next_attempt_at_ms",
    "error_type",
    "error",
    "stack",
    "parked_at_ms",
)

HeldKeys = AbstractSet[tuple[str, bytes]]
"""(topic, key) whose later records must wait."""

ParkedIdentity = tuple[str, int, int, int, bytes]
"""Topic, partition, offset, timestamp and hash: one record of one group, also after a topic was made anew."""


async def load_held_keys(connection: AsyncConnection, group: str, records: Iterable[Record]) -> HeldKeys:
    """Which of these records' keys are held already. One cheap question where nothing is parked at all.

    The answer stays true until the transaction ends: it locks the heads of these keys against being released, and a
    release that is under way is waited for. Otherwise a key's last record could be resolved between the question and
    the appending of one more, which then would wait behind nobody.

    Raises:
        DatabaseBusy: releases kept moving on; redone, the transaction sees what came of it.
    """
    holding = (parked.c.group_name == group, parked.c.resolved_at_ms.is_(None), parked.c.holds_key == true())
    if not (await connection.execute(select(exists().where(*holding)))).scalar():
        return set()
    hashes = {record.key_hash for record in records if record.key is not None}
    these = (*holding, among(connection, parked.c.key_hash, hashes))
    question = select(parked.c.topic, parked.c.key).where(*these).distinct()
    if connection.dialect.name == "sqlite":  # the transaction has the one write lock
        return {(row.topic, row.key) for row in await connection.execute(question)}
    is_head = or_(parked.c.state == DEAD, parked.c.next_attempt_at_ms.is_not(None))
    lock = select(parked.c.topic, parked.c.key).where(*these, is_head).order_by(parked.c.id).with_for_update(read=True)
    for _ in range(LOCK_ROUNDS):
        locked = {(row.topic, row.key) for row in await connection.execute(lock)}
        held = {(row.topic, row.key) for row in await connection.execute(question)}
        if held <= locked:
            return held
    raise DatabaseBusy("parked records of these keys are being released")


async def count_held(connection: AsyncConnection, group: str, queues: HeldKeys) -> dict[tuple[str, bytes], int]:
    """How many unresolved records each of these keys (topic, key) has."""
    rows = await connection.execute(
        select(parked.c.topic, parked.c.key, func.count())
        .where(
            parked.c.group_name == group,
            parked.c.resolved_at_ms.is_(None),
            parked.c.holds_key == true(),
            among(connection, parked.c.key_hash, {ParkedRow.hash_of(key) for _, key in queues}),
        )
        .group_by(parked.c.topic, parked.c.key)
    )
    return {(topic, key): count for topic, key, count in rows}


async def store_size(connection: AsyncConnection, group: str, topics: Sequence[str]) -> tuple[int, int]:
    """How many records of a group are unresolved, and the bytes of their keys, values and headers."""
    size = (
        func.coalesce(func.length(parked.c.key), 0)
        + func.coalesce(func.length(parked.c.value), 0)
        + func.length(parked.c.headers)
    )
    row = await connection.execute(
        select(func.count(), func.coalesce(func.sum(size), 0)).where(
            parked.c.group_name == group, parked.c.topic.in_(topics), parked.c.resolved_at_ms.is_(None)
        )
    )
    records, size_bytes = row.one()
    return int(records), int(size_bytes)


async def already_parked(connection: AsyncConnection, group: str, records: Iterable[Record]) -> set[ParkedIdentity]:
    """Which of these records were parked before, in whatever state they are now. Others may be among them."""
    wanted = list(records)
    if not wanted:
        return set()
    rows = await connection.execute(
        select(parked.c.topic, parked.c.partition, parked.c.offset, parked.c.timestamp_ms, parked.c.record_hash).where(
            parked.c.group_name == group,
            among(connection, parked.c.topic, {record.topic for record in wanted}),
            among(connection, parked.c.partition, {record.partition for record in wanted}),
            among(connection, parked.c.offset, {record.offset for record in wanted}),
        )
    )
    return {tuple(row) for row in rows}


async def parked_counts(connection: AsyncConnection) -> dict[tuple[str, str], int]:
    """Unresolved records by group and state as shown: `retrying`, `blocked` or `dead`."""
    blocked = (parked.c.state == RETRYING) & parked.c.next_attempt_at_ms.is_(None)
    shown = sql_case((blocked, BLOCKED), else_=parked.c.state).label("shown")
    rows = await connection.execute(
        select(parked.c.group_name, shown, func.count())
        .where(parked.c.resolved_at_ms.is_(None))
        .group_by(parked.c.group_name, shown)
    )
    return {(group, state): count for group, state, count in rows}


def parked_identity(record: Record) -> ParkedIdentity:
    """What `already_parked` compares."""
    return (record.topic, record.partition, record.offset, record.timestamp_ms, record.record_hash)


async def park(
    connection: AsyncConnection,
    group: str,
    entries: Sequence[tuple[Record, Rejection, bool]],
    now_ms: int,
    retries: Retries,
    held_before: HeldKeys = frozenset(),
) -> None:
    """Set records aside, in the order given. The first one of a key that nobody held becomes its head.

    Args:
        connection: of the transaction that takes the records.
        group: the consumer group that could not handle them.
        entries: record, why, and whether it holds its key.
        now_ms: the time to write down.
        retries: when and how often they are tried again.
        held_before: keys that have a head already.
    """
    rows = []
    have_head = set(held_before)
    for record, rejection, holds_key in entries:
        attempts = 1 if rejection.reason is Reason.FAILED else 0
        dead = retries.is_spent(rejection.reason, attempts)
        waits = False
        if holds_key:
            assert record.key is not None, "without a key there is nothing to hold"
            waits = (record.topic, record.key) in have_head
            have_head.add((record.topic, record.key))
        delay_ms = 0 if rejection.reason is Reason.BEHIND else retries.delay_ms(attempts)
        rows.append(
            (
                group,
                record.topic,
                record.partition,
                record.offset,
                record.timestamp_ms,
                record.record_hash,
                record.key,
                record.key_hash,
                record.value,
                pack(record.headers),
                _stored(record.type),
                _stored(record.attributes.get("ce_source")),
                _stored(record.attributes.get("ce_id")),
                rejection.reason.value,
                DEAD if dead else RETRYING,
                holds_key,
                attempts,
                None if dead or waits else now_ms + delay_ms,
                rejection.error_type,
                rejection.error,
                rejection.stack,
                now_ms,
            )
        )
    await insert_rows(connection, parked, COLUMNS, rows)


def _stored(attribute: str | None) -> str | None:
    """An attribute that fits its column; the original stands in the headers."""
    return None if attribute is None else attribute[:255].replace("\x00", "")
