"""Intake and release at once: neither overtakes the other, and nobody waits behind a record that is done."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from streams.intake.retries import Retries
from streams.storage.errors import is_contention
from tests.conformance.slices import Hold
from tests.conformance.test_outages import until_waiting
from tests.kit import note, rows, take
from tests.unit.intake.releases import COUNTS, UNRESOLVED, Handler, due, release, subscription, texts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from streams.intake.unit_of_work import UnitOfWork
    from streams.storage.database import Database


@pytest.fixture
def postgresql_only(kind: str) -> None:
    if kind == "sqlite":
        pytest.skip("transactions that write run one after another on SQLite")


@pytest.mark.usefixtures("postgresql_only")
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


@pytest.mark.usefixtures("postgresql_only")
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


@pytest.mark.usefixtures("postgresql_only")
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
    assert await texts(database) == ["a", "b"]
    appended.released.set()
    await behind
    await release(releasing, handle)
    assert await texts(database) == ["a", "b", "c", "d"]


@pytest.mark.usefixtures("postgresql_only")
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


KEYS, RECORDS, BATCH = 6, 240, 12


async def test_order_and_conservation_survive_intake_and_two_workers_at_once(
    database: Database, other_database: Database
) -> None:
    """Records that fail now and then, in random order of events: each is handled once, in the order of its key."""
    chance = random.Random(7)
    retries = Retries(attempts=1000, first_delay_seconds=0.0)
    fails = {str(number): chance.randrange(4) for number in range(RECORDS) if chance.random() < 0.3}
    finished = asyncio.Event()

    async def handle(work: UnitOfWork) -> None:
        unreliable = Handler(*(text for text, left in fails.items() if left > 0))
        await unreliable(work)
        for text in [record.message.text for record in work.live]:
            work.after_commit(lambda text=text: fails.update({text: fails.get(text, 0) - 1}))  # type: ignore[misc]

    async def read(through: Database, partition: int) -> None:
        subscribed = subscription(through, retries=retries)
        mine = [number for number in range(RECORDS) if number % KEYS % 2 == partition]
        for start in range(0, len(mine), BATCH):
            batch = [
                note(offset, str(mine[offset]), key=b"%d" % (mine[offset] % KEYS), partition=partition)
                for offset in range(start, min(start + BATCH, len(mine)))
            ]
            await redone(lambda batch=batch: take(subscribed, batch, handle))  # type: ignore[misc]

    async def work_off(through: Database) -> None:
        subscribed = subscription(through, retries=retries)
        while not finished.is_set() or await rows(database, UNRESOLVED):
            await redone(lambda: release(subscribed, handle, at_most=chance.randrange(1, 6)))
            await asyncio.sleep(0)

    async def read_all() -> None:
        await asyncio.gather(read(database, 0), read(other_database, 1))
        finished.set()

    async with asyncio.timeout(60):
        await asyncio.gather(read_all(), work_off(database), work_off(other_database))
    emitted: dict[int, list[int]] = defaultdict(list)
    for text in await texts(database):
        emitted[int(text) % KEYS].append(int(text))
    assert emitted == {key: list(range(key, RECORDS, KEYS)) for key in range(KEYS)}
    half = RECORDS // 2
    assert await rows(database, COUNTS) == [(half, half, 0, 0, 0)] * 2
    assert await rows(database, "SELECT count(*) FROM parked") != [(0,)]


async def redone(transaction: Callable[[], Awaitable[Any]]) -> None:
    """As the retry step does under contention."""
    while True:
        try:
            await transaction()
        except Exception as error:
            if not is_contention(error):
                raise
        else:
            return
