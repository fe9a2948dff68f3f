"""What a posting is, as pure functions of the ledger's state.

Invariant: a posting changes one account by exactly its amount, takes the account's next sequence number, and happens at
most once per `source_ref`, whatever is delivered again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple
from zoneinfo import ZoneInfo

from contracts.accounting import TransactionApplied
from streams.intake.deciders import Put, Rejected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from contracts.message import Message
    from streams.intake.deciders import Change, State
    from streams.outbox.envelope import Cause

__all__ = [
    "Account",
    "AccountKey",
    "Book",
    "BookClosingKey",
    "BookKey",
    "BusinessCalendar",
    "Posting",
    "Transfer",
    "TransferKey",
    "post",
    "posting_keys",
]

Kind = Literal["fee", "reward", "adjustment", "payout", "payout-reversal"]

HOUSE_ACCOUNTS: dict[Kind, str] = {
    "fee": "house:fees",
    "reward": "house:rewards",
    "adjustment": "house:adjustments",
    "payout": "house:clearing",
    "payout-reversal": "house:clearing",
}
"""The other side of each kind of posting."""


@dataclass(frozen=True, slots=True)
class AccountKey:
    """A worker's account."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class BookKey:
    """The book that says which periods are open. Reading it shares its lock."""


@dataclass(frozen=True, slots=True)
class BookClosingKey:
    """The right to close a period: taking it excludes every posting until the transaction ends."""


@dataclass(frozen=True, slots=True)
class TransferKey:
    """A transfer by what it was made for: the permanent guard against posting twice."""

    source_ref: str


class Account(NamedTuple):
    """`stored_version` is the version in the table, 0 while there is no row."""

    worker_id: str
    balance_minor: int = 0
    version: int = 0
    stored_version: int = 0


@dataclass(frozen=True, slots=True)
class Book:
    """Every period up to and including `closed_through` is closed; None while none is."""

    closed_through: date | None = None

    def period_for(self, business_date: date) -> date:
        """The earliest open period on or after a business date."""
        if self.closed_through is None:
            return business_date
        return max(business_date, self.closed_through + timedelta(days=1))


class Transfer(NamedTuple):
    """A row of the ledger."""

    transfer_id: str
    source_ref: str
    kind: Kind
    debit_account: str
    credit_account: str
    amount_minor: int
    currency: str
    worker_id: str
    sequence: int
    signed_minor: int
    balance_after_minor: int
    period: date
    business_date: date
    task_id: str | None
    payout_id: str | None
    note: str | None
    occurred_at_ms: int


class Posting(NamedTuple):
    """An amount that a worker's account is to change by.

    Attributes:
        signed_minor: positive is in the worker's favour; never 0.
        source_ref: what it is for, `fee:{assignment_id}` for instance; posted at most once.
    """

    worker_id: str
    kind: Kind
    signed_minor: int
    source_ref: str
    task_id: str | None = None
    payout_id: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class BusinessCalendar:
    """Which business day it is at an instant.

    Attributes:
        zone: the business time zone.
        currency: the deployment's one currency.
        clock_skew_seconds: a message may be dated this far ahead of this machine's clock.
    """

    zone: ZoneInfo
    currency: str
    clock_skew_seconds: int

    def date_of(self, time_ms: int) -> date:
        """The business date of an instant."""
        return _date_in(self.zone, time_ms)

    def is_future(self, cause: Cause) -> bool:
        """Whether a message claims to come from further ahead than clocks can differ."""
        return cause.time_ms > cause.now_ms + self.clock_skew_seconds * 1000

    def refuse_future_event(self, cause: Cause) -> None:
        """Raise `Rejected` for an event from the future; a command gets an answer instead."""
        if self.is_future(cause):
            raise Rejected(f"ce_time is more than {self.clock_skew_seconds} s ahead of this machine's clock")


@lru_cache(maxsize=10_000)  # many messages of a batch carry the same time
def _date_in(zone: ZoneInfo, time_ms: int) -> date:
    return datetime.fromtimestamp(time_ms / 1000, UTC).astimezone(zone).date()


def posting_keys(worker_id: str, source_ref: str) -> tuple[object, ...]:
    """The rows that a posting touches."""
    return (BookKey(), AccountKey(worker_id), TransferKey(source_ref))


def post(state: State, posting: Posting, cause: Cause, calendar: BusinessCalendar) -> Iterator[Change | Message]:
    """Post once: the account, the transfer and the event; nothing at all for a `source_ref` that was posted before.

    The state must have been loaded with `posting_keys`.
    """
    if state[TransferKey(posting.source_ref)] is not None:
        return
    account: Account = state[AccountKey(posting.worker_id)] or Account(posting.worker_id)
    book: Book = state[BookKey()] or Book()
    business_date = calendar.date_of(cause.time_ms)
    account = Account(
        account.worker_id, account.balance_minor + posting.signed_minor, account.version + 1, account.stored_version
    )
    transfer = _transfer(posting, account, cause, calendar, business_date, book.period_for(business_date))
    yield Put(AccountKey(account.worker_id), account)
    yield Put(TransferKey(transfer.source_ref), transfer)
    yield TransactionApplied(
        transfer_id=transfer.transfer_id,
        worker_id=transfer.worker_id,
        sequence=transfer.sequence,
        kind=transfer.kind,
        amount_minor=transfer.signed_minor,
        currency=transfer.currency,
        balance_after_minor=transfer.balance_after_minor,
        period=transfer.period,
        business_date=transfer.business_date,
        task_id=transfer.task_id,
        payout_id=transfer.payout_id,
    )


def _transfer(
    posting: Posting,
    account: Account,
    cause: Cause,
    calendar: BusinessCalendar,
    business_date: date,
    period: date,
) -> Transfer:
    """The worker's account is what the house owes: crediting it raises the balance, debiting lowers it."""
    worker, house = f"worker:{posting.worker_id}", HOUSE_ACCOUNTS[posting.kind]
    debit, credit = (house, worker) if posting.signed_minor > 0 else (worker, house)
    return Transfer(
        transfer_id=cause.derive(f"transfer/{posting.source_ref}"),
        source_ref=posting.source_ref,
        kind=posting.kind,
        debit_account=debit,
        credit_account=credit,
        amount_minor=abs(posting.signed_minor),
        currency=calendar.currency,
        worker_id=posting.worker_id,
        sequence=account.version,
        signed_minor=posting.signed_minor,
        balance_after_minor=account.balance_minor,
        period=period,
        business_date=business_date,
        task_id=posting.task_id,
        payout_id=posting.payout_id,
        note=posting.note,
        occurred_at_ms=cause.time_ms,
    )
