"""What a run and a payout are, and what may be done with them, as pure functions.

Invariant: a payout's id, and the ids of everything that is told of it, are functions of period, worker and number, so
that whichever trigger, instance or restart does something does the same thing again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from uuid import UUID, uuid5

from contracts.accounting import PeriodClosed
from contracts.payouts import PayoutRequested, PayoutsCommandRejected
from streams.intake.deciders import Change, Identified, Put
from streams.ledger.directory import MAY_MOVE_MONEY, WorkerKey, may
from streams.ledger.domain import AccountKey, Book, BookKey, Posting, post
from streams.outbox.envelope import derived_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from contracts.fields import ReasonCode
    from contracts.message import Message
    from contracts.payouts import PayoutEvent, Reissue, StartRun
    from streams.intake.deciders import State
    from streams.ledger.domain import Account, BusinessCalendar
    from streams.outbox.envelope import Cause, Origin

__all__ = [
    "OPEN_STATES",
    "Known",
    "LatestRunKey",
    "NewRun",
    "Payout",
    "PayoutCause",
    "PayoutKey",
    "PayoutState",
    "Refused",
    "Rejection",
    "RejectionKey",
    "Rules",
    "Run",
    "RunKey",
    "RunStatus",
    "Trigger",
    "event_of",
    "judge_run",
    "payout_id_of",
    "period_closed_id",
    "reissue",
    "reserve_ref",
    "reverse_ref",
    "run_completed_id",
    "settle_ref",
    "start_run",
]

E = TypeVar("E", bound="PayoutEvent")
PAYOUTS = UUID("6f0d3a52-5c0b-5d0e-9a43-0f6f6a7c1e11")
"""The name space of payout ids; changing it would make every payout a new one."""
SOURCE = "payday/payouts"
FIRST_SEQ = 1


class RunStatus(StrEnum):
    """How far a run has come."""

    REGISTERED = "registered"
    RESERVING = "reserving"
    DISPATCHING = "dispatching"
    COMPLETED = "completed"


class Trigger(StrEnum):
    """What asked for a run."""

    COMMAND = "command"
    HTTP = "http"
    SCHEDULE = "schedule"
    CLI = "cli"


class PayoutState(StrEnum):
    """Where a payout stands."""

    REQUESTED = "requested"
    """The money is taken from the account; the bank has not been asked yet."""
    SENDING = "sending"
    """Somebody is asking the bank, or died while asking."""
    UNKNOWN = "unknown"
    """The bank was asked and nobody knows what it did; it is asked again."""
    CONFIRMED = "confirmed"
    REVERSED = "reversed"
    """It failed, or the bank returned it; the money is back on the account."""
    MANUAL_REVIEW = "manual-review"
    """A person has to find out what the bank did."""


OPEN_STATES = (PayoutState.REQUESTED, PayoutState.SENDING, PayoutState.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Rules:
    """What a deployment fixes."""

    calendar: BusinessCalendar


@dataclass(frozen=True, slots=True)
class RunKey:
    """The run of a period."""

    period: date


@dataclass(frozen=True, slots=True)
class LatestRunKey:
    """The latest period for which a run is registered."""


@dataclass(frozen=True, slots=True)
class PayoutKey:
    """A payout."""

    payout_id: str


@dataclass(frozen=True, slots=True)
class RejectionKey:
    """The answer to a refused command."""

    command_id: str


class Run(NamedTuple):
    """A day's payout. `origin` is what asked for it first."""

    period: date
    status: RunStatus
    trigger: Trigger
    origin: Origin


class Payout(NamedTuple):
    """One payment of one account. The columns are explained in `tables`; `origin` is that of its run or reissue."""

    payout_id: str
    worker_id: str
    period: date
    seq: int
    amount_minor: int
    currency: str
    state: PayoutState
    origin: Origin
    sendable_since_ms: int
    attempts: int = 0
    unanswered: int = 0
    provider_ref: str | None = None
    reason_code: str | None = None
    reversal_period: date | None = None


@dataclass(frozen=True, slots=True)
class Rejection:
    """A refused command."""

    command_id: str
    command_type: str
    reason_code: str
    rejected_at_ms: int


@dataclass(frozen=True, slots=True)
class PayoutCause:
    """A payout as the cause of its postings and events.

    Their ids come from the payout alone, their time from what asked for it. The time part of the ids is the end of its
    period, which is the same before and after a restore of the database, whoever triggers the run again.

    Attributes:
        payout_id: of the payout.
        anchor_ms: the end of its period.
        origin: what asked for it.
    """

    payout_id: str
    anchor_ms: int
    origin: Origin

    @property
    def time_ms(self) -> int:
        """When it was asked for."""
        return self.origin.time_ms

    def derive(self, name: str) -> str:
        """The id of something that belongs to this payout."""
        return derived_id(self.anchor_ms, SOURCE, self.payout_id, name)

    @classmethod
    def of(cls, payout: Payout, calendar: BusinessCalendar, origin: Origin | None = None) -> PayoutCause:
        """A payout, because of its own origin or of another one."""
        return cls(payout.payout_id, calendar.end_of(payout.period), origin or payout.origin)


def payout_id_of(period: date, worker_id: str, seq: int = FIRST_SEQ) -> str:
    """The id of a payout, which the bank knows as reference and idempotency key, for ever the same."""
    return str(uuid5(PAYOUTS, f"{period.isoformat()}:{worker_id}:{seq}"))


def reserve_ref(payout_id: str) -> str:
    """What taking the money from the account is posted under."""
    return f"payout:{payout_id}:reserve"


def settle_ref(payout_id: str) -> str:
    """What moving the money from clearing to the bank is posted under."""
    return f"payout:{payout_id}:settle"


def reverse_ref(payout_id: str) -> str:
    """What giving the money back to the account is posted under."""
    return f"payout:{payout_id}:reverse"


def period_closed_id(calendar: BusinessCalendar, period: date) -> str:
    """The `ce_id` of the event that a run closed its period."""
    return derived_id(calendar.end_of(period), SOURCE, f"run:{period}", "period-closed")


def run_completed_id(calendar: BusinessCalendar, period: date) -> str:
    """The `ce_id` of the event that a run is completed."""
    return derived_id(calendar.end_of(period), SOURCE, f"run:{period}", "run-completed")


def event_of(contract: type[E], payout: Payout) -> E:
    """An event about a payout as it stands."""
    return contract(
        payout_id=payout.payout_id,
        worker_id=payout.worker_id,
        period=payout.period,
        amount_minor=payout.amount_minor,
        currency=payout.currency,
        provider_ref=payout.provider_ref,
        reason_code=payout.reason_code,
    )


# --- registering a run -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NewRun:
    """The run is to be registered.

    Attributes:
        closes: whether its period, and every earlier one, is still open and must be closed with it.
    """

    closes: bool


@dataclass(frozen=True, slots=True)
class Known:
    """It is registered already: asking again has no effect."""

    status: RunStatus


@dataclass(frozen=True, slots=True)
class Refused:
    """It cannot be registered."""

    reason_code: ReasonCode
    message: str


def judge_run(
    calendar: BusinessCalendar, period: date, existing: Run | None, latest: date | None, book: Book, now_ms: int
) -> NewRun | Known | Refused:
    """Whether a run may be registered: the one rule for commands, requests, schedules and people.

    Runs are registered in increasing order, because each covers everything unpaid up to its period.

    Args:
        calendar: the deployment's.
        period: to pay out.
        existing: its run, if there is one.
        latest: the latest period with a run.
        book: read while no period can be closed.
        now_ms: by the database's clock.
    """
    if existing is not None:
        return Known(existing.status)
    if latest is not None and period <= latest:
        return Refused("superseded", f"the run of {latest} pays everything up to that day")
    if period >= calendar.date_of(now_ms):
        over = period + timedelta(days=1)
        return Refused("period-not-over", f"the day is over at {over} 00:00 {calendar.zone.key}")
    return NewRun(closes=book.closed_through is None or book.closed_through < period)


def start_run(rules: Rules, state: State, command: StartRun, cause: Cause) -> Iterator[Change | Message | Identified]:
    """A run is registered, with its period closed; the workers do the rest."""
    calendar, period = rules.calendar, command.period
    if calendar.is_future(cause):
        yield from _reject(cause, "future-date", f"dated more than {calendar.clock_skew_seconds} s ahead")
        return
    book: Book = state[BookKey()] or Book()
    found = judge_run(calendar, period, state[RunKey(period)], state[LatestRunKey()], book, cause.now_ms)
    match found:
        case Known():
            return
        case Refused(reason_code, message):
            yield from _reject(cause, reason_code, message)
        case NewRun(closes):
            if closes:
                yield Put(BookKey(), Book(period))
                yield Identified(PeriodClosed(period=period), period_closed_id(calendar, period))
            yield Put(RunKey(period), Run(period, RunStatus.REGISTERED, Trigger.COMMAND, cause.origin))
            yield Put(LatestRunKey(), period)


# --- paying again what came back -------------------------------------------------------------------------------------


def reissue(rules: Rules, state: State, command: Reissue, cause: Cause) -> Iterator[Change | Message | Identified]:
    """A reversed payout is paid again, under the next number.

    It is carried in the period of the reversal, which is open: a run of that period or an earlier one then sees both
    or neither. Once that period is closed its run pays the money, or has paid it.
    """
    calendar = rules.calendar
    payout: Payout | None = state[PayoutKey(command.payout_id)]
    book: Book = state[BookKey()] or Book()
    if calendar.is_future(cause):
        yield from _reject(cause, "future-date", f"dated more than {calendar.clock_skew_seconds} s ahead")
    elif not may(state[WorkerKey(command.requested_by)], MAY_MOVE_MONEY):
        yield from _reject(cause, "not-allowed", "only an active accountant or admin may reissue a payout")
    elif payout is None:
        yield from _reject(cause, "unknown-payout", "there is no payout with this id")
    elif payout.state is not PayoutState.REVERSED or payout.reversal_period is None:
        yield from _reject(cause, "not-reversed", f"the payout is {payout.state}: its money is not on the account")
    elif state[PayoutKey(payout_id_of(payout.period, payout.worker_id, payout.seq + 1))] is not None:
        yield from _reject(cause, "already-reissued", "the payout has been paid again before")
    elif book.closed_through is not None and payout.reversal_period <= book.closed_through:
        yield from _reject(cause, "superseded", "the period that the money came back in is closed: its run pays it")
    elif (account := _account(state, payout)) is None or account.balance_minor < payout.amount_minor:
        yield from _reject(cause, "insufficient-balance", "the balance has become less than the payout")
    else:
        yield from _pay_again(rules, state, payout, cause)


def _account(state: State, payout: Payout) -> Account | None:
    account: Account | None = state[AccountKey(payout.worker_id)]
    return account


def _pay_again(rules: Rules, state: State, payout: Payout, cause: Cause) -> Iterator[Change | Identified]:
    again = Payout(
        payout_id_of(payout.period, payout.worker_id, payout.seq + 1),
        payout.worker_id,
        payout.period,
        payout.seq + 1,
        payout.amount_minor,
        payout.currency,
        PayoutState.REQUESTED,
        cause.origin,
        sendable_since_ms=cause.time_ms,
    )
    because = PayoutCause.of(again, rules.calendar)
    posting = Posting(
        again.worker_id,
        "payout",
        -again.amount_minor,
        reserve_ref(again.payout_id),
        payout_id=again.payout_id,
        period=payout.reversal_period,
    )
    yield Put(PayoutKey(again.payout_id), again)
    yield Identified(event_of(PayoutRequested, again), because.derive("payout-requested"))
    for outcome in post(state, posting, because, rules.calendar):
        if isinstance(outcome, Change):
            yield outcome
        else:
            yield Identified(outcome, because.derive(f"applied/{posting.source_ref}"))


def _reject(cause: Cause, reason_code: ReasonCode, message: str) -> Iterator[Change | Message]:
    yield Put(RejectionKey(cause.id), Rejection(cause.id, cause.type, reason_code, cause.time_ms))
    yield PayoutsCommandRejected(command_id=cause.id, command_type=cause.type, reason_code=reason_code, message=message)
