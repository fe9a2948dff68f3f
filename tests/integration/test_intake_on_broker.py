"""Intake over the real protocol: whatever goes wrong, every record has one outcome and offsets come last."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from faststream import BaseMiddleware
from sqlalchemy import text

from tests.integration.notes_app import LIMITS, echo, notes_app
from tests.kit import rows

if TYPE_CHECKING:
    from streams.intake.batch import Batch
    from streams.intake.unit_of_work import UnitOfWork
    from tests.integration.conftest import Ground


async def test_every_record_has_one_outcome_and_the_offsets_follow(ground: Ground) -> None:
    """Good, repeated and unreadable records: conserved in the database, and committed to the end in Kafka."""
    async with notes_app(ground.broker, ground.database_url) as app:
        app.send(*(str(number) for number in range(100)), message_ids=[f"id-{n}" for n in range(100)])
        app.send("50", b"\xff\xfejunk", b"", message_ids=["id-50", "x", "y"])
        await app.until_taken()
        expected = {"consumed": 103, "handled": 100, "duplicate": 1, "parked": 2, "lost": 0, "skipped": 0}
        assert await app.counts() == expected
        await app.until_committed(103)
        assert await rows(app.database, "SELECT count(*) FROM outbox") == [(100,)]


@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyError("a wiring error")])
async def test_an_error_that_escapes_once_loses_nothing(ground: Ground, error: BaseException) -> None:
    """The batch is read again, also after a stray cancellation, which would end FastStream's consume loop."""
    raised: list[bool] = []

    async def fail_once(batch: Batch[Any], work: UnitOfWork) -> None:
        if not raised:
            raised.append(True)
            raise error
        await echo(batch, work)

    async with notes_app(ground.broker, ground.database_url, fail_once) as app:
        app.send(*(str(number) for number in range(20)))
        await app.until_taken()
        app.send("later")
        await app.until_taken()
        counts = await app.counts()
    assert (counts["handled"], counts["parked"]) == (21, 0)


async def test_an_error_before_the_handler_loses_nothing(ground: Ground) -> None:
    """A middleware further in that fails on receipt: FastStream swallows it, and the batch is read again."""
    raised: list[bool] = []

    class Broken(BaseMiddleware):
        async def on_receive(self) -> None:
            if not raised:
                raised.append(True)
                raise RuntimeError("broken on receipt")

    async with notes_app(ground.broker, ground.database_url, middlewares=[Broken]) as app:
        app.send(*(str(number) for number in range(20)))
        await app.until_taken()
        assert raised
        assert (await app.counts())["handled"] == 20


async def test_an_outage_of_the_database_parks_nothing(ground: Ground) -> None:
    """While the database cannot be written to, intake waits; afterwards everything is handled once."""
    async with notes_app(ground.broker, ground.database_url) as app:
        app.send("before")
        await app.until_taken()

        async def paused() -> bool:
            return all(one.assignment.paused for one in app.intake.subscriptions)

        async with ground.outage():
            app.send(*(str(number) for number in range(30)))
            await app.until(paused)
        await app.until_taken()
        assert not await paused()
        expected = {"consumed": 31, "handled": 31, "duplicate": 0, "parked": 0, "lost": 0, "skipped": 0}
        assert await app.counts() == expected


async def test_a_failure_of_a_single_record_is_tried_once_more(ground: Ground) -> None:
    """A delivery of one record gets the second chance that halving gives to larger ones."""
    raised: list[bool] = []

    async def fail_once(batch: Batch[Any], work: UnitOfWork) -> None:
        if not raised:
            raised.append(True)
            raise KeyError("only once")
        await echo(batch, work)

    async with notes_app(ground.broker, ground.database_url, fail_once) as app:
        app.send("alone")
        await app.until_taken()
        counts = await app.counts()
    assert (counts["handled"], counts["parked"]) == (1, 0)


async def test_an_os_error_of_a_handler_is_no_outage_of_the_database(ground: Ground) -> None:
    """A handler that misses a file fails for its record; the group does not stop for it."""

    async def read_file(batch: Batch[Any], work: UnitOfWork) -> None:
        for record in batch:
            if record.message.text == "bad":
                raise FileNotFoundError("rates.csv")
        await echo(batch, work)

    async with notes_app(ground.broker, ground.database_url, read_file) as app:
        app.send("good", key=b"a")
        app.send("bad", key=b"b")
        app.send("good", key=b"c")
        await app.until_taken()
        assert await rows(app.database, "SELECT reason, error_type FROM parked") == [("failed", "FileNotFoundError")]


@pytest.mark.parametrize("redo_budget_seconds", [20.0, 0.0])
async def test_a_record_that_makes_the_save_fail_is_isolated(ground: Ground, redo_budget_seconds: float) -> None:
    """The batch is redone in halves: the record at fault is parked, in its place, and all others go through.

    Also when the time to redo is up at once: each delivery settles something, so that the group comes on.
    """

    async def save(batch: Batch[Any], work: UnitOfWork) -> None:
        for record in batch:
            if record.message.text == "poison":
                await work.connection.execute(text("INSERT INTO ledger_book (book_id) VALUES (1)"))
        await echo(batch, work)

    limits = replace(LIMITS, redo_budget_seconds=redo_budget_seconds)
    async with notes_app(ground.broker, ground.database_url, save, limits=limits) as app:
        app.send(*(str(number) for number in range(15)), key=b"a")
        app.send("poison", "behind", key=b"b")
        app.send(*(str(number) for number in range(15)), key=b"c")
        await app.until_taken()
        counts = await app.counts()
        parked = await rows(app.database, "SELECT reason, error_type FROM parked ORDER BY id")
    assert (counts["handled"], counts["parked"]) == (30, 2)
    assert parked == [("failed", "IntegrityError"), ("behind", "Behind")]


async def test_a_restart_goes_on_where_it_stood(ground: Ground) -> None:
    """The same database with a broker that starts anew: positions of the old log do not hide the new records."""
    async with notes_app(ground.broker, ground.database_url) as app:
        app.send("one", "two", message_ids=["a", "b"])
        await app.until_taken()
    ground.broker.start_anew()
    async with notes_app(ground.broker, ground.database_url) as app:
        app.send("one", "three", message_ids=["a", "c"])
        await app.until_taken(4)
        counts = await app.counts()
    assert (counts["handled"], counts["duplicate"], counts["skipped"]) == (3, 1, 0)
