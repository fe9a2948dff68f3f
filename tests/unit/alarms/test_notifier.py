"""Who is told of what, when, and by how many."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from streams.alarms import notifier as notifier_module
from streams.alarms.notices import CLEARED_TOLD_MS
from streams.alarms.notifier import CLAIM_MAX_NOTICES, CLAIM_SECONDS, RETRY_MAX_SECONDS
from streams.storage.database import Database
from tests.kit import rows
from tests.unit.alarms.rig import Clock, HeardSink, Rig

if TYPE_CHECKING:
    from pathlib import Path

    from streams.alarms.notices import Notice


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_raised_then_repeated_at_the_interval_then_cleared(database: Database, clock: Clock) -> None:
    rig = Rig(database, clock, repeat_seconds=100)
    await rig.raises()
    await rig.tell()
    clock.pass_seconds(99)
    await rig.raises()
    assert await rig.tell() == 0, "it is not time yet"
    clock.pass_seconds(1)
    await rig.tell()
    await rig.clears()
    await rig.tell()
    clock.pass_seconds(1000)
    assert await rig.tell() == 0, "that it is over is told once"
    assert rig.sink.heard == [("raised", "house", 1), ("repeated", "house", 2), ("cleared", "house", 3)]


async def test_of_two_instances_one_tells(database: Database, database_file: Path, clock: Clock) -> None:
    """Both look at the same moment; the claim in the database decides."""
    other_database = Database(f"sqlite+aiosqlite:///{database_file}")
    one, other = Rig(database, clock), Rig(other_database, clock)
    for number in range(30):
        await one.raises(f"house {number}")
    while sum(await asyncio.gather(one.tell(), other.tell(), one.tell(), other.tell())):
        pass
    await other_database.close()
    told = [notice.subject for rig in (one, other) for notice in rig.sink.notices]
    assert sorted(told) == sorted(f"house {number}" for number in range(30))


async def test_a_restart_remembers_who_was_told(database: Database, database_file: Path, clock: Clock) -> None:
    rig = Rig(database, clock)
    await rig.raises("house")
    await rig.tell()
    await rig.raises("barn")
    await database.close()
    again = Rig(Database(f"sqlite+aiosqlite:///{database_file}"), clock)
    await again.tell()
    assert again.sink.heard == [("raised", "barn", 1)]
    clock.pass_seconds(100)
    await again.tell()
    assert again.sink.heard[1:] == [("repeated", "house", 2), ("repeated", "barn", 2)]
    await again.database.close()


async def test_the_claim_of_a_crashed_instance_ends_by_itself(database: Database, clock: Clock) -> None:
    """It may have told or not; somebody tells."""

    class Dying(HeardSink):
        async def notify(self, notice: Notice, /) -> None:
            raise asyncio.CancelledError

    crashed = Rig(database, clock, Dying())
    await crashed.raises()
    with pytest.raises(asyncio.CancelledError):
        await crashed.tell()
    other = Rig(database, clock)
    clock.pass_seconds(CLAIM_SECONDS - 1)
    assert await other.tell() == 0
    clock.pass_seconds(1)
    await other.tell()
    assert other.sink.heard == [("raised", "house", 1)]


async def test_an_instance_that_wakes_after_its_claim_changes_nothing(database: Database, clock: Clock) -> None:
    """A frozen process must not finish, or put off, what another has told meanwhile."""
    other = Rig(database, clock)

    class Frozen(HeardSink):
        async def notify(self, notice: Notice, /) -> None:
            clock.pass_seconds(CLAIM_SECONDS)
            await other.tell()
            clock.pass_seconds(1)
            raise ConnectionError

    frozen = Rig(database, clock, Frozen())
    await frozen.raises()
    await frozen.tell()
    assert other.sink.heard == [("raised", "house", 1)]
    assert await rows(database, "SELECT told, notifications, failures FROM alarm_notice") == [("raised", 1, 0)]


async def test_a_sink_that_fails_is_tried_again_at_growing_intervals(database: Database, clock: Clock) -> None:
    rig = Rig(database, clock)
    rig.sink.failing = True
    await rig.raises()
    for wait in (2, 4, 8, 16):
        assert await rig.tell() == 1
        clock.pass_seconds(wait - 0.1)
        assert await rig.tell() == 0
        clock.pass_seconds(0.1)
    for _ in range(20):
        assert await rig.tell() == 1
        clock.pass_seconds(RETRY_MAX_SECONDS)
    rig.sink.failing = False
    await rig.tell()
    assert rig.sink.heard == [("raised", "house", 1)]
    assert await rows(database, "SELECT failures, error FROM alarm_notice") == [(0, None)]


async def test_the_growth_survives_a_restart(database: Database, clock: Clock) -> None:
    rig = Rig(database, clock)
    rig.sink.failing = True
    await rig.raises()
    await rig.tell()
    clock.pass_seconds(2)
    await rig.tell()
    restarted = Rig(database, clock)
    clock.pass_seconds(3)
    assert await restarted.tell() == 0
    clock.pass_seconds(1)
    assert await restarted.tell() == 1
    assert await rows(database, "SELECT error FROM alarm_notice") == [(None,)]


async def test_what_is_over_before_anybody_was_told_is_told_as_over(database: Database, clock: Clock) -> None:
    """Nobody is woken for it, and it is not hidden either."""
    rig = Rig(database, clock)
    await rig.raises()
    await rig.clears()
    await rig.tell()
    assert rig.sink.heard == [("cleared", "house", 1)]


async def test_clearing_while_the_alarm_is_being_told_is_told_next(database: Database, clock: Clock) -> None:
    class Slow(HeardSink):
        async def notify(self, notice: Notice, /) -> None:
            await super().notify(notice)
            if notice.number == 1:
                await rig.clears()

    rig = Rig(database, clock, Slow())
    await rig.raises()
    await rig.tell()
    await rig.tell()
    assert rig.sink.heard == [("raised", "house", 1), ("cleared", "house", 2)]


async def test_each_sink_is_told_by_itself(database: Database, clock: Clock) -> None:
    """One that fails does not make the other hear twice."""
    good, bad = Rig(database, clock), Rig(database, clock)
    bad.sink.name, bad.sink.failing = "bad", True
    await good.raises()
    for rig in (good, bad):
        await rig.tell()
    bad.sink.failing = False
    clock.pass_seconds(2)
    for rig in (good, bad):
        await rig.tell()
    assert good.sink.heard == bad.sink.heard == [("raised", "house", 1)]


async def test_a_new_sink_does_not_hear_of_what_was_over_long_ago(database: Database, clock: Clock) -> None:
    rig = Rig(database, clock)
    await rig.raises("old")
    await rig.clears("old")
    clock.pass_seconds(CLEARED_TOLD_MS / 1000)
    await rig.raises("young")
    await rig.tell()
    assert rig.sink.heard == [("raised", "young", 1)]


async def test_a_sink_that_hangs_is_given_up(database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging(HeardSink):
        async def notify(self, _notice: Notice, /) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(notifier_module, "SINK_TIMEOUT_SECONDS", 0.01)
    rig = Rig(database, clock, Hanging())
    await rig.raises()
    await rig.tell()
    assert await rows(database, "SELECT failures, error FROM alarm_notice") == [(1, "not taken within 0.01 s")]


async def test_a_round_takes_no_more_than_it_can_tell_within_its_claim(database: Database, clock: Clock) -> None:
    rig = Rig(database, clock)
    for number in range(CLAIM_MAX_NOTICES + 1):
        await rig.raises(str(number))
    assert await rig.tell() == CLAIM_MAX_NOTICES
    assert await rig.tell() == 1


async def test_an_idle_notifier_leaves_the_write_lock_alone(database: Database, clock: Clock) -> None:
    """Somebody else's long transaction is no reason to fail, as long as there is nothing to tell."""
    rig = Rig(database, clock)
    async with database.write():
        assert await asyncio.wait_for(rig.tell(), 5) == 0
