"""Conditions follow the state of the database."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from streams.alarms.conditions import open_conditions
from streams.alarms.evaluator import Check, Evaluator
from streams.alarms.service import AlarmService
from streams.intake.alarm_checks import CHECKS
from streams.storage.database import Database
from tests.kit import note, rows, subscription, take
from tests.unit.alarms.rig import FIRE, SMOKE, HeardSink

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncConnection


class State:
    """What a check finds."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    async def find(self, _connection: AsyncConnection) -> dict[str, str]:
        return self.found


def take_away(file: Path) -> None:
    file.rename(file.with_suffix(".away"))
    file.mkdir()


def bring_back(file: Path) -> None:
    file.rmdir()
    file.with_suffix(".away").rename(file)


async def names(database: Database) -> list[tuple[str, str, str]]:
    async with database.read() as connection:
        return [(one.name, one.subject, one.detail) for one in await open_conditions(connection)]


async def test_it_raises_what_is_wrong_and_clears_what_no_longer_is(database: Database) -> None:
    state = State()
    evaluator = Evaluator(database, [Check(FIRE, state.find)])
    state.found = {"house": "hot", "barn": "warm"}
    await evaluator.evaluate()
    assert await names(database) == [("fire", "barn", "warm"), ("fire", "house", "hot")]
    state.found = {"house": "hotter"}
    await evaluator.evaluate()
    assert await names(database) == [("fire", "house", "hotter")]


async def test_it_writes_nothing_as_long_as_nothing_changes(database: Database) -> None:
    """Long subjects and details count as what the table keeps of them."""
    state = State()
    state.found = {"h" * 400: "d" * 4000}
    evaluator = Evaluator(database, [Check(FIRE, state.find)])
    await evaluator.evaluate()
    await evaluator.evaluate()
    assert await rows(database, "SELECT times_seen FROM alarm_condition") == [(1,)]


async def test_a_check_that_fails_does_not_keep_the_others_from_being_looked_at(database: Database) -> None:
    async def broken(_connection: AsyncConnection) -> dict[str, str]:
        raise LookupError("no such thing")

    state = State()
    state.found = {"house": "hot"}
    with capture_logs() as logs:
        await Evaluator(database, [Check(SMOKE, broken), Check(FIRE, state.find)]).evaluate()
    assert await names(database) == [("fire", "house", "hot")]
    assert [(one["event"], one["alarm"]) for one in logs] == [("check failed", "smoke")]


async def test_the_database_away_is_said_at_once_and_once(database: Database, database_file: Path) -> None:
    await database.close()
    take_away(database_file)
    evaluator = Evaluator(database, [Check(FIRE, State().find)])
    with capture_logs() as logs:
        await evaluator.evaluate()
        await evaluator.evaluate()
        bring_back(database_file)
        await evaluator.evaluate()
        await evaluator.evaluate()
    said = [(one["event"], one["log_level"]) for one in logs if one.get("alarm") == "database-down"]
    assert said == [("alarm raised", "error"), ("alarm cleared", "warning")]


async def test_a_dead_record_is_an_alarm_until_it_is_resolved(database: Database) -> None:
    """From the record that cannot be read to the alarm, and back."""
    await take(subscription(database), [note(0, value=b"not json"), note(1, value=b"neither"), note(2)])
    evaluator = Evaluator(database, CHECKS)
    await evaluator.evaluate()
    assert await names(database) == [("dead-record", "notes/notes.commands", "dead records: 2")]
    async with database.write() as connection:
        await connection.execute(text("UPDATE parked SET resolved_at_ms = 1"))
    await evaluator.evaluate()
    assert await names(database) == []


@pytest.mark.parametrize("what", ["lost", "skipped"])
async def test_lost_and_skipped_records_are_alarms(database: Database, what: str) -> None:
    await take(subscription(database), [note(0)])
    async with database.write() as connection:
        await connection.execute(text(f"UPDATE progress SET {what} = 7"))
    await Evaluator(database, CHECKS).evaluate()
    assert await names(database) == [(f"{what}-records", "notes/notes.commands", f"{what} records: 7")]


async def test_the_service_finds_and_tells_by_itself(database: Database) -> None:
    state = State()
    state.found = {"house": "hot"}
    told = asyncio.Event()

    class Telling(HeardSink):
        async def notify(self, _notice: object, /) -> None:
            told.set()

    service = AlarmService(database, [Check(FIRE, state.find)], [Telling()])
    service.start()
    await asyncio.wait_for(told.wait(), 10)
    assert service.running
    await service.stop()
    assert [task.get_name() for task in asyncio.all_tasks() if "alarm" in task.get_name()] == []


def test_two_checks_of_one_kind_and_two_sinks_of_one_name_are_refused(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/none.db")
    with pytest.raises(ValueError, match="two checks"):
        Evaluator(database, [Check(FIRE, State().find)] * 2)
    with pytest.raises(ValueError, match="one name"):
        AlarmService(database, [], [HeardSink(), HeardSink()])
