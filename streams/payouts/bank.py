"""What payouts ask of a bank, whoever it is.

    BankError                  raised where there is no outcome to tell
    ├── BankUnavailable        it is not to be called now, or the report could not be read: ask again later
    └── BankMisunderstood      it does not speak as agreed (address, rights, version): somebody must put that right

Invariant: `pay` says `Refused` only where no money moves, now or later; whatever leaves that open is `Unknown`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = [
    "Bank",
    "BankEntry",
    "BankError",
    "BankMisunderstood",
    "BankUnavailable",
    "Booked",
    "EntryStatus",
    "Payment",
    "PaymentOutcome",
    "Refused",
    "Unknown",
    "UnknownCause",
]


class BankError(Exception):
    """There is no outcome."""


class BankUnavailable(BankError):
    """The bank was not called, or cannot be read from now.

    Attributes:
        retry_in_seconds: when it makes sense to ask again; 0 where that is not known.
    """

    def __init__(self, text: str, retry_in_seconds: float = 0.0) -> None:
        super().__init__(text)
        self.retry_in_seconds = retry_in_seconds


class BankMisunderstood(BankError):
    """The answer is none that was agreed on. It says nothing about any one payment, so none may be given up for it."""


@dataclass(frozen=True, slots=True)
class Payment:
    """What is to be paid.

    Attributes:
        payout_id: idempotency key and reference in one, for ever the same for this payout.
        account: the worker's id.
        period: a date such as `2026-11-22`.
        amount_minor: more than 0.
        currency: ISO 4217.
    """

    payout_id: str
    account: str
    period: str
    amount_minor: int
    currency: str


@dataclass(frozen=True, slots=True)
class Booked:
    """The bank pays, or has paid before under the same key.

    Attributes:
        provider_ref: the bank's own name for the payment.
    """

    provider_ref: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The bank does not pay this, and will not under this key: the money goes back to the balance.

    Attributes:
        reason_code: such as `account-closed`.
        detail: for a person.
    """

    reason_code: str
    detail: str = ""


class UnknownCause(StrEnum):
    """Why it is not known whether money moved."""

    NOT_SENT = "not-sent"
    """No connection came about, so the bank cannot have heard of it: this attempt moved nothing."""
    NO_ANSWER = "no-answer"
    """Time-out, or the connection broke: it may or may not have been booked."""
    BANK_FAILED = "bank-failed"
    """The bank said that it failed, which does not say at what point."""
    BUSY = "busy"
    """The bank is still at it, or asks for patience."""
    UNREADABLE = "unreadable"
    """It answered, but not in words that were agreed on."""
    CONFLICT = "conflict"
    """The bank knows this key or reference with other particulars: somebody must look."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Money may or may not have moved. Never a failure."""

    cause: UnknownCause
    detail: str = ""


PaymentOutcome = Booked | Refused | Unknown


class EntryStatus(StrEnum):
    """What became of a payment at the bank."""

    BOOKED = "booked"
    REJECTED = "rejected"
    RETURNED = "returned"


@dataclass(frozen=True, slots=True)
class BankEntry:
    """A payment as the bank knows it.

    Attributes:
        provider_ref: the bank's name for it.
        reference: the payout's id.
        account, amount_minor, currency: as the bank was told.
        status: money moved unless it is rejected, and came back if it is returned.
        reason_code: why it was rejected or returned.
        booked_at: RFC 3339, by the bank's clock; empty where the bank does not say.
    """

    provider_ref: str
    reference: str
    account: str
    amount_minor: int
    currency: str
    status: EntryStatus
    reason_code: str | None = None
    booked_at: str = ""


class Bank(Protocol):
    """A provider. No method may be called inside a database transaction."""

    async def pay(self, payment: Payment) -> PaymentOutcome:
        """Ask for a payment, once; the caller decides about trying again.

        Raises:
            BankUnavailable: the bank was not called.
            BankMisunderstood: the request was turned away for a reason that has nothing to do with this payment.
        """
        ...

    async def find(self, reference: str) -> BankEntry | Unknown | None:
        """What the bank knows under a payout's id; None: it has never heard of it.

        Raises:
            BankUnavailable: the bank was not called.
            BankMisunderstood: the answer is none that was agreed on.
        """
        ...

    def report(self, period: str) -> AsyncIterator[BankEntry]:
        """Everything that was booked for a period, also what came back, in the bank's order.

        Raises:
            BankUnavailable: it cannot be read now; what was given so far is not all.
            BankMisunderstood: the answer is none that was agreed on.
        """
        ...
