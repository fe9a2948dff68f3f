"""Records that cannot be handled now, kept whole and in order.

Invariant: while a key of a group and topic has an unresolved row that holds it, every later record of that key is
appended behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import case, exists, func, select, true

from streams.intake.record import Reason
from streams.intake.tables import parked
from streams.outbox.headers import pack
from streams.storage.bulk import among, insert_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.intake.record import Record, Rejection

__all__ = [
    "DEAD",
    "RETRYING",
    "HeldKeys",
    "already_parked",
    "load_held_keys",
    "park",
    "parked_counts",
    "parked_identity",
]

RETRYING = "retrying"
DEAD = "dead"
"""The stored states of an unresolved row."""
BLOCKED = "blocked"
"""How a row is shown that waits behind an earlier one; stored is its reason `behind`, not this."""

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
    "error_type",
    "error",
    "stack",
    "parked_at_ms",
)

HeldKeys = set[tuple[str, bytes]]
"""(topic, key) whose later records must wait."""

ParkedIdentity = tuple[str, int, int, int, bytes]
"""Topic, partition, offset, timestamp and hash: one record of one group, also after a topic was made anew."""


async def load_held_keys(connection: AsyncConnection, group: str, records: Iterable[Record]) -> HeldKeys:
    """Which of these records' keys are held already. One cheap question where nothing is parked at all."""
    holding = (parked.c.group_name == group, parked.c.resolved_at_ms.is_(None), parked.c.holds_key == true())
    if not (await connection.execute(select(exists().where(*holding)))).scalar():
        return set()
    hashes = {record.key_hash for record in records if record.key is not None}
    rows = await connection.execute(
        select(parked.c.topic, parked.c.key).where(*holding, among(connection, parked.c.key_hash, hashes)).distinct()
    )
    return {(row.topic, row.key) for row in rows}


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
    blocked = parked.c.reason == Reason.BEHIND.value
    shown = case((blocked, BLOCKED), else_=parked.c.state).label("shown")
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
) -> None:
    """Set records aside, in the order given.

    Args:
        connection: of the transaction that takes the records.
        group: the consumer group that could not handle them.
        entries: record, why, and whether it holds its key.
        now_ms: the time to write down.
    """
    rows = []
    for record, rejection, holds_key in entries:
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
                DEAD if rejection.reason.is_dead_at_once else RETRYING,
                holds_key,
                1 if rejection.reason is Reason.FAILED else 0,
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
