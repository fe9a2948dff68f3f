"""Intake and release at once: neither overtakes the other, and nobody waits behind a record that is done."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.conformance.slices import Hold
from tests.conformance.test_outages import until_waiting
from tests.kit import note, rows, take
from tests.unit.intake.releases import COUNTS, UNRESOLVED, Handler, due, release, subscription, texts

if TYPE_CHECKING:
    from streams.intake.unit_of_work import UnitOfWork
    from streams.storage.database import Database


DATABASES = ("postgresql",)


async def test_intake_waits_for_the_release_of_a_key(database: Database, other_database: Database) -> None:
    """Asked while the key's last record is being released, it sees the key free and handles its record: no orphan."""
    releasing, reading, handle = subscription(database), subscription(other_database), Handler("a")
    await take(reading, [note(0, "a"), note(1, "b")], handle)
    handle.bad.clear()
    hold = Hold()
    ahead = asyncio.create_task(release(releasing, handle, before_commit=hold))
    await hold.reached.wait()
    behind = asyncio.create_task(take(reading, [note(2, "c")], handle))
    await until_waiting(database)
    hold.released.set()
    await asyncio.gather(ahead, behind)
    assert await texts(database) == ["a", "b", "c"]
    assert await rows(database, UNRESOLVED) == []
    assert await rows(database, COUNTS) == [(3, 3, 0, 0, 0)]


async def test_a_release_leaves_a_key_alone_that_intake_appends_to(
    database: Database, other_database: Database
) -> None:
    """While a record is being appended behind a head, the head is not claimed; both are released after it."""
    releasing, reading, handle = subscription(database), subscription(other_database), Handler("a")
    await take(reading, [note(0, "a")], handle)
    handle.bad.clear()
    hold = Hold()

    async def append(work: UnitOfWork) -> None:
        await handle(work)
        await hold()

    ahead = asyncio.create_task(take(reading, [note(1, "b"), note(2, "other", key=b"o")], append))
    await hold.reached.wait()
    await release(releasing, handle)
    assert await texts(database) == []
    hold.released.set()
    await ahead
    await release(releasing, handle)
    assert await texts(database) == ["other", "a", "b"]
    assert await rows(database, UNRESOLVED) == []


async def test_a_chunk_may_end_while_intake_waits(database: Database, other_database: Database) -> None:
    """The head that intake waits for is done and another one has its place: intake locks that one before it goes on."""
    releasing, reading, handle = subscription(database), subscription(other_database), Handler("a")
    await take(reading, [note(0, "a"), note(1, "b"), note(2, "c")], handle)
    handle.bad.clear()
    hold, appended = Hold(), Hold()

    async def append(work: UnitOfWork) -> None:
        await appended()

    ahead = asyncio.create_task(release(releasing, handle, at_most=2, before_commit=hold))
    await hold.reached.wait()
    behind = asyncio.create_task(take(reading, [note(3, "d"), note(4, "other", key=b"o")], append))
    await until_waiting(database)
    hold.released.set()
    await ahead
    await appended.reached.wait()
    await release(releasing, handle)  # the new head is locked by the intake that is about to append behind it
    meanwhile = await texts(database)
    appended.released.set()
    await behind
    assert meanwhile == ["a", "b"]
    await release(releasing, handle)
    assert await texts(database) == ["a", "b", "c", "d"]


async def test_two_workers_share_what_is_due(database: Database, other_database: Database) -> None:
    """What one has claimed, the other one neither waits for nor handles."""
    one, other, handle = subscription(database), subscription(other_database), Handler("a", "b")
    await take(one, [note(0, "a", key=b"a"), note(1, "b", key=b"b"), note(2, "a2", key=b"a")], handle)
    handle.bad.clear()
    seen = await due(other)
    hold = Hold()
    of_a = [row for row in seen if row.key() == b"a"]

    async def slowly(work: UnitOfWork) -> None:
        await hold()
        await handle(work)

    ahead = asyncio.create_task(release(one, slowly, of_a))
    await hold.reached.wait()
    await release(other, handle, seen)
    assert await texts(database) == ["b"]
    hold.released.set()
    await ahead
    assert await texts(database) == ["b", "a", "a2"]
