"""What is true of every message that is read, whatever it says: bodies, ids, repeats, and coming too early."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

import pytest

from contracts.accounting import ClosePeriod, TransactionApplied
from contracts.catalog import entry_of
from contracts.payouts import Reissue, StartRun
from contracts.tasks import CompleteTask, CreateTask, ReassignOpenTasks, TaskAssigned, TaskCreated
from contracts.workers import WorkerDeactivated
from streams.contract_kit.sending import headers_of, raw_record
from tests.contract.accounting import adjust, assigned, completed, created, price, statement
from tests.contract.cast import A2, ACE, ADA, BOB, MIA, T1, T2, create, day, worker

if TYPE_CHECKING:
    from contracts.message import Message
    from streams.contract_kit.scenario import Scenario


class Pair(NamedTuple):
    """Two messages of a type that say different things."""

    one: Message
    other: Message


PAIRS = [
    Pair(worker(BOB), worker(BOB, "admin")),
    Pair(WorkerDeactivated(worker_id=ADA), WorkerDeactivated(worker_id=BOB)),
    Pair(create(T2), CreateTask(task_id=T2, title="Another")),
    Pair(CompleteTask(task_id=T1, worker_id=ADA), CompleteTask(task_id=T1, worker_id=BOB)),
    Pair(ReassignOpenTasks(requested_by=MIA), ReassignOpenTasks(requested_by=ADA)),
    Pair(created(T2), TaskCreated(task_id=T2, title="Another")),
    Pair(assigned(task_id=T2, assignment_id=A2), assigned(BOB, task_id=T2, assignment_id=A2)),
    Pair(completed(task_id=T2), completed(BOB, task_id=T2)),
    Pair(adjust(1), adjust(2)),
    Pair(ClosePeriod(period=day(2)), ClosePeriod(period=day(1))),
    Pair(StartRun(period=day(2)), StartRun(period=day(1))),
    Pair(Reissue(payout_id=A2, requested_by=ACE), Reissue(payout_id=T2, requested_by=ACE)),
]
every_message = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: type(pair.one).__name__)


@every_message
async def test_a_body_that_breaks_its_contract_is_set_aside(contract: Scenario, pair: Pair) -> None:
    """Cut short it is no JSON; without a field that the contract wants it is not this message."""
    entry, value = entry_of(pair.one), pair.one.encode()
    body = json.loads(value)
    body.pop(next(iter(body)))
    short = raw_record(entry.topic, value[:-1], headers_of(entry.contract), "some key")
    poor = raw_record(entry.topic, json.dumps(body).encode(), headers_of(entry.contract), "some key")
    await contract.when_together(short, poor)
    contract.then_parked(short, reason="undecodable", state="dead")
    contract.then_parked(poor, reason="invalid", state="dead")
    contract.then_nothing_else()


@every_message
async def test_one_id_cannot_name_two_messages(contract: Scenario, pair: Pair) -> None:
    """The first one stands, the other is set aside; the same one again is nothing new."""
    await contract.given(worker(ADA), worker(MIA, "manager"), worker(ACE, "accountant"), create(T1))
    first = await contract.when(pair.one)
    await contract.when(pair.other, id=first.id)
    contract.then_parked(reason="id-conflict", state="dead")
    contract.then_nothing_else()
    await contract.when_again(first)
    contract.then_duplicate()


@pytest.mark.slices("accounting")
async def test_money_does_not_wait_for_the_worker_to_be_known(contract: Scenario) -> None:
    """Events of tasks and of workers come on two topics, in any order."""
    await contract.given(assigned(), completed())
    one = price(contract)
    await contract.given(worker(ADA))
    assert statement(contract) == [-one.fee_minor, one.reward_minor]


@pytest.mark.slices("accounting")
async def test_an_accountant_is_refused_until_known(contract: Scenario) -> None:
    """A command that comes before its sender's registration is not taken on trust."""
    await contract.given(worker(ADA))
    await contract.when(adjust())
    contract.then_rejected("not-allowed")
    await contract.given(worker(ACE, "accountant"))
    await contract.when(adjust())
    contract.then(TransactionApplied, amount_minor=500)
    contract.then_nothing_else()


@pytest.mark.slices("tasks")
async def test_a_manager_is_refused_until_known(contract: Scenario) -> None:
    """Likewise for reassigning; and somebody who is not known completes nothing."""
    await contract.when(ReassignOpenTasks(requested_by=MIA))
    contract.then_rejected("not-allowed")
    await contract.when(CompleteTask(task_id=T1, worker_id=ADA))
    contract.then_rejected("unknown-task")
    await contract.given(worker(MIA, "manager"), worker(ADA), create(T1))
    await contract.when(ReassignOpenTasks(requested_by=MIA))
    contract.then(TaskAssigned, task_id=T1, worker_id=ADA)
    contract.then_nothing_else()


async def test_who_registers_after_having_left_is_active(contract: Scenario) -> None:
    """The last event that was read counts, also where the first one to be read is the leaving."""
    await contract.given(WorkerDeactivated(worker_id=ADA), worker(ADA))
    await contract.when(create(T1))
    contract.then(TaskAssigned, task_id=T1, worker_id=ADA)
