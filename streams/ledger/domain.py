"""What a posting is, as pure functions of the ledger's state.

Invariant: a posting changes one account by exactly its amount, takes the account's next sequence number, and happens at
most once per `source_ref`, whatever is delivered again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from contracts.accounting import TransactionApplied
from streams.intake.deciders import Put, Rejected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from contracts.message import Message
    from streams.intake.deciders import Change, State
    from streams.outbox.envelope import Cause

__all__ = [
    "BANK",
    "CLEARING",
    "Account",
    "AccountKey",
    "Book",
    "BookClosingKey",
    "BookKey",
    "Booked",
    "BusinessCalendar",
    "Posting",
    "PostingCause",
    "Transfer",
    "TransferKey",
    "book_posting",
    "post",
    "posting_keys",
    "settlement",
]

Kind = Literal["fee", "reward", "adjustment", "payout", "payout-reversal"]
"""Of postings: what changes a worker's account."""

CLEARING = "house:clearing"
"""What was taken from workers and is on its way to the bank."""
BANK = "house:bank"
"""What the bank has paid out for us."""

HOUSE_ACCOUNTS: dict[Kind, str] = {
    "fee": "house:fees",
    "reward": "house:rewards",
    "adjustment": "house:adjustments",
    "payout": CLEARING,
    "payout-reversal": CLEARING,
}
"""The other side of each kind of posting, where the posting does not say otherwise."""


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
    """A row of the ledger. A settlement is between house accounts: it has no worker, sequence, sign and balance."""

    transfer_id: str
    source_ref: str
    kind: Kind | Literal["settlement"]
    debit_account: str
    credit_account: str
    amount_minor: int
    currency: str
    worker_id: str | None
    sequence: int | None
    signed_minor: int | None
    balance_after_minor: int | None
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
        period: the period it counts for; None: the earliest open one on or after the cause's date. A payout names
            the one that it pays, which is closed.
        house_account: the other side; None: the usual one of its kind.
    """

    worker_id: str
    kind: Kind
    signed_minor: int
    source_ref: str
    task_id: str | None = None
    payout_id: str | None = None
    note: str | None = None
    period: date | None = None
    house_account: str | None = None


class PostingCause(Protocol):
    """Why a posting is made: the message that is handled, or a payout."""

    @property
    def time_ms(self) -> int:
        """When it happened, by which it is dated."""
        ...

    def derive(self, name: str, /) -> str:
        """An id for something that it brings about, the same whenever it is done again."""
        ...


class Booked(NamedTuple):
    """What comes of a posting."""

    account: Account
    transfer: Transfer
    event: TransactionApplied


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

    def end_of(self, day: date) -> int:
        """When a business day is over, in milliseconds since the epoch."""
        return _end_in(self.zone, day)

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


@lru_cache(maxsize=1000)
def _end_in(zone: ZoneInfo, day: date) -> int:
    return round(datetime.combine(day + timedelta(days=1), time(), zone).timestamp() * 1000)


def posting_keys(worker_id: str, source_ref: str) -> tuple[object, ...]:
    """The rows that a posting touches."""
    return (BookKey(), AccountKey(worker_id), TransferKey(source_ref))


def post(state: State, posting: Posting, cause: PostingCause, calendar: BusinessCalendar) -> Iterator[Change | Message]:
    """Post once: the account, the transfer and the event; nothing at all for a `source_ref` that was posted before.

    The state must have been loaded with `posting_keys`.
    """
    if state[TransferKey(posting.source_ref)] is not None:
        return
    account: Account = state[AccountKey(posting.worker_id)] or Account(posting.worker_id)
    booked = book_posting(account, posting, cause, calendar, state[BookKey()] or Book())
    yield Put(AccountKey(posting.worker_id), booked.account)
    yield Put(TransferKey(posting.source_ref), booked.transfer)
    yield booked.event


def book_posting(
    account: Account, posting: Posting, cause: PostingCause, calendar: BusinessCalendar, book: Book
) -> Booked:
    """The account after a posting, its transfer and its event.

    Raises:
        InvalidMessage: an amount or balance is larger than a contract allows.
    """
    business_date = calendar.date_of(cause.time_ms)
    account = Account(
        account.worker_id, account.balance_minor + posting.signed_minor, account.version + 1, account.stored_version
    )
    period = posting.period or book.period_for(business_date)
    transfer = _transfer(posting, account, cause, calendar, business_date, period)
    event = TransactionApplied(
        transfer_id=transfer.transfer_id,
        worker_id=posting.worker_id,
        sequence=account.version,
        kind=posting.kind,
        amount_minor=posting.signed_minor,
        currency=transfer.currency,
        balance_after_minor=account.balance_minor,
        period=transfer.period,
        business_date=transfer.business_date,
        task_id=transfer.task_id,
        payout_id=transfer.payout_id,
    )
    return Booked(account, transfer, event)


def settlement(
    source_ref: str, payout_id: str, amount_minor: int, cause: PostingCause, calendar: BusinessCalendar, period: date
) -> Transfer:
    """The transfer from clearing to the bank once it has paid: no worker's account changes.

    Args:
        source_ref: posted at most once.
        payout_id: what the bank has paid.
        amount_minor: above 0.
        cause: gives the time and the transfer's id.
        calendar: gives the date and the currency.
        period: that of the payout.
    """
    return Transfer(
        transfer_id=cause.derive(f"transfer/{source_ref}"),
        source_ref=source_ref,
        kind="settlement",
        debit_account=CLEARING,
        credit_account=BANK,
        amount_minor=amount_minor,
        currency=calendar.currency,
        worker_id=None,
        sequence=None,
        signed_minor=None,
        balance_after_minor=None,
        period=period,
        business_date=calendar.date_of(cause.time_ms),
        task_id=None,
        payout_id=payout_id,
        note=None,
        occurred_at_ms=cause.time_ms,
    )


def _transfer(
    posting: Posting,
    account: Account,
    cause: PostingCause,
    calendar: BusinessCalendar,
    business_date: date,
    period: date,
) -> Transfer:
    """The worker's account is what the house owes: crediting it raises the balance, debiting lowers it."""
    worker, house = f"worker:{posting.worker_id}", posting.house_account or HOUSE_ACCOUNTS[posting.kind]
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
