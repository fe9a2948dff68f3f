"""The contract tests show each message with each outcome it can have, and each event that can come of it.

What can happen is read off the app's own code: the deciders that are registered, the rejections and events in their
functions, the fields of their messages. What did happen is what the suite has seen the service do.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, get_args
from unittest.mock import patch
from zoneinfo import ZoneInfo

import pytest

from contracts.catalog import CATALOG
from contracts.fields import ReasonCode
from contracts.message import Message
from contracts.tasks import CreateTask, TaskCreated
from contracts.workers import WorkerRegistered
from streams.accounting import handlers as accounting
from streams.accounting.domain import Rules as AccountingRules
from streams.contract_kit.coverage import ACCEPTED, DUPLICATE, REFUSED, parked_as, rejected_as
from streams.ledger.domain import BusinessCalendar
from streams.payouts import handlers as payouts
from streams.payouts.domain import Rules as PayoutRules
from streams.tasks import handlers as tasks
from streams.tasks.domain import Rules as TaskRules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streams.contract_kit.coverage import Course, Coverage

REASONS = frozenset(get_args(ReasonCode))
ALWAYS = (ACCEPTED, DUPLICATE, parked_as("undecodable"), parked_as("invalid"), parked_as("id-conflict"))
REFUSERS = frozenset({"refuse_future_event", "Rejected"})
"""What a decider calls that sets an event aside as senseless."""
INTRODUCED_BY: dict[str, tuple[type[Message], ...]] = {
    "worker_id": (WorkerRegistered,),
    "requested_by": (WorkerRegistered,),
    "task_id": (CreateTask, TaskCreated),
}
"""Which messages a group first hears of an id in, if it is in order."""


@dataclass(frozen=True, order=True)
class Case:
    """Something that the suite must have seen: a message to a group, and what becomes of it."""

    group: str
    type: str
    what: str


class _Register:
    """Notes which function decides about which type of message, in place of `Deciders`."""

    def __init__(self, _rows: object) -> None:
        self.functions: dict[type[Message], Any] = {}

    def add(self, message_type: type[Message], decide: Any, *, needs: object, then_needs: object = None) -> None:
        self.functions[message_type] = decide


def _deciders() -> dict[str, dict[type[Message], Any]]:
    """Group -> type of message -> the function that decides about it."""
    calendar = BusinessCalendar(ZoneInfo("UTC"), "USD", 0)
    with (
        patch.object(tasks, "Deciders", _Register),
        patch.object(accounting, "Deciders", _Register),
        patch.object(payouts, "Deciders", _Register),
    ):
        registers: dict[str, Any] = {
            tasks.GROUP: tasks.deciders(TaskRules(b"", 0), lambda: None),
            accounting.GROUP: accounting.deciders(AccountingRules(b"", calendar)),
            payouts.GROUP: payouts.deciders(PayoutRules(calendar), "", lambda: None),
        }
    return {group: register.functions for group, register in registers.items()}


def _reached(decide: Any) -> tuple[set[object], set[str], set[Any]]:
    """Constants, names and global objects of a function and of those of the app that it calls."""
    function = decide.func if isinstance(decide, partial) else decide
    constants: set[object] = set()
    names: set[str] = set()
    objects: set[Any] = set()
    todo, done = [function], set()
    while todo:
        one = todo.pop()
        if one in done or not one.__module__.startswith("streams."):
            continue
        done.add(one)
        for code in _codes(one.__code__):
            constants.update(constant for constant in code.co_consts if isinstance(constant, str))
            names.update(code.co_names)
        found = [one.__globals__[name] for name in one.__code__.co_names if name in one.__globals__]
        objects.update(item for item in found if isinstance(item, type))
        todo += [item for item in found if isinstance(item, FunctionType)]
    return constants, names, objects


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _required() -> set[Case]:
    cases: set[Case] = set()
    for group, decided in _deciders().items():
        for contract, decide in decided.items():
            constants, names, objects = _reached(decide)
            what = {*ALWAYS, *(rejected_as(str(code)) for code in constants & REASONS)}
            if names & REFUSERS:
                what.add(REFUSED)
            what |= {f"emits {event.type_name}" for event in objects if issubclass(event, Message)}
            for name, introducers in INTRODUCED_BY.items():
                if name in contract.model_fields and contract not in introducers and set(introducers) & set(decided):
                    what |= {f"unknown {name}", f"out of order: before its {name} is introduced"}
            cases |= {Case(group, contract.type_name, one) for one in what}
    return cases


def _seen(course: Course) -> Iterator[Case]:
    """Everything that one test has shown."""
    introduced: set[tuple[str, str]] = set()
    waiting: dict[tuple[str, str], set[Case]] = {}
    for one in course.taken:
        yield Case(one.group, one.type, one.outcome)
        for event in one.emitted:
            yield Case(one.group, one.type, f"emits {event}")
        if one.message is None or not (one.outcome == ACCEPTED or one.outcome.startswith("rejected")):
            continue
        for name, introducers in INTRODUCED_BY.items():
            thing = (one.group, str(getattr(one.message, name, "")))
            if isinstance(one.message, introducers):
                introduced.add(thing)
                yield from waiting.pop(thing, ())
            elif name in type(one.message).model_fields and thing not in introduced:
                yield Case(one.group, one.type, f"unknown {name}")
                late = Case(one.group, one.type, f"out of order: before its {name} is introduced")
                waiting.setdefault(thing, set()).add(late)


@pytest.mark.usefixtures("whole_suite")
def test_every_message_is_shown_with_every_outcome(contract_coverage: Coverage) -> None:
    """And with every event that can come of it; what is missing is named, with the table of what there is."""
    seen = {case for course in contract_coverage.courses for case in _seen(course)}
    missing = sorted(_required() - seen)
    gaps = "\n".join(f"  {case.group}: {case.type}: {case.what}" for case in missing)
    assert not missing, f"no contract test shows\n{gaps}\n\n{contract_coverage.as_markdown()}"


@pytest.mark.usefixtures("whole_suite")
def test_every_event_of_the_catalogue_is_emitted(contract_coverage: Coverage) -> None:
    """Whatever a slice is said to emit, it does emit somewhere."""
    emitted = {name for taken in contract_coverage.taken for name in taken.emitted}
    groups = {f"payday/{group}" for group in _deciders()}
    assert not {entry.type_name for entry in CATALOG if entry.source in groups} - emitted


def test_the_requirements_are_read_off_the_code() -> None:
    """So that an empty list of gaps means something."""
    required = _required()
    assert Case("tasks", "tasks.complete-task.v1", "rejected: not-the-assignee") in required
    assert Case("tasks", "tasks.create-task.v1", "emits tasks.task-assigned.v1") in required
    assert Case("accounting", "tasks.task-assigned.v1", "emits accounting.transaction-applied.v1") in required
    assert Case("accounting", "tasks.task-completed.v1", REFUSED) in required
    assert Case("accounting", "tasks.task-created.v1", "rejected: future-date") not in required
    assert Case("payouts", "payouts.reissue.v1", "rejected: insufficient-balance") in required
    assert Case("payouts", "payouts.start-run.v1", "emits accounting.period-closed.v1") in required
    assert Case("accounting", "tasks.task-assigned.v1", "out of order: before its task_id is introduced") in required
