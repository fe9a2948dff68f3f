"""Status, statement and the list of parked records, each on a small set of tables."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from streams.inspection.log_ends import End, LogEnds
from streams.inspection.parked_list import ParkedFilter, by_cause, list_parked, show_parked
from streams.inspection.reader_positions import ReaderPositions
from streams.inspection.readings import Reading
from streams.inspection.statement import statement
from streams.inspection.status import status
from tests.unit.inspection.books import ANN, TASKS, execute, park, write_books

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.storage.database import Database

READINGS = (
    Reading("payday.tasks", ("tasks.commands",)),
    Reading("payday.accounting", ("tasks.events", "tasks.commands")),
)


class FixedBroker:
    def __init__(self, **foreign: str) -> None:
        self.foreign = frozenset((group, topic, 0) for group, topic in foreign.items())

    async def read(self, topics: Sequence[str], _readings: Sequence[Reading] = ()) -> LogEnds:
        ends = {("tasks.commands", 0): End(0, 12), ("tasks.events", 0): End(3, 7)}
        return LogEnds({key: end for key, end in ends.items() if key[0] in topics}, self.foreign)


@pytest.fixture
async def books(database: Database) -> Database:
    await write_books(database)
    return database


async def test_status_counts_per_group(books: Database, database: Database) -> None:
    """Lag is what the log holds beyond a group's progress; a group that never began lags by all of it."""
    await execute(books, f"UPDATE outbox SET sent_at_ms = NULL, created_at_ms = {time.time_ns() // 1_000_000 - 5000}")
    found = await status(database, FixedBroker(), READINGS)
    assert found["groups"]["payday.tasks"] == {
        "lag": 2,
        "consumed": 10,
        "handled": 6,
        "duplicate": 3,
        "parked": 1,
        "dead": 1,
        "discarded": 0,
        "lost": 0,
        "skipped": 0,
    }
    assert found["groups"]["payday.accounting"]["lag"] == 4 + 12
    assert found["unsent"] == 1
    assert 4 < found["oldest_unsent_age_seconds"] < 60
    assert (found["breaker"], found["alarms"]) == (None, [])


async def test_status_shows_groups_of_others(books: Database, database: Database) -> None:
    """What another prefix has left in the database is seen, not hidden."""
    found = await status(database, FixedBroker(), READINGS[1:])
    assert found["groups"]["payday.tasks"]["lag"] == 2


async def test_a_statement_lists_an_account_in_order(books: Database, database: Database) -> None:
    """Signed amounts with the balance after each; None for somebody without an account."""
    found = await statement(database, ANN, "USD")
    assert found is not None
    assert found["balance_minor"] == 500
    assert [(one["sequence"], one["amount_minor"], one["balance_after_minor"]) for one in found["entries"]] == [
        (1, -1000, -1000),
        (2, 2500, 1500),
        (3, -1000, 500),
    ]
    assert "note" not in found["entries"][0]
    assert await statement(database, TASKS[0], "USD") is None


async def test_parked_records_are_filtered(books: Database, database: Database) -> None:
    """Unresolved ones unless asked otherwise; `blocked` is a retrying record behind another."""
    await park(books, 8, reason="failed", state="retrying", key=b"other", next_attempt_at_ms=9)
    await park(books, 9, reason="behind", state="retrying", key=b"other")
    await park(books, 10, reason="failed", state="dead", key=b"\xff", resolved_at_ms=5)

    async def offsets(**wanted: Any) -> list[int]:
        async with database.read() as reading:
            return [row["offset"] for row in await list_parked(reading, ParkedFilter(**wanted))]

    assert await offsets() == [7, 8, 9]
    assert await offsets(state="dead") == [7]
    assert await offsets(state="retrying") == [8]
    assert await offsets(state="blocked") == [9]
    assert await offsets(state="resolved") == [10]
    assert await offsets(key="other") == [8, 9]
    assert await offsets(reason="invalid", group="payday.tasks", topic="tasks.commands", type="t.v1") == [7]
    assert await offsets(topic="tasks.events") == []
    async with database.read() as reading:
        causes = await by_cause(reading, ParkedFilter())
        assert [(one["reason"], one["count"]) for one in causes] == [("invalid", 1), ("failed", 1), ("behind", 1)]
        found = await list_parked(reading, ParkedFilter(state="resolved"))
        assert found[0]["key"] == {"base64": "/w=="}


async def test_one_parked_record_is_shown_whole(books: Database, database: Database) -> None:
    """Original bytes and headers, where it came from and why it is here; None for an id that is none."""
    async with database.read() as connection:
        found = await show_parked(connection, 1)
        assert await show_parked(connection, 99) is None
    assert found is not None
    assert (found["value"], found["headers"]) == ("{", [["ce_type", "t.v1"]])
    assert (found["state"], found["error"], found["error_type"]) == ("dead", "is wrong", "Oops")


async def test_reader_positions_leave_out_what_is_not_in_this_log(books: Database, database: Database) -> None:
    """A position in the log of a broker that is gone is none; a group that has begun counts, the others if named."""

    async def there() -> Database:
        return database

    async def nowhere() -> None:
        return None

    broker = FixedBroker()
    readers = ReaderPositions(there, broker, READINGS)
    assert await readers.log_ends("tasks.commands") == {0: 12}
    assert await readers.positions("tasks.commands") == [{0: 10}]
    named = ReaderPositions(there, broker, READINGS, ["payday.accounting"])
    assert await named.positions("tasks.commands") == [{0: 10}, {}]
    gone = ReaderPositions(there, FixedBroker(**{"payday.tasks": "tasks.commands"}), READINGS)
    assert await gone.positions("tasks.commands") == [{}]
    none_yet = ReaderPositions(nowhere, broker, READINGS)
    assert await none_yet.positions("tasks.commands") == [{}, {}]
