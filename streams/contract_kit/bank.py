"""The bank of contract tests: it answers at once, and the amount says how, so that a test need not tell it.

Invariant: what it says depends on the payment alone, so that it is the same in memory and behind the wire.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.payouts.bank import Booked, Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streams.payouts.bank import BankEntry, Payment, PaymentOutcome

__all__ = ["REFUSED_CENTS", "ContractBank"]

REFUSED_CENTS = 13
"""An amount that ends in these cents is refused with `account-closed`; any other one is booked."""
HUNDRED = 100


class ContractBank:
    """A `Bank` without money and without memory: payouts of one test have the ids of those of another."""

    async def pay(self, payment: Payment) -> PaymentOutcome:
        """Book or refuse."""
        if payment.amount_minor % HUNDRED == REFUSED_CENTS:
            return Refused("account-closed")
        return Booked(f"ref-{payment.payout_id}")

    async def find(self, reference: str) -> BankEntry | None:  # noqa: ARG002  it remembers none
        """It has never heard of anything: no contract test loses a reply."""
        return None

    async def report(self, period: str) -> AsyncIterator[BankEntry]:
        """Nothing: no contract test reconciles."""
        nothing: dict[str, BankEntry] = {}
        for _ in nothing:
            yield nothing[period]
