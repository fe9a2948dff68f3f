"""What tasks cost and earn, as pure functions.

Invariant: a task's prices are fixed once and depend on nothing but its id and the deployment's secret; the fee is
charged at every assignment, the reward is paid once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

from contracts.accounting import AccountingCommandRejected, PeriodClosed, TaskPriced
from streams.intake.deciders import Put
from streams.ledger.directory import MAY_MOVE_MONEY, Worker, WorkerKey, may
from streams.ledger.domain import Book, BookKey, Posting, post

if TYPE_CHECKING:
    from collections.abc import Iterator

    from contracts.accounting import AdjustBalance, ClosePeriod
    from contracts.fields import ReasonCode
    from contracts.message import Message
    from contracts.tasks import TaskAssigned, TaskCompleted, TaskCreated
    from contracts.workers import WorkerDeactivated, WorkerRegistered
    from streams.intake.deciders import Change, State
    from streams.ledger.domain import BusinessCalendar
    from streams.outbox.envelope import Cause

__all__ = [
    "Price",
    "PriceKey",
    "Rejection",
    "RejectionKey",
    "Rules",
    "adjust_balance",
    "close_period",
    "deactivate_worker",
    "price_of",
    "register_worker",
    "task_assigned",
    "task_completed",
    "task_created",
]

FEE_MIN_MINOR, FEE_MAX_MINOR = 10_00, 20_00
REWARD_MIN_MINOR, REWARD_MAX_MINOR = 20_00, 40_00
"""All four bounds are inclusive."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a deployment fixes.

    Attributes:
        secret: seeds prices, so that nobody outside can foresee them.
        calendar: business days and the currency.
    """

    secret: bytes
    calendar: BusinessCalendar


@dataclass(frozen=True, slots=True)
class PriceKey:
    """The prices of a task."""

    task_id: str


@dataclass(frozen=True, slots=True)
class RejectionKey:
    """The answer to a refused command."""

    command_id: str


class Price(NamedTuple):
    """What a task costs at every assignment and earns once."""

    task_id: str
    fee_minor: int
    reward_minor: int
    priced_at_ms: int


@dataclass(frozen=True, slots=True)
class Rejection:
    """A refused command."""

    command_id: str
    command_type: str
    reason_code: str
    rejected_at_ms: int


def price_of(secret: bytes, task_id: str, priced_at_ms: int) -> Price:
    """Fee and reward of a task, each uniform over its range.

    Two halves of a keyed hash (BLAKE2b with a key is a MAC), scaled by multiply-and-shift.
    """
    digest = blake2b(task_id.encode(), key=secret, digest_size=16, person=b"price").digest()
    fee = FEE_MIN_MINOR + (int.from_bytes(digest[:8]) * (FEE_MAX_MINOR - FEE_MIN_MINOR + 1) >> 64)
    reward = REWARD_MIN_MINOR + (int.from_bytes(digest[8:]) * (REWARD_MAX_MINOR - REWARD_MIN_MINOR + 1) >> 64)
    return Price(task_id, fee, reward, priced_at_ms)


def register_worker(_state: State, event: WorkerRegistered, _cause: Cause) -> Iterator[Change | Message]:
    """A worker is known and active, or has a new role."""
    yield Put(WorkerKey(event.worker_id), Worker(event.worker_id, event.role, active=True))


def deactivate_worker(state: State, event: WorkerDeactivated, _cause: Cause) -> Iterator[Change | Message]:
    """A worker may no longer ask for anything. The account stays."""
    known: Worker | None = state[WorkerKey(event.worker_id)]
    yield Put(WorkerKey(event.worker_id), Worker(event.worker_id, known.role if known else "worker", active=False))


def task_created(rules: Rules, state: State, event: TaskCreated, cause: Cause) -> Iterator[Change | Message]:
    """The task gets its prices."""
    rules.calendar.refuse_future_event(cause)
    yield from _price(rules, state, event.task_id, cause)


def task_assigned(rules: Rules, state: State, event: TaskAssigned, cause: Cause) -> Iterator[Change | Message]:
    """The assignee pays the fee."""
    rules.calendar.refuse_future_event(cause)
    yield from _price(rules, state, event.task_id, cause)
    price: Price = state[PriceKey(event.task_id)]
    posting = Posting(event.worker_id, "fee", -price.fee_minor, fee_ref(event.assignment_id), task_id=event.task_id)
    yield from post(state, posting, cause, rules.calendar)


def task_completed(rules: Rules, state: State, event: TaskCompleted, cause: Cause) -> Iterator[Change | Message]:
    """Whoever completed the task earns the reward."""
    rules.calendar.refuse_future_event(cause)
    yield from _price(rules, state, event.task_id, cause)
    price: Price = state[PriceKey(event.task_id)]
    posting = Posting(event.worker_id, "reward", price.reward_minor, reward_ref(event.task_id), task_id=event.task_id)
    yield from post(state, posting, cause, rules.calendar)


def adjust_balance(rules: Rules, state: State, command: AdjustBalance, cause: Cause) -> Iterator[Change | Message]:
    """Somebody who may corrects a balance by hand."""
    asking: Worker | None = state[WorkerKey(command.requested_by)]
    if rules.calendar.is_future(cause):
        yield from _reject(cause, "future-date", f"dated more than {rules.calendar.clock_skew_seconds} s ahead")
    elif not may(asking, MAY_MOVE_MONEY):
        yield from _reject(cause, "not-allowed", "only an active accountant or admin may adjust a balance")
    elif state[WorkerKey(command.worker_id)] is None:
        yield from _reject(cause, "unknown-worker", "there is no worker with this id")
    elif command.currency != rules.calendar.currency:
        yield from _reject(cause, "wrong-currency", f"this deployment keeps its books in {rules.calendar.currency}")
    else:
        posting = Posting(
            command.worker_id, "adjustment", command.amount_minor, adjustment_ref(cause.id), note=command.note
        )
        yield from post(state, posting, cause, rules.calendar)


def close_period(rules: Rules, state: State, command: ClosePeriod, cause: Cause) -> Iterator[Change | Message]:
    """A business day is final, and with it every earlier one."""
    book: Book = state[BookKey()] or Book()
    if rules.calendar.is_future(cause):
        yield from _reject(cause, "future-date", f"dated more than {rules.calendar.clock_skew_seconds} s ahead")
    elif command.period >= rules.calendar.date_of(cause.now_ms):
        over = command.period + timedelta(days=1)
        yield from _reject(cause, "period-not-over", f"the day is over at {over} 00:00 {rules.calendar.zone.key}")
    elif book.closed_through is not None and command.period <= book.closed_through:
        yield from _reject(
            cause, "period-already-closed", f"everything up to {book.closed_through} has been closed before"
        )
    else:
        yield Put(BookKey(), Book(command.period))
        yield PeriodClosed(period=command.period)


def fee_ref(assignment_id: str) -> str:
    """What the fee of an assignment is posted under."""
    return f"fee:{assignment_id}"


def reward_ref(task_id: str) -> str:
    """What the reward of a task is posted under."""
    return f"reward:{task_id}"


def adjustment_ref(command_id: str) -> str:
    """What an adjustment is posted under."""
    return f"adjustment:{command_id}"


def _price(rules: Rules, state: State, task_id: str, cause: Cause) -> Iterator[Change | Message]:
    """Fix the prices when a task is first heard of, whichever of its events comes first."""
    if state[PriceKey(task_id)] is None:
        price = price_of(rules.secret, task_id, cause.time_ms)
        yield Put(PriceKey(task_id), price)
        yield TaskPriced(
            task_id=task_id,
            fee_minor=price.fee_minor,
            reward_minor=price.reward_minor,
            currency=rules.calendar.currency,
        )


def _reject(cause: Cause, reason_code: ReasonCode, message: str) -> Iterator[Change | Message]:
    yield Put(RejectionKey(cause.id), Rejection(cause.id, cause.type, reason_code, cause.time_ms))
    yield AccountingCommandRejected(
        command_id=cause.id, command_type=cause.type, reason_code=reason_code, message=message
    )
