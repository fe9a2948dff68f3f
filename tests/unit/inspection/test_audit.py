"""The audit: silent about consistent books, and red for each rule when just that rule is broken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from streams.inspection.audit import EXPECTED, audit
from streams.inspection.checks import CHECKS, SETTLED_CHECKS
from streams.inspection.payout_checks import PAYOUT_CHECKS
from streams.inspection.totals import Totals
from tests.unit.inspection.books import ANN, BOB, TASKS, TOTALS, execute, park, write_books

if TYPE_CHECKING:
    from streams.storage.database import Database

UNGUARDED = (
    "CREATE TABLE copy AS SELECT * FROM ledger_transfer",
    "DROP TABLE ledger_transfer",
    "ALTER TABLE copy RENAME TO ledger_transfer",
)
"""The table without its constraints, for what they would refuse."""

PLANTED: dict[str, tuple[str, ...]] = {
    "conservation": ("UPDATE progress SET handled = handled - 1",),
    "parked-counted": ("UPDATE parked SET resolved_at_ms = 5",),
    "nothing-lost": ("UPDATE progress SET lost = 3",),
    "nothing-skipped": ("UPDATE progress SET skipped = 1",),
    "emitted-once": (
        """
        INSERT INTO outbox (topic, lane, value, headers, message_id, type, created_at_ms)
        SELECT topic, lane, value, headers, message_id, type, 2 FROM outbox
        """,
    ),
    "balance-is-sum": (f"UPDATE ledger_account SET balance_minor = balance_minor + 1 WHERE worker_id = '{ANN}'",),
    "posting-has-account": (f"DELETE FROM ledger_account WHERE worker_id = '{BOB}'",),
    "sequence-gapless": (f"UPDATE ledger_transfer SET sequence = 9 WHERE sequence = 3 AND worker_id = '{ANN}'",),
    "running-balance": ("UPDATE ledger_transfer SET balance_after_minor = 7 WHERE transfer_id = 'x2'",),
    "entry-consistent": ("UPDATE ledger_transfer SET debit_account = credit_account WHERE transfer_id = 'x0'",),
    "posted-once": (*UNGUARDED, "UPDATE ledger_transfer SET source_ref = 'fee:a0' WHERE transfer_id = 'x3'"),
    "rewarded-once": (f"UPDATE ledger_transfer SET kind = 'reward', task_id = '{TASKS[0]}' WHERE transfer_id = 'x5'",),
    "double-entry": (f"UPDATE ledger_transfer SET credit_account = 'worker:{ANN}' WHERE transfer_id = 'x5'",),
    "books-balance": ("UPDATE ledger_account SET balance_minor = balance_minor - 100",),
    "one-currency": ("UPDATE ledger_transfer SET currency = 'EUR' WHERE transfer_id = 'x0'",),
    "priced": (f"UPDATE accounting_price SET fee_minor = 999 WHERE task_id = '{TASKS[1]}'",),
    "period-not-before-date": ("UPDATE ledger_transfer SET period = '2026-11-21' WHERE transfer_id = 'x0'",),
    "assignment-charged": (f"INSERT INTO tasks_assignment VALUES ('a9', '{TASKS[1]}', '{ANN}', 'reassigned', 1)",),
    "fee-has-assignment": ("DELETE FROM tasks_assignment WHERE assignment_id = 'a1'",),
    "completed-rewarded": (f"UPDATE tasks_task SET completed_at_ms = 3 WHERE task_id = '{TASKS[1]}'",),
    "reward-has-task": ("UPDATE tasks_task SET completed_at_ms = NULL",),
}


@pytest.fixture
async def books(database: Database) -> Database:
    await write_books(database)
    return database


async def test_consistent_books_pass(books: Database, database: Database) -> None:
    """Nothing is found where nothing is wrong, and every check has run."""
    result = await audit(database, settled=True)
    assert result.ok, result.counts
    assert set(result.counts) == {check.name for check in CHECKS + SETTLED_CHECKS}


async def test_an_empty_database_passes(database: Database) -> None:
    """Nothing happened, so nothing is wrong."""
    assert (await audit(database, settled=True)).ok


def test_every_check_has_a_planted_fault() -> None:
    """A check that nobody has seen red proves nothing."""
    assert set(PLANTED) == {check.name for check in CHECKS + SETTLED_CHECKS if check not in PAYOUT_CHECKS}


@pytest.mark.parametrize("name", PLANTED)
async def test_a_check_goes_red(name: str, books: Database, database: Database) -> None:
    """Each rule, when it is broken, is named with the rows that break it."""
    await execute(books, *PLANTED[name])
    result = await audit(database, settled=True)
    finding = next(finding for finding in result.findings if finding.name == name)
    assert not result.ok
    assert finding.rows > 0
    assert len(finding.examples) == min(finding.rows, 10)
    assert "offending_rows" not in finding.examples[0]


async def test_many_offending_rows_are_counted_and_ten_are_shown(books: Database, database: Database) -> None:
    """The count is exact however many examples are left out."""
    await execute(
        books,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 25) "
        f"INSERT INTO tasks_assignment SELECT 'b' || i, '{TASKS[1]}', '{ANN}', 'reassigned', 1 FROM n",
    )
    finding = next(one for one in (await audit(database, settled=True)).findings if one.name == "assignment-charged")
    assert (finding.rows, len(finding.examples)) == (25, 10)


async def test_slices_are_only_compared_when_settled(books: Database, database: Database) -> None:
    """A fee that is on its way is no fault."""
    await execute(books, *PLANTED["assignment-charged"])
    result = await audit(database, settled=False)
    assert result.ok
    assert "assignment-charged" not in result.counts


async def test_money_behind_a_parked_record_is_late_and_not_missing(books: Database, database: Database) -> None:
    """A task whose event is set aside need not be charged yet; once that is resolved, it must."""
    await execute(books, *PLANTED["assignment-charged"], *PLANTED["completed-rewarded"])
    await park(books, 1, group="payday.accounting", topic="p.tasks.events", key=TASKS[1].encode())
    late = await audit(database, settled=True, topic_prefix="p.")
    assert (late.counts["assignment-charged"], late.counts["completed-rewarded"]) == (0, 0)
    await execute(books, "UPDATE parked SET resolved_at_ms = 5 WHERE group_name = 'payday.accounting'")
    missing = await audit(database, settled=True, topic_prefix="p.")
    assert (missing.counts["assignment-charged"], missing.counts["completed-rewarded"]) == (1, 1)


async def test_expected_totals_that_are_met_pass(books: Database, database: Database) -> None:
    """Every number of totals.json is compared."""
    result = await audit(database, settled=True, expected=Totals.model_validate(TOTALS))
    assert result.ok, result.findings[-1]
    assert result.counts[EXPECTED] == 0


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("tasks_created", 4, "tasks_created"),
        ("assignments", 3, "assignments"),
        ("tasks_completed", 0, "tasks_completed"),
        ("transactions", 7, "transactions"),
        ("balance_total_minor", -1201, "balance_total_minor"),
        ("rejected", {"task-exists": 1}, "rejected.task-exists"),
        ("rejected", {"unknown-task": 1}, "rejected.unknown-task"),
        ("balances", {ANN: 501}, f"balances.{ANN}"),
        ("balances", {TASKS[0]: 5}, f"balances.{TASKS[0]}"),
    ],
)
async def test_an_expected_total_that_is_not_met_is_named(
    key: str, value: Any, what: str, books: Database, database: Database
) -> None:
    """The finding says which number differs; what is not expected is not compared."""
    finding = (await audit(database, settled=True, expected=Totals.model_validate({key: value}))).findings[-1]
    assert finding.rows == 1
    assert finding.examples[0]["what"] == what


@pytest.mark.parametrize("wrong", [{"tasks": 3}, {"tasks_created": "3"}, {"tasks_created": -1}, {"balances": [1]}])
def test_senseless_totals_are_refused(wrong: dict[str, Any]) -> None:
    """A key that does not exist would otherwise compare nothing and pass."""
    with pytest.raises(ValidationError):
        Totals.model_validate(wrong)
