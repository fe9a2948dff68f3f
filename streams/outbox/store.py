"""The outbox's statements: append with a change, read what may be published, write down what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import bindparam, func, literal_column, or_, select, update

from streams.outbox.envelope import OutgoingMessage
from streams.outbox.tables import outbox
from streams.outbox.wakeup import notify_relays
from streams.storage.bulk import among, execute_many, insert_rows

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncConnection


__all__ = [
    "Attempt",
    "Backlog",
    "Selection",
    "UnsentRow",
    "append",
    "backlog",
    "earliest_held",
    "flag_expired",
    "keys_waiting",
    "mark_sent",
    "note_attempts",
    "oldest_by_topic",
    "row_if_due",
    "topics_waiting",
    "unsent_rows",
]

COLUMNS = (*OutgoingMessage._fields, "created_at_ms")
ERROR_MAX_CHARACTERS = 2000
TOPICS_MAX = 1000
"""Topics that a look at the outbox goes through."""
KEYS_EXCLUDED_MAX = 500
EXPIRED_AT_ONCE = 5000


class UnsentRow(NamedTuple):
    """A committed row that no broker has acknowledged yet. `headers` is packed, `attempts` those that were answered."""

    id: int
    topic: str
    key: bytes | None
    value: bytes
    headers: bytes
    lane: int = 0
    attempts: int = 0

    @property
    def size(self) -> int:
        """Bytes, as far as they count for limits."""
        return len(self.value) + len(self.headers)


class Attempt(NamedTuple):
    """A row that was refused: when it is tried again, and why it was."""

    id: int
    next_attempt_at_ms: int
    error: str


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is unsent: how many rows, and when the oldest was written (None where there is none)."""

    unsent: int
    oldest_created_at_ms: int | None


@dataclass(frozen=True, slots=True)
class Selection:
    """Which unsent rows of a topic are wanted.

    Attributes:
        topic: whose.
        at_most: rows.
        now_ms: rows whose next attempt is later are held, and so are those behind them of the same key.
        lanes: of these; None: of all.
        loaded: ids that the reader has already.
        crowded: keys of which the reader has enough.
    """

    topic: str
    at_most: int
    now_ms: int
    lanes: Collection[int] | None = None
    loaded: Collection[int] = ()
    crowded: Sequence[bytes] = ()


_UNSENT = outbox.c.sent_at_ms.is_(None)
_ROW = (outbox.c.id, outbox.c.topic, outbox.c.key, outbox.c.value, outbox.c.headers, outbox.c.lane, outbox.c.attempts)


async def append(connection: AsyncConnection, messages: Sequence[OutgoingMessage], now_ms: int) -> None:
    """Write events in the order in which they were emitted, in the transaction of the change that caused them.

    Whoever emits for a key holds a row lock common to that key, so that id order is commit order within a key.
    """
    if messages:
        await insert_rows(connection, outbox, COLUMNS, [(*message, now_ms) for message in messages])
        await notify_relays(connection)


async def topics_waiting(connection: AsyncConnection) -> list[str]:
    """The topics that have unsent rows: one look into the index for each of them, however many rows there are."""
    first = select(func.min(outbox.c.topic).label("topic")).where(_UNSENT).cte("waiting", recursive=True)
    following = select(func.min(outbox.c.topic)).where(_UNSENT, outbox.c.topic > first.c.topic)
    following_topic = following.correlate(first).scalar_subquery()
    waiting = first.union_all(select(following_topic).where(first.c.topic.is_not(None)))
    found = await connection.execute(select(waiting.c.topic).where(waiting.c.topic.is_not(None)).limit(TOPICS_MAX))
    return [row[0] for row in found]


async def unsent_rows(connection: AsyncConnection, at_most: int, selection: Selection | None = None) -> list[UnsentRow]:
    """The oldest unsent rows. Never a high-water mark: a transaction with a smaller id may commit later.

    Without a selection: of all topics, held or not.
    """
    wanted: Select[Any]
    if selection is None:
        wanted = select(*_ROW).where(_UNSENT).order_by(outbox.c.id).limit(at_most)
    else:
        wanted = _selected(connection, selection).limit(at_most)
    return [UnsentRow(*row) for row in await connection.execute(wanted)]


def _selected(connection: AsyncConnection, selection: Selection) -> Select[Any]:
    held = outbox.alias("held")
    held_keys = select(held.c.key).where(
        held.c.sent_at_ms.is_(None),
        held.c.topic == selection.topic,
        held.c.next_attempt_at_ms > selection.now_ms,
        held.c.key.is_not(None),  # NOT IN finds nothing where one of them is NULL
    )
    wanted = (
        select(*_ROW)
        .where(
            _UNSENT,
            outbox.c.topic == selection.topic,
            or_(outbox.c.next_attempt_at_ms.is_(None), outbox.c.next_attempt_at_ms <= selection.now_ms),
            or_(outbox.c.key.is_(None), outbox.c.key.not_in(held_keys)),
        )
        .order_by(outbox.c.id)
    )
    if selection.lanes is not None:
        wanted = wanted.where(outbox.c.lane.in_(sorted(selection.lanes)))
    if selection.loaded:
        wanted = wanted.where(~among(connection, outbox.c.id, selection.loaded))
    if selection.crowded:
        crowded = selection.crowded[:KEYS_EXCLUDED_MAX]
        wanted = wanted.where(or_(outbox.c.key.is_(None), outbox.c.key.not_in(crowded)))
    return wanted


async def row_if_due(connection: AsyncConnection, row_id: int, now_ms: int) -> tuple[bool, UnsentRow | None]:
    """A row that holds its topic: whether it is still unsent, and the row itself if its time has come."""
    found = (
        await connection.execute(select(*_ROW, outbox.c.next_attempt_at_ms).where(outbox.c.id == row_id, _UNSENT))
    ).first()
    if found is None:
        return False, None
    *row, next_attempt_at_ms = found
    due = next_attempt_at_ms is None or next_attempt_at_ms <= now_ms
    return True, UnsentRow(*row) if due else None


async def earliest_held(connection: AsyncConnection, lanes: Collection[int]) -> UnsentRow | None:
    """The row that is tried next although its time has not come: for a probe, which needs one."""
    wanted = (
        select(*_ROW)
        .where(_UNSENT, outbox.c.next_attempt_at_ms.is_not(None), outbox.c.lane.in_(sorted(lanes)))
        .order_by(outbox.c.next_attempt_at_ms, outbox.c.id)
        .limit(1)
    )
    found = (await connection.execute(wanted)).first()
    return UnsentRow(*found) if found is not None else None


async def keys_waiting(connection: AsyncConnection, keys: Iterable[tuple[str, bytes]]) -> set[tuple[str, bytes]]:
    """Which of these topics and keys have unsent rows."""
    by_topic: dict[str, set[bytes]] = {}
    for topic, key in keys:
        by_topic.setdefault(topic, set()).add(key)
    waiting: set[tuple[str, bytes]] = set()
    for topic, wanted in by_topic.items():
        some = await connection.execute(select(outbox.c.id).where(_UNSENT, outbox.c.topic == topic).limit(1))
        if some.first() is None:
            continue
        ordered = sorted(wanted)
        for start in range(0, len(ordered), KEYS_EXCLUDED_MAX):
            part = ordered[start : start + KEYS_EXCLUDED_MAX]
            found = await connection.execute(
                select(outbox.c.key).where(_UNSENT, outbox.c.topic == topic, outbox.c.key.in_(part)).distinct()
            )
            waiting.update((topic, row[0]) for row in found)
    return waiting


async def mark_sent(connection: AsyncConnection, ids: Iterable[int], now_ms: int) -> None:
    """Write down that the broker has acknowledged exactly these rows."""
    await connection.execute(
        update(outbox)
        .where(among(connection, outbox.c.id, ids))
        .values(sent_at_ms=now_ms, attempts=outbox.c.attempts + 1)
    )


_NOTE = (
    update(outbox)
    .where(outbox.c.id == bindparam("row_id"), outbox.c.sent_at_ms.is_(None))
    .values(
        attempts=outbox.c.attempts + literal_column("1"),
        next_attempt_at_ms=bindparam("next_attempt"),
        error=bindparam("reason"),
    )
)


async def note_attempts(connection: AsyncConnection, attempts: Sequence[Attempt]) -> None:
    """Write down that these rows were refused."""
    rows = [
        {"row_id": one.id, "next_attempt": one.next_attempt_at_ms, "reason": one.error[:ERROR_MAX_CHARACTERS]}
        for one in attempts
    ]
    await execute_many(connection, _NOTE, rows)


async def flag_expired(connection: AsyncConnection, created_before_ms: int, now_ms: int) -> int:
    """Flag unsent rows that are too old, some thousand at a time; they keep their place and are tried on.

    Returns:
        How many were flagged.
    """
    late = (
        select(outbox.c.id)
        .where(_UNSENT, outbox.c.expired_at_ms.is_(None), outbox.c.created_at_ms < created_before_ms)
        .limit(EXPIRED_AT_ONCE)
    )
    flagged = await connection.execute(update(outbox).where(outbox.c.id.in_(late)).values(expired_at_ms=now_ms))
    return flagged.rowcount


async def oldest_by_topic(connection: AsyncConnection) -> dict[str, int]:
    """When the first unsent row of each topic was written: one look into the index for each of them."""
    oldest = {}
    for topic in await topics_waiting(connection):
        first = select(outbox.c.created_at_ms).where(_UNSENT, outbox.c.topic == topic).order_by(outbox.c.id).limit(1)
        created_at_ms = (await connection.execute(first)).scalar_one_or_none()
        if created_at_ms is not None:
            oldest[topic] = created_at_ms
    return oldest


async def backlog(connection: AsyncConnection) -> Backlog:
    """How much is unsent and since when."""
    unsent = (await connection.execute(select(func.count()).select_from(outbox).where(_UNSENT))).scalar_one()
    oldest = await oldest_by_topic(connection) if unsent else {}
    return Backlog(unsent, min(oldest.values(), default=None))
