"""What an operator does with parked records: each an intent in one transaction, with who, when and why beside it.

Nothing is handled here. A replay sets the time of the next attempt, and the release worker of a running app carries it
out as it does its own retries: in the order of the key, through the same steps.

    Exception
    └── NotAllowed    it would break the order of a key, or lose what makes a repeat known
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, func, or_, select, true, update

from streams.intake import release_store
from streams.intake.inbox import COLUMNS as INBOX_COLUMNS
from streams.intake.parked_row import ParkedRow
from streams.intake.parking import RETRYING
from streams.intake.record import hash_of
from streams.intake.tables import inbox, operator_action, parked, progress
from streams.outbox.headers import pack, unpack
from streams.storage.bulk import among, insert_absent, insert_rows
from streams.storage.clock import database_time_ms

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from sqlalchemy import ColumnElement, Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.outbox.headers import Headers

__all__ = [
    "Actor",
    "NotAllowed",
    "Plan",
    "Selection",
    "acknowledge_gaps",
    "discard",
    "edit",
    "plan_replay",
    "replay",
    "selected_ids",
]

DISCARDED = "discarded"
ACTION_COLUMNS = ("at_ms", "who", "action", "subject", "reason", "detail")
KEPT_HEADERS = ("ce_id", "ce_source")
CHUNK_RECORDS = 500
"""In one transaction, so that a long list keeps nobody waiting."""


class NotAllowed(Exception):
    """What was asked for would break a promise; the text says which and what to do instead."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something, and why."""

    who: str
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """Which unresolved records; None: any."""

    ids: tuple[int, ...] = ()
    group: str | None = None
    topic: str | None = None
    type: str | None = None
    reason: str | None = None
    key: bytes | None = None

    @property
    def is_everything(self) -> bool:
        """Whether nothing narrows it down."""
        return self == Selection()


@dataclass(frozen=True, slots=True)
class Plan:
    """What a replay would do.

    Attributes:
        heads: the records whose next attempt will be due, with how often they were tried before.
        followers: how many records of the selection come after one of these by themselves.
        refused: why some cannot be replayed, by id.
    """

    heads: Mapping[int, int]
    followers: int = 0
    refused: Mapping[int, str] = field(default_factory=dict)


async def plan_replay(connection: AsyncConnection, selection: Selection) -> Plan:
    """Find out which records a replay would try, and which it must not.

    A record that waits behind another one of its key is never tried before it.
    """
    rows = await _selected(connection, selection)
    first = await _heads_of(connection, rows)
    chosen = {row.id for row in rows}
    heads: dict[int, int] = {}
    refused: dict[int, str] = {}
    followers = 0
    for row in rows:
        head = first.get((row.group_name, row.topic, row.key)) if row.holds_key else row.id
        if head is None or head == row.id:
            heads[row.id] = row.attempts
        elif head in chosen:
            followers += 1
        else:
            refused[row.id] = f"it waits behind record {head} of its key; replay that one, and this one follows"
    for missing in sorted(set(selection.ids) - chosen):
        refused[missing] = "there is no unresolved record with this id"
    return Plan(heads, followers, refused)


async def replay(connection: AsyncConnection, ids: Collection[int], actor: Actor) -> list[int]:
    """Let records be tried now, the dead ones once more.

    Args:
        connection: of a write transaction.
        ids: heads, as planned; those that were resolved meanwhile are left out.
        actor: who asks for it.

    Returns:
        The ids that will be tried.
    """
    now_ms = await database_time_ms(connection)
    changed = await connection.execute(
        update(parked)
        .where(among(connection, parked.c.id, sorted(ids)), parked.c.resolved_at_ms.is_(None))
        .values(state=RETRYING, next_attempt_at_ms=now_ms)
        .returning(parked.c.id)
    )
    done = sorted(row.id for row in changed)
    await _note(connection, actor, "replay", done, now_ms)
    return done


async def edit(
    connection: AsyncConnection,
    record_id: int,
    actor: Actor,
    *,
    value: bytes | None,
    headers: Headers | None = None,
) -> None:
    """Give a record another value, and other headers, to be handled with; the original stays beside them.

    Raises:
        NotAllowed: it is not there, or its id or source would change.
    """
    found = await connection.execute(
        select(parked.c.headers).where(parked.c.id == record_id, parked.c.resolved_at_ms.is_(None)).with_for_update()
    )
    row = found.one_or_none()
    if row is None:
        raise NotAllowed(f"there is no unresolved record {record_id}")
    if headers is not None:
        before, after = dict(unpack(row.headers)), dict(headers)
        for name in KEPT_HEADERS:
            if before.get(name) and before[name] != after.get(name):
                raise NotAllowed(f"{name} must stay as it is: by it a repeat of the message is known")
    now_ms = await database_time_ms(connection)
    await connection.execute(
        update(parked)
        .where(parked.c.id == record_id)
        .values(
            edits=parked.c.edits + 1,
            edited_value=value,
            edited_headers=None if headers is None else pack(headers),
        )
    )
    size = "no value" if value is None else f"{len(value)} bytes"
    await _note(connection, actor, "edit", [record_id], now_ms, f"{size}, hash {hash_of(value).hex()}")


async def discard(connection: AsyncConnection, ids: Collection[int], actor: Actor) -> list[int]:
    """Give records up for good; those behind them go on.

    A discarded record leaves its row, and an inbox row where it has an id: read or sent again, it is a duplicate.

    Raises:
        NotAllowed: nobody said why.
    """
    if not actor.why:
        raise NotAllowed("say why: a discarded record is never handled")
    now_ms = await database_time_ms(connection)
    found = await connection.execute(
        select(parked)
        .where(among(connection, parked.c.id, sorted(ids)), parked.c.resolved_at_ms.is_(None))
        .order_by(parked.c.id)
        .with_for_update()
    )
    rows = found.all()
    await _remember(connection, rows, now_ms)
    done = [row.id for row in rows]
    await connection.execute(
        update(parked)
        .where(among(connection, parked.c.id, done))
        .values(state=DISCARDED, resolved_at_ms=now_ms, next_attempt_at_ms=None)
    )
    for group in sorted({row.group_name for row in rows}):
        of_group = [row for row in rows if row.group_name == group]
        queues = {(row.topic, row.key) for row in of_group if row.holds_key and row.key is not None}
        await release_store.promote(connection, group, queues, now_ms)
        counts = Counter((row.topic, row.partition) for row in of_group)
        await release_store.count(connection, group, {key: (0, 0, number) for key, number in counts.items()})
    await _note(connection, actor, "discard", done, now_ms)
    return done


async def acknowledge_gaps(
    connection: AsyncConnection, actor: Actor, *, group: str | None = None, topic: str | None = None
) -> list[dict[str, Any]]:
    """Say that somebody knows of the records that are gone: their alarms end, the counts stay.

    Returns:
        Per group, topic and partition what was acknowledged.

    Raises:
        NotAllowed: nobody said what was done about it.
    """
    if not actor.why:
        raise NotAllowed("say what was done about the records that are gone")
    where: list[ColumnElement[bool]] = [
        or_(progress.c.lost > progress.c.lost_acknowledged, progress.c.skipped > progress.c.skipped_acknowledged)
    ]
    if group is not None:
        where.append(progress.c.group_name == group)
    if topic is not None:
        where.append(progress.c.topic == topic)
    columns = progress.c
    found = await connection.execute(
        select(
            columns.group_name.label("group"),
            columns.topic,
            columns.partition,
            (columns.lost - columns.lost_acknowledged).label("lost"),
            (columns.skipped - columns.skipped_acknowledged).label("skipped"),
        )
        .where(*where)
        .order_by(columns.group_name, columns.topic, columns.partition)
        .with_for_update()
    )
    gaps = [dict(row) for row in found.mappings()]
    now_ms = await database_time_ms(connection)
    await connection.execute(
        update(progress)
        .where(*where)
        .values(lost_acknowledged=progress.c.lost, skipped_acknowledged=progress.c.skipped)
    )
    await insert_rows(
        connection,
        operator_action,
        ACTION_COLUMNS,
        [
            (
                now_ms,
                actor.who,
                "acknowledge-gaps",
                f"{gap['group']} {gap['topic']}[{gap['partition']}]"[:255],
                actor.why,
                f"lost {gap['lost']}, skipped {gap['skipped']}",
            )
            for gap in gaps
        ],
    )
    return gaps


async def selected_ids(connection: AsyncConnection, selection: Selection) -> list[int]:
    """The ids of a selection, in the order of arrival."""
    return [row.id for row in await _selected(connection, selection)]


async def _selected(connection: AsyncConnection, selection: Selection) -> Sequence[Any]:
    where: list[ColumnElement[bool]] = [parked.c.resolved_at_ms.is_(None)]
    if selection.ids:
        where.append(among(connection, parked.c.id, selection.ids))
    for column, value in (
        (parked.c.group_name, selection.group),
        (parked.c.topic, selection.topic),
        (parked.c.type, selection.type),
        (parked.c.reason, selection.reason),
        (parked.c.key, selection.key),
    ):
        if value is not None:
            where.append(column == value)
    columns = (parked.c.id, parked.c.group_name, parked.c.topic, parked.c.key, parked.c.holds_key, parked.c.attempts)
    return (await connection.execute(select(*columns).where(*where).order_by(parked.c.id))).all()


async def _heads_of(connection: AsyncConnection, rows: Iterable[Any]) -> dict[tuple[str, str, bytes | None], int]:
    """The oldest unresolved record of each of these records' keys."""
    hashes = {ParkedRow.hash_of(row.key) for row in rows if row.holds_key and row.key is not None}
    if not hashes:
        return {}
    found = await connection.execute(
        select(parked.c.group_name, parked.c.topic, parked.c.key, func.min(parked.c.id))
        .where(
            and_(parked.c.resolved_at_ms.is_(None), parked.c.holds_key == true()),
            among(connection, parked.c.key_hash, hashes),
        )
        .group_by(parked.c.group_name, parked.c.topic, parked.c.key)
    )
    return {(group, topic, key): head for group, topic, key, head in found}


async def _remember(connection: AsyncConnection, rows: Iterable[Row[Any]], now_ms: int) -> None:
    """Put those that have an id into the inbox, unless another message is there under it."""
    await insert_absent(
        connection,
        inbox,
        INBOX_COLUMNS,
        sorted(
            (row.group_name, row.source, row.message_id, row.type, hash_of(row.value), now_ms)
            for row in rows
            if row.source and row.message_id and row.type
        ),
    )


async def _note(
    connection: AsyncConnection,
    actor: Actor,
    action: str,
    ids: Iterable[int],
    now_ms: int,
    detail: str | None = None,
) -> None:
    await insert_rows(
        connection,
        operator_action,
        ACTION_COLUMNS,
        [(now_ms, actor.who[:255], action, f"parked {one}", actor.why and actor.why[:2000], detail) for one in ids],
    )
