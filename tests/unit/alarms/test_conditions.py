"""Conditions are raised once for the whole fleet, and belong to the transaction that raises them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from streams.alarms.conditions import (
    DETAIL_MAX_CHARACTERS,
    SUBJECT_MAX_CHARACTERS,
    bounded_subject,
    open_conditions,
    prune,
    raise_alarm,
)
from streams.storage.clock import database_time_ms
from streams.storage.database import Database
from tests.kit import rows
from tests.unit.alarms.rig import BEGINNING_MS, FIRE, SMOKE, Clock, Rig

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_a_condition_is_raised_once_however_often_it_is_said(database: Database, clock: Clock) -> None:
    rig = Rig(database, clock)
    assert await rig.raises(detail="warm")
    clock.pass_seconds(5)
    assert not await rig.raises(detail="hot")
    async with database.read() as connection:
        (condition,) = await open_conditions(connection)
    assert (condition.name, condition.subject, condition.severity) == ("fire", "house", "critical")
    assert (condition.detail, condition.raised_at_ms) == ("hot", BEGINNING_MS)
    assert condition.last_seen_at_ms == BEGINNING_MS + 5000
    assert await rows(database, "SELECT times_seen FROM alarm_condition") == [(2,)]


async def test_two_instances_that_raise_at_once_raise_one(database: Database, database_file: Path) -> None:
    """The unique index decides, not who looked first."""
    other = Database(f"sqlite+aiosqlite:///{database_file}")
    rigs = [Rig(one, Clock()) for one in (database, other)]
    new = await asyncio.gather(*(rig.raises() for rig in rigs * 5))
    await other.close()
    assert sum(new) == 1
    assert await rows(database, "SELECT count(*), max(times_seen) FROM alarm_condition") == [(1, 10)]


async def test_other_subjects_and_other_names_are_other_conditions(database: Database, clock: Clock) -> None:
    rig = Rig(database, clock)
    assert await rig.raises("house")
    assert await rig.raises("barn")
    assert await rig.raises("house", kind=SMOKE)
    async with database.read() as connection:
        assert [one.subject for one in await open_conditions(connection, "fire")] == ["house", "barn"]


async def test_what_comes_back_after_it_was_cleared_is_a_new_condition(database: Database, clock: Clock) -> None:
    rig = Rig(database, clock)
    await rig.raises()
    assert await rig.clears()
    assert not await rig.clears(), "it is over already"
    assert await rig.raises()
    assert await rows(database, "SELECT count(*), count(cleared_at_ms) FROM alarm_condition") == [(2, 1)]


async def test_a_condition_is_raised_with_the_transaction_or_not_at_all(database: Database) -> None:
    with suppress(RuntimeError):
        async with database.write() as connection:
            await raise_alarm(connection, FIRE, "house", "hot")
            raise RuntimeError
    assert await rows(database, "SELECT count(*) FROM alarm_condition") == [(0,)]


async def test_long_texts_and_nul_fit_and_two_long_subjects_stay_two(database: Database, clock: Clock) -> None:
    rig = Rig(database, clock)
    assert await rig.raises("x" * 300 + "1", "d" * 3000 + "\x00")
    assert await rig.raises("x" * 300 + "2", "a\x00b")
    found = await rows(database, "SELECT length(subject), length(detail) FROM alarm_condition ORDER BY id")
    assert found == [(SUBJECT_MAX_CHARACTERS, DETAIL_MAX_CHARACTERS), (SUBJECT_MAX_CHARACTERS, 2)]
    assert await rig.clears("x" * 300 + "1")
    assert bounded_subject("short") == "short"


async def test_only_what_was_cleared_long_ago_is_forgotten(database: Database, clock: Clock) -> None:
    rig = Rig(database, clock)
    for subject in ("old", "young", "open"):
        await rig.raises(subject)
    await rig.tell()
    await rig.clears("old")
    clock.pass_seconds(100)
    await rig.clears("young")
    async with database.write() as connection:
        await prune(connection, clock.now_ms)
    assert await rows(database, "SELECT subject FROM alarm_condition ORDER BY id") == [("young",), ("open",)]
    assert await rows(database, "SELECT count(*) FROM alarm_notice") == [(2,)]


async def test_the_time_is_the_databases(database: Database) -> None:
    async with database.write() as connection:
        await raise_alarm(connection, FIRE, "house", "hot")
        now_ms = await database_time_ms(connection)
    ((raised_at_ms,),) = await rows(database, "SELECT raised_at_ms FROM alarm_condition")
    assert 0 <= now_ms - raised_at_ms < 5000
