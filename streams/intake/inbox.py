"""Which messages a group has handled already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from streams.intake.tables import inbox
from streams.storage.bulk import among, insert_new_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.intake.record import Record

__all__ = ["Seen", "add_to_inbox", "find_in_inbox"]

Seen = dict[tuple[str, str], tuple[str, bytes]]
"""(source, id) -> (type, hash of the body) of messages that were handled."""

COLUMNS = ("group_name", "source", "message_id", "type", "body_hash", "recorded_at_ms")


async def find_in_inbox(connection: AsyncConnection, group: str, message_ids: Iterable[str]) -> Seen:
    """The handled messages among those with these ids, of whatever source."""
    rows = await connection.execute(
        select(inbox.c.source, inbox.c.message_id, inbox.c.type, inbox.c.body_hash).where(
            inbox.c.group_name == group, among(connection, inbox.c.message_id, message_ids)
        )
    )
    return {(source, message_id): (type_name, body_hash) for source, message_id, type_name, body_hash in rows}


async def add_to_inbox(connection: AsyncConnection, group: str, records: Sequence[Record], now_ms: int) -> None:
    """Remember handled records; each of them must have an identity and was not found in the inbox.

    Raises:
        DatabaseBusy: somebody else has handled one of them meanwhile; redone, it is a duplicate.
    """
    rows = []
    for record in records:
        attributes = record.attributes
        rows.append(
            (
                group,
                attributes["ce_source"],
                attributes["ce_id"],
                attributes["ce_type"],
                record.body_hash,
                now_ms,
            )
        )
    await insert_new_rows(connection, inbox, COLUMNS, sorted(rows))
