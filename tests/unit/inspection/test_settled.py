"""Settled: two identical looks in a row at which nothing is left."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from streams.inspection.log_ends import BrokerUnreachable, End, LogEnds
from streams.inspection.readings import Reading, UnknownGroup
from streams.inspection.settled import NotSettled, SettledWatch
from tests.unit.inspection.books import execute, park

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from streams.storage.database import Database

READINGS = (Reading("payday.tasks", ("tasks.commands",)), Reading("payday.accounting", ("tasks.events",)))


class ScriptedBroker:
    """Answers each look with the next of its log ends, the last one again and again."""

    def __init__(self, *looks: LogEnds | Exception) -> None:
        self._looks = list(looks)
        self.asked = 0

    async def read(self, topics: Sequence[str], _readings: Sequence[Reading] = ()) -> LogEnds:
        look = self._looks[min(self.asked, len(self._looks) - 1)]
        self.asked += 1
        if isinstance(look, Exception):
            raise look
        return LogEnds({key: end for key, end in look.ends.items() if key[0] in topics}, look.foreign)


def ends(commands: int, events: int = 0, foreign: frozenset[tuple[str, str, int]] = frozenset()) -> LogEnds:
    return LogEnds({("tasks.commands", 0): End(0, commands), ("tasks.events", 0): End(0, events)}, foreign)


async def progressed(database: Database, group: str, topic: str, next_offset: int) -> None:
    where = f"group_name = '{group}' AND topic = '{topic}'"
    await execute(
        database,
        f"DELETE FROM progress WHERE {where}",
        'INSERT INTO progress (group_name, topic, "partition", epoch, first_offset, next_offset, updated_at_ms) '
        f"VALUES ('{group}', '{topic}', 0, 1, 0, {next_offset}, 1)",
    )


async def no_sleep(_seconds: float) -> None:
    """Time does not matter here."""


def watch(database: Database, broker: ScriptedBroker, *groups: str) -> SettledWatch:
    return SettledWatch(database, broker, READINGS, group_prefix="payday.", groups=groups)


async def settles(
    database: Database,
    broker: ScriptedBroker,
    *groups: str,
    change: Callable[[], Awaitable[None]] | None = None,
    seconds: float = 0.3,
) -> bool:
    pending = [change] if change is not None else []

    async def sleep(_seconds: float) -> None:
        if pending:
            await pending.pop()()

    try:
        await watch(database, broker, *groups).wait(seconds, sleep=sleep)
    except NotSettled:
        return False
    return True


async def test_a_group_at_the_end_is_settled(database: Database) -> None:
    """Everything is read, nothing is unsent: two looks are enough."""
    await progressed(database, "payday.tasks", "tasks.commands", 5)
    broker = ScriptedBroker(ends(5))
    assert await settles(database, broker)
    assert broker.asked == 2


async def test_a_group_that_is_behind_is_not(database: Database) -> None:
    """One record short is not settled, and the message says who is short."""
    await progressed(database, "payday.tasks", "tasks.commands", 4)
    with pytest.raises(NotSettled, match=r"payday\.tasks has 1 records to read"):
        await watch(database, ScriptedBroker(ends(5))).wait(0.1, sleep=no_sleep)


async def test_a_partition_without_progress_must_be_empty(database: Database) -> None:
    """A group that has begun elsewhere has yet to read this one."""
    await progressed(database, "payday.accounting", "workers.events", 3)
    assert not await settles(database, ScriptedBroker(ends(0, 2)))
    assert await settles(database, ScriptedBroker(ends(0, 0)))


async def test_a_group_that_never_made_progress_does_not_count(database: Database) -> None:
    """A deployment that runs one slice settles without the other, unless the other is named."""
    await progressed(database, "payday.tasks", "tasks.commands", 5)
    assert await settles(database, ScriptedBroker(ends(5, 9)))
    assert not await settles(database, ScriptedBroker(ends(5, 9)), "tasks", "payday.accounting")


async def test_nobody_has_ever_read(database: Database) -> None:
    """Before any group has begun only empty topics are settled."""
    assert await settles(database, ScriptedBroker(ends(0)))
    with pytest.raises(NotSettled, match="no group that has ever read"):
        await watch(database, ScriptedBroker(ends(1))).wait(0.1, sleep=no_sleep)


@pytest.mark.parametrize(
    "statement",
    [
        """
        INSERT INTO outbox (topic, lane, value, headers, message_id, type, created_at_ms)
        VALUES ('t', 0, '', '', 'm', 't', 1)
        """,
        "INSERT INTO tasks_reassignment VALUES (1, 'c', 's', 't', NULL, 1, 'x', NULL, 0, 9, NULL)",
    ],
)
async def test_unfinished_work_is_not_settled(statement: str, database: Database) -> None:
    """Unsent rows and unfinished reassignments will still have effects."""
    await progressed(database, "payday.tasks", "tasks.commands", 5)
    await execute(database, statement)
    assert not await settles(database, ScriptedBroker(ends(5)))


@pytest.mark.parametrize(
    ("due_in_ms", "expected"), [(-1000, False), (3_600_000, True), (None, True)], ids=["due", "later", "never"]
)
async def test_only_a_retry_that_is_due_unsettles(due_in_ms: int | None, expected: bool, database: Database) -> None:
    """A dead record waits for a person, a later retry for its time."""
    await progressed(database, "payday.tasks", "tasks.commands", 5)
    due = None if due_in_ms is None else time.time_ns() // 1_000_000 + due_in_ms
    await park(database, 1, reason="failed", state="retrying", next_attempt_at_ms=due)
    assert await settles(database, ScriptedBroker(ends(5))) is expected


async def test_an_event_published_between_the_halves_of_a_look_is_not_missed(database: Database) -> None:
    """The first look saw the log before the event and the outbox after it; the second sees another log."""
    await progressed(database, "payday.tasks", "tasks.commands", 5)
    await progressed(database, "payday.accounting", "tasks.events", 7)
    broker = ScriptedBroker(ends(5, 7), ends(5, 8))
    assert not await settles(database, broker)
    caught_up = ScriptedBroker(ends(5, 7), ends(5, 8))
    assert await settles(
        database, caught_up, change=lambda: progressed(database, "payday.accounting", "tasks.events", 8)
    )
    assert caught_up.asked == 3


async def test_a_position_in_a_log_that_is_gone_does_not_count(database: Database) -> None:
    """The embedded broker was started anew: as many records as before, and none of them read."""
    await progressed(database, "payday.tasks", "tasks.commands", 5)
    foreign = frozenset({("payday.tasks", "tasks.commands", 0)})
    assert not await settles(database, ScriptedBroker(ends(5, foreign=foreign)))


async def test_a_broker_that_goes_away_is_waited_for(database: Database) -> None:
    """An outage in between is waited for, one from the start is reported at once."""
    await progressed(database, "payday.tasks", "tasks.commands", 5)
    gone = BrokerUnreachable("away")
    assert await settles(database, ScriptedBroker(ends(5), gone, gone, ends(5)))
    with pytest.raises(NotSettled, match="away"):
        await watch(database, ScriptedBroker(ends(4), gone)).wait(0.1, sleep=no_sleep)
    with pytest.raises(BrokerUnreachable):
        await watch(database, ScriptedBroker(gone)).wait(1)


async def test_a_group_that_does_not_exist_is_refused(database: Database) -> None:
    """A misspelt group would otherwise settle at once."""
    with pytest.raises(UnknownGroup, match=r"taks.*payday\.tasks"):
        await watch(database, ScriptedBroker(ends(0)), "taks").look()
