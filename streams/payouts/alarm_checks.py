"""What the tables of payouts say that somebody must be told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from streams.alarms.evaluator import Check
from streams.alarms.kinds import AlarmKind, Severity
from streams.payouts.domain import PayoutState
from streams.payouts.tables import payout, payout_difference, payout_set_aside
from streams.storage.clock import database_time_ms

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["CHECKS", "KINDS"]

STUCK_SECONDS = 3600.0
"""A payout that the bank was first asked for so long ago, without a decision, is worth a look."""

PAYOUT_REVIEW = AlarmKind(
    "payout-review",
    Severity.CRITICAL,
    "Payouts wait for a person to find out what the bank did.",
    "a-payout-is-in-manual-review",
)
PAYOUT_SET_ASIDE = AlarmKind(
    "payout-set-aside",
    Severity.CRITICAL,
    "Accounts could not be paid by a run; what they are owed is still in their balances.",
    "an-account-is-set-aside",
)
PAYOUTS_STUCK = AlarmKind(
    "payouts-stuck",
    Severity.WARNING,
    f"Payouts have been without a decision of the bank for more than {STUCK_SECONDS:.0f} s.",
    "payouts-are-stuck",
)
PAYOUT_DIFFERENCES = AlarmKind(
    "payout-differences",
    Severity.CRITICAL,
    "Payouts, the ledger and the bank's report disagree.",
    "the-reconciliation-finds-differences",
)
KINDS = (PAYOUT_REVIEW, PAYOUT_SET_ASIDE, PAYOUTS_STUCK, PAYOUT_DIFFERENCES)


async def _under_review(connection: AsyncConnection) -> dict[str, str]:
    return await _by_period(connection, payout, payout.c.state == PayoutState.MANUAL_REVIEW)


async def _set_aside(connection: AsyncConnection) -> dict[str, str]:
    return await _by_period(connection, payout_set_aside, payout_set_aside.c.resolved_at_ms.is_(None))


async def _stuck(connection: AsyncConnection) -> dict[str, str]:
    before_ms = await database_time_ms(connection) - round(STUCK_SECONDS * 1000)
    return await _by_period(
        connection, payout, payout.c.next_attempt_at_ms.is_not(None), payout.c.first_sent_at_ms < before_ms
    )


async def _differences(connection: AsyncConnection) -> dict[str, str]:
    return await _by_period(connection, payout_difference, payout_difference.c.resolved_at_ms.is_(None))


async def _by_period(connection: AsyncConnection, table: Any, *conditions: Any) -> dict[str, str]:
    rows = await connection.execute(select(table.c.period, func.count()).where(*conditions).group_by(table.c.period))
    return {period: f"{count} of the period {period}" for period, count in rows}


CHECKS = (
    Check(PAYOUT_REVIEW, _under_review),
    Check(PAYOUT_SET_ASIDE, _set_aside),
    Check(PAYOUTS_STUCK, _stuck),
    Check(PAYOUT_DIFFERENCES, _differences),
)
