"""What a person decides: payouts under review, differences, accounts that were set aside. Each decision is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from sqlalchemy import update

from streams.intake.tables import operator_action
from streams.payouts.domain import PayoutState
from streams.payouts.outcomes import Reversal, send_again
from streams.payouts.store import lock_payouts
from streams.payouts.tables import payout_difference, payout_set_aside
from streams.storage.bulk import insert_rows
from streams.storage.clock import database_time_ms

if TYPE_CHECKING:
    from datetime import date

    from sqlalchemy.ext.asyncio import AsyncConnection

    from streams.payouts.outcomes import Outcomes
    from streams.storage.database import Database

__all__ = ["BankHasPaid", "BankHasRefused", "CannotResolve", "Decision", "Resolver", "SendAgain"]


class CannotResolve(Exception):
    """There is nothing to decide; the text says why."""


@dataclass(frozen=True, slots=True)
class BankHasPaid:
    """The person has found the payment at the bank."""

    provider_ref: str


@dataclass(frozen=True, slots=True)
class BankHasRefused:
    """The bank has not paid and never will: the money goes back."""

    reason_code: str


@dataclass(frozen=True, slots=True)
class SendAgain:
    """The bank has no trace of it: it may be sent, under the same key."""


Decision = BankHasPaid | BankHasRefused | SendAgain
ACTIONS = {
    BankHasPaid: "payout-confirmed",
    BankHasRefused: "payout-failed",
    SendAgain: "payout-sent-again",
}
"""As the list of operators' actions calls them."""


class Resolver:
    """Carries out what a person decides.

    Args:
        database: holds the payouts.
        outcomes: writes down what was decided.
        who: decides, for the list of operators' actions.
    """

    def __init__(self, database: Database, outcomes: Outcomes, who: str) -> None:
        self._database = database
        self._outcomes = outcomes
        self._who = who

    async def resolve(self, payout_id: str, decision: Decision, note: str) -> None:
        """Settle a payout that is under review.

        Raises:
            CannotResolve: there is no such payout, or it is not under review.
            InvalidMessage: the bank's reference or the reason are not what an event can carry.
        """
        async with self._database.write() as connection:
            found = await lock_payouts(connection, [payout_id])
            if not found:
                raise CannotResolve(f"there is no payout {payout_id}")
            (payout,) = found
            if payout.state is not PayoutState.MANUAL_REVIEW:
                raise CannotResolve(f"payout {payout_id} is {payout.state.value}: there is nothing to decide")
            now_ms = await database_time_ms(connection)
            match decision:
                case BankHasPaid(provider_ref):
                    await self._outcomes.confirm(connection, [(payout, provider_ref)], now_ms)
                case BankHasRefused(reason_code):
                    reversal = Reversal(payout, failed=True, reason_code=reason_code)
                    await self._outcomes.reverse(connection, [reversal], now_ms)
                case SendAgain():
                    await send_again(connection, payout_id, note or "sent again by an operator", now_ms)
                case _:
                    assert_never(decision)
            await self._note(connection, ACTIONS[type(decision)], payout_id, note, str(decision), now_ms)

    async def accept_difference(self, period: date, kind: str, reference: str, note: str) -> None:
        """A person knows why payouts, ledger and bank disagree here; it raises no alarm any more.

        Raises:
            CannotResolve: there is no such difference, or it is resolved.
        """
        async with self._database.write() as connection:
            now_ms = await database_time_ms(connection)
            changed = await connection.execute(
                update(payout_difference)
                .where(
                    payout_difference.c.period == period.isoformat(),
                    payout_difference.c.kind == kind,
                    payout_difference.c.reference == reference,
                    payout_difference.c.resolved_at_ms.is_(None),
                )
                .values(resolved_at_ms=now_ms, note=note)
            )
            if not changed.rowcount:
                raise CannotResolve(f"there is no open difference {kind} of {reference} in {period}")
            await self._note(connection, "payout-difference", f"{period}/{kind}/{reference}", note, "", now_ms)

    async def accept_set_aside(self, period: date, worker_id: str, note: str) -> None:
        """A person has seen to an account that a run could not pay; the next run pays what it is owed.

        Raises:
            CannotResolve: it was not set aside, or is resolved.
        """
        async with self._database.write() as connection:
            now_ms = await database_time_ms(connection)
            changed = await connection.execute(
                update(payout_set_aside)
                .where(
                    payout_set_aside.c.period == period.isoformat(),
                    payout_set_aside.c.worker_id == worker_id,
                    payout_set_aside.c.resolved_at_ms.is_(None),
                )
                .values(resolved_at_ms=now_ms, note=note)
            )
            if not changed.rowcount:
                raise CannotResolve(f"{worker_id} is not set aside in {period}")
            await self._note(connection, "payout-set-aside", f"{period}/{worker_id}", note, "", now_ms)

    async def _note(
        self, connection: AsyncConnection, action: str, subject: str, note: str, detail: str, now_ms: int
    ) -> None:
        await insert_rows(
            connection,
            operator_action,
            ("at_ms", "who", "action", "subject", "reason", "detail"),
            [(now_ms, self._who, action, subject, note, detail)],
        )
