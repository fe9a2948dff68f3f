"""Parked records tried again without a broker: what the steps do with them, one transaction at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streams.intake import release_store
from streams.intake.decode import decode_all
from streams.intake.record import Record
from streams.intake.release_work import ReleaseWork
from streams.intake.retries import Retries
from tests.kit import Note, rows
from tests.kit import subscription as kit_subscription

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streams.intake.parked_row import ParkedRow
    from streams.intake.subscription import Subscription
    from streams.intake.unit_of_work import UnitOfWork
    from streams.storage.database import Database

STATES = 'SELECT "offset", reason, state, attempts, next_attempt_at_ms IS NOT NULL FROM parked ORDER BY id'
UNRESOLVED = 'SELECT "offset" FROM parked WHERE resolved_at_ms IS NULL ORDER BY id'
COUNTS = "SELECT consumed, handled, duplicate, parked, discarded FROM progress ORDER BY topic, partition"
LATE_MS = 10**15
"""Everything is due by then."""
AT_ONCE = Retries(first_delay_seconds=0.0)
"""Lets no test wait for a delay."""


def subscription(database: Database, **options: Any) -> Subscription:
    """A subscription of the tests' app that tries again at once."""
    return kit_subscription(database, **{"retries": AT_ONCE, **options})


class Handler:
    """Emits each note, except that those whose text is among `bad` fail."""

    def __init__(self, *bad: str) -> None:
        self.bad = set(bad)
        self.emitted: list[str] = []

    async def __call__(self, work: UnitOfWork) -> None:
        for record in list(work.live):
            if work.is_held(record):
                work.hold_back(record)
            elif record.message.text in self.bad:
                work.fail(record, ValueError(f"no {record.message.text}"))
            else:
                work.send([work.outgoing(Note(record.message.text), work.cause(record), 0)])
                work.after_commit(lambda text=record.message.text: self.emitted.append(text))  # type: ignore[misc]


async def due(subscribed: Subscription, *, at_most: int = 500, now_ms: int = LATE_MS) -> list[ParkedRow]:
    async with subscribed.database.read() as connection:
        return await release_store.due(connection, subscribed.group, subscribed.topics, now_ms, at_most)


async def release(
    subscribed: Subscription,
    handle: Callable[[UnitOfWork], Any],
    parked: Sequence[ParkedRow] | None = None,
    *,
    at_most: int = 500,
    before_commit: Callable[[], Any] | None = None,
) -> list[Record]:
    """One transaction's worth of what is due."""
    records = [Record.from_kafka(row) for row in (await due(subscribed, at_most=at_most) if parked is None else parked)]
    decode_all(records, subscribed.catalog, subscribed.accepts)
    async with subscribed.database.write() as connection:
        work = ReleaseWork(connection, subscribed, records)
        await work.open()
        if work.live:
            await handle(work)
        await work.save()
        if before_commit is not None:
            await before_commit()
    work.finish()
    return records


async def texts(database: Database) -> list[str]:
    """What was emitted, in order."""
    import json  # noqa: PLC0415

    return [
        json.loads(bytes(value))["text"] for (value,) in await rows(database, "SELECT value FROM outbox ORDER BY id")
    ]
