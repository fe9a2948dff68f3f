"""Retries over the real protocol: what failed comes back by itself, in its place, through the same steps."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from streams.intake.retries import Retries
from tests.integration.notes_app import echo, notes_app
from tests.kit import rows

if TYPE_CHECKING:
    from streams.intake.batch import Batch
    from streams.intake.unit_of_work import UnitOfWork
    from tests.integration.conftest import Ground
    from tests.integration.notes_app import NotesApp

RETRIES = Retries(first_delay_seconds=0.02, longest_delay_seconds=0.1)


class Unreliable:
    """Fails for some notes as often as they say; as a decider does, or by raising."""

    def __init__(self, times: dict[str, int], *, raises: bool = False) -> None:
        self.left = Counter(times)
        self.raises = raises

    async def __call__(self, batch: Batch[Any], work: UnitOfWork) -> None:
        for record in list(batch):
            text = record.message.text
            if work.is_held(record):
                work.hold_back(record)
                batch.remove(record)
            elif self.left[text] > 0:
                self.left[text] -= 1
                error = ValueError(f"not now: {text}")
                if self.raises:
                    raise error
                work.fail(record, error)
                batch.remove(record)
        await echo(batch, work)


async def of_key(app: NotesApp, key: str) -> list[str]:
    found = await rows(app.database, "SELECT key, value FROM outbox ORDER BY id")
    return [json.loads(bytes(value))["text"] for name, value in found if bytes(name).decode() == key]


async def until_nothing_is_parked(app: NotesApp) -> None:
    async def empty() -> bool:
        counts = await app.counts()
        return counts["consumed"] == app.sent and counts["parked"] == 0

    await app.until(empty)


async def test_what_failed_is_handled_later_in_its_place(ground: Ground) -> None:
    """Other keys do not wait; the later records of the key come after it, also those that are sent meanwhile."""
    handle = Unreliable({"a1": 3, "a3": 2})
    async with notes_app(ground.broker, ground.database_url, handle, retries=RETRIES) as app:
        app.send("a0", "a1", "a2", "a3", "a4", key=b"a")
        app.send("b0", "b1", key=b"b")
        await app.until_taken()
        app.send("a5", key=b"a")
        await until_nothing_is_parked(app)
        assert await of_key(app, "a") == ["a0", "a1", "a2", "a3", "a4", "a5"]
        assert await of_key(app, "b") == ["b0", "b1"]
        counts = await app.counts()
    assert (counts["handled"], counts["duplicate"], counts["skipped"]) == (8, 0, 0)


async def test_a_handler_that_raises_is_isolated_when_it_is_tried_again(ground: Ground) -> None:
    """A release that fails as a whole is redone in halves like a batch from Kafka."""
    handle = Unreliable({"a1": 6, "c0": 4}, raises=True)
    async with notes_app(ground.broker, ground.database_url, handle, retries=RETRIES) as app:
        app.send("a0", "a1", "a2", key=b"a")
        app.send("b0", key=b"b")
        app.send("c0", "c1", key=b"c")
        await until_nothing_is_parked(app)
        assert [await of_key(app, key) for key in "abc"] == [["a0", "a1", "a2"], ["b0"], ["c0", "c1"]]


async def test_what_never_succeeds_dies_and_stays(ground: Ground) -> None:
    """After its attempts it is dead; its followers wait, and nothing is lost."""
    retries = Retries(attempts=3, first_delay_seconds=0.01)
    async with notes_app(ground.broker, ground.database_url, Unreliable({"a0": 99}), retries=retries) as app:
        app.send("a0", "a1", key=b"a")
        await app.until_taken()
        states = "SELECT state, attempts FROM parked ORDER BY id"

        async def dead() -> bool:
            return await rows(app.database, states) == [("dead", 3), ("retrying", 0)]

        await app.until(dead)
        assert (await app.counts())["parked"] == 2


async def test_retries_survive_a_restart(ground: Ground) -> None:
    """They are in the database: whoever runs next goes on with them."""
    slow = Retries(first_delay_seconds=3600.0, longest_delay_seconds=3600.0)
    async with notes_app(ground.broker, ground.database_url, Unreliable({"a0": 1}), retries=slow) as app:
        app.send("a0", "a1", key=b"a")
        await app.until_taken()
        async with app.database.write() as connection:
            await connection.exec_driver_sql("UPDATE parked SET next_attempt_at_ms = 1 WHERE reason = 'failed'")
    async with notes_app(ground.broker, ground.database_url, retries=RETRIES) as app:
        app.sent = 2
        await until_nothing_is_parked(app)
        assert await of_key(app, "a") == ["a0", "a1"]


async def test_an_outage_spends_no_attempt_of_what_is_parked(ground: Ground) -> None:
    """While the database is away nothing is tried; afterwards it goes on where it stood."""
    handle = Unreliable({"a0": 3})
    async with notes_app(ground.broker, ground.database_url, handle, retries=RETRIES) as app:
        app.send("a0", key=b"a")
        await app.until_taken()
        async with ground.outage():
            await app.until_paused()
        await until_nothing_is_parked(app)
        assert await rows(app.database, "SELECT attempts FROM parked") == [(4,)]
