"""The one table of contract, type name, topic and record key.

    LookupError
    └── UnknownType    a type name or a contract that is not in the table

Invariant: no type name and no contract stands in it twice. Topics carry no prefix here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from operator import attrgetter
from typing import Final, Literal

from contracts.accounting import (
    AccountingCommandRejected,
    AdjustBalance,
    ClosePeriod,
    PeriodClosed,
    TaskPriced,
    TransactionApplied,
)
from contracts.fields import TYPE_NAME_MAX_CHARACTERS
from contracts.invalid import shortened
from contracts.message import Message
from contracts.payouts import (
    PayoutConfirmed,
    PayoutFailed,
    PayoutRequested,
    PayoutReversed,
    PayoutsCommandRejected,
    Reissue,
    RunCompleted,
    StartRun,
)
from contracts.tasks import (
    CompleteTask,
    CreateTask,
    ReassignOpenTasks,
    TaskAssigned,
    TaskCommandRejected,
    TaskCompleted,
    TaskCreated,
)
from contracts.workers import WorkerDeactivated, WorkerRegistered

ADMIN_KEY: Final = "all"
"""The record key of commands that concern everything rather than one task, worker or period."""

Kind = Literal["command", "event"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One contract and how it travels.

    `key` gives a message's record key; None means the key of the command that the message answers. `source`
    is the `ce_source` of what a slice emits; None means that the sender is outside and says so itself.
    """

    contract: type[Message]
    type_name: str
    kind: Kind
    topic: str
    key: Callable[[Message], str] | None
    source: str | None = None


class UnknownType(LookupError):
    """A type name, or a contract, that the catalogue does not have."""

    def __init__(self, type_name: str) -> None:
        """Only a bounded part of the name is kept: it may come from a header."""
        self.type_name = shortened(type_name, TYPE_NAME_MAX_CHARACTERS)
        super().__init__(self.type_name)

    def __str__(self) -> str:
        """One line; looking for similar names takes time and waits until somebody reads it."""
        near = get_close_matches(self.type_name, _BY_NAME, n=3, cutoff=0.6)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        return f"unknown type {self.type_name!r}{hint}"


def entry_of(message: Message | type[Message]) -> Entry:
    """The entry of a message or of its class. Raises `UnknownType`."""
    contract = message if isinstance(message, type) else type(message)
    try:
        return _BY_CONTRACT[contract]
    except KeyError:
        raise UnknownType(contract.type_name) from None


def entry_for(type_name: str) -> Entry:
    """The entry of a type name. Raises `UnknownType`, whose text suggests similar names."""
    try:
        return _BY_NAME[type_name]
    except KeyError:
        raise UnknownType(type_name) from None


def catalog() -> tuple[Entry, ...]:
    """Every entry, in the order of the table."""
    return CATALOG


def topics() -> tuple[str, ...]:
    """Every topic once, in the order of the table."""
    return tuple(dict.fromkeys(entry.topic for entry in CATALOG))


def _period(message: Message) -> str:
    return str(_period_of(message))


def _everything(_message: Message) -> str:
    return ADMIN_KEY


_period_of = attrgetter("period")
_task: Callable[[Message], str] = attrgetter("task_id")
_worker: Callable[[Message], str] = attrgetter("worker_id")
_payout: Callable[[Message], str] = attrgetter("payout_id")

_TASKS: Final = "payday/tasks"
_ACCOUNTING: Final = "payday/accounting"
_PAYOUTS: Final = "payday/payouts"


def _command(contract: type[Message], name: str, topic: str, key: Callable[[Message], str]) -> Entry:
    return Entry(contract, name, "command", topic, key)


def _event(
    contract: type[Message],
    name: str,
    topic: str,
    key: Callable[[Message], str] | None,
    source: str | None,
) -> Entry:
    return Entry(contract, name, "event", topic, key, source)


CATALOG: Final[tuple[Entry, ...]] = (
    _event(WorkerRegistered, "workers.worker-registered.v1", "workers.events", _worker, None),
    _event(WorkerDeactivated, "workers.worker-deactivated.v1", "workers.events", _worker, None),
    _command(CreateTask, "tasks.create-task.v1", "tasks.commands", _task),
    _command(CompleteTask, "tasks.complete-task.v1", "tasks.commands", _task),
    _command(ReassignOpenTasks, "tasks.reassign-open-tasks.v1", "tasks.admin-commands", _everything),
    _event(TaskCreated, "tasks.task-created.v1", "tasks.events", _task, _TASKS),
    _event(TaskAssigned, "tasks.task-assigned.v1", "tasks.events", _task, _TASKS),
    _event(TaskCompleted, "tasks.task-completed.v1", "tasks.events", _task, _TASKS),
    _event(TaskCommandRejected, "tasks.command-rejected.v1", "tasks.events", None, _TASKS),
    _command(AdjustBalance, "accounting.adjust-balance.v1", "accounting.commands", _worker),
    _command(ClosePeriod, "accounting.close-period.v1", "accounting.admin-commands", _everything),
    _event(TaskPriced, "accounting.task-priced.v1", "accounting.events", _task, _ACCOUNTING),
    _event(TransactionApplied, "accounting.transaction-applied.v1", "accounting.events", _worker, _ACCOUNTING),
    _event(PeriodClosed, "accounting.period-closed.v1", "accounting.events", _period, _ACCOUNTING),
    _event(AccountingCommandRejected, "accounting.command-rejected.v1", "accounting.events", None, _ACCOUNTING),
    _command(StartRun, "payouts.start-run.v1", "payouts.commands", _period),
    _command(Reissue, "payouts.reissue.v1", "payouts.commands", _payout),
    _event(PayoutRequested, "payouts.payout-requested.v1", "payouts.events", _worker, _PAYOUTS),
    _event(PayoutConfirmed, "payouts.payout-confirmed.v1", "payouts.events", _worker, _PAYOUTS),
    _event(PayoutFailed, "payouts.payout-failed.v1", "payouts.events", _worker, _PAYOUTS),
    _event(PayoutReversed, "payouts.payout-reversed.v1", "payouts.events", _worker, _PAYOUTS),
    _event(RunCompleted, "payouts.run-completed.v1", "payouts.events", _period, _PAYOUTS),
    _event(PayoutsCommandRejected, "payouts.command-rejected.v1", "payouts.events", None, _PAYOUTS),
)


def _without_duplicates(entries: tuple[Entry, ...]) -> tuple[dict[str, Entry], dict[type[Message], Entry]]:
    by_name: dict[str, Entry] = {}
    by_contract: dict[type[Message], Entry] = {}
    for entry in entries:
        if entry.type_name in by_name or entry.contract in by_contract:
            raise ValueError(f"the catalogue has {entry.type_name} or {entry.contract.__name__} twice")
        by_name[entry.type_name] = entry
        by_contract[entry.contract] = entry
    return by_name, by_contract


_BY_NAME, _BY_CONTRACT = _without_duplicates(CATALOG)

for _entry in CATALOG:
    # From here on a contract's errors call it by the name that is on the wire.
    _entry.contract.type_name = _entry.type_name
