"""Intake and two release workers at once, on both databases: order and conservation whatever fails when."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from streams.intake.retries import Retries
from streams.storage.errors import is_contention
from tests.kit import note, rows, take
from tests.unit.intake.releases import COUNTS, UNRESOLVED, Handler, release, subscription, texts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from streams.intake.unit_of_work import UnitOfWork
    from streams.storage.database import Database

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
