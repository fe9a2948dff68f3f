"""A defect in a decision costs the record that it hits, and nobody else's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from contracts.tasks import CompleteTask, CreateTask, ReassignOpenTasks, TaskAssigned, TaskCompleted, TaskCreated
from streams.tasks import domain
from tests.contract.cast import ADA, MIA, T1, T2, T3, worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.contract_kit.scenario import Scenario

pytestmark = [pytest.mark.slices("tasks"), pytest.mark.memory_only("it plants a defect in the service's code")]

SECRET_OF_THE_DEFECT = "it is Friday"


def create(task_id: str) -> CreateTask:
    return CreateTask(task_id=task_id, title="Repaint")


@pytest.fixture
def defect(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """While this list is not empty, drawing an assignee for some tasks fails: those of the first draws."""
    failing = [SECRET_OF_THE_DEFECT]
    original = domain.assignee_for

    def assignee_for(secret: bytes, assignment_id: str, active_workers: Sequence[str]) -> str:
        if failing:
            raise RuntimeError(failing.pop())
        return original(secret, assignment_id, active_workers)

    monkeypatch.setattr(domain, "assignee_for", assignee_for)
    return failing


async def test_a_failing_decision_parks_its_record_and_holds_its_key(contract: Scenario, defect: list[str]) -> None:
    """Later records of the key wait behind it, in this batch and in later ones; other keys go on."""
    await contract.given(worker(ADA))
    failing, behind, other, third = await contract.when_together(
        create(T1), CompleteTask(task_id=T1, worker_id=ADA), create(T2), create(T3)
    )
    (parked,) = contract.then_parked(failing, reason="failed", state="retrying")
    contract.then_parked(behind, reason="behind")
    contract.then(TaskCreated, task_id=T2, because_of=other)
    contract.then(TaskAssigned, task_id=T2, because_of=other)
    contract.then(TaskCreated, task_id=T3, because_of=third)
    contract.then(TaskAssigned, task_id=T3, because_of=third)
    contract.then_nothing_else()
    assert parked.error == SECRET_OF_THE_DEFECT
    await contract.when_together(CompleteTask(task_id=T2, worker_id=ADA))
    contract.then(TaskCompleted, task_id=T2)
    contract.then_nothing_else()
    await contract.when(create(T1))
    contract.then_parked(reason="behind")
    contract.then_nothing_else()


async def test_a_failing_decision_leaves_no_trace(contract: Scenario, defect: list[str]) -> None:
    """The creation that it had said before it failed is not emitted and not remembered."""
    await contract.given(worker(ADA))
    await contract.when(create(T1))
    contract.then_parked(reason="failed")
    contract.then_nothing_else()
    await contract.when(CompleteTask(task_id=T1, worker_id=ADA), key="another key")
    contract.then_rejected("unknown-task")
    contract.then_nothing_else()


async def test_a_failing_admin_command_holds_nobody(contract: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    """All admin commands have one key."""

    def may_not(*_arguments: object) -> None:
        raise RuntimeError(SECRET_OF_THE_DEFECT)

    await contract.given(worker(MIA, "manager"), worker(ADA), create(T1))
    with monkeypatch.context() as patch:
        patch.setattr(domain, "_is_future", may_not)
        await contract.when(ReassignOpenTasks(requested_by=MIA))
        contract.then_parked(reason="failed", state="retrying")
        contract.then_nothing_else()
    await contract.when(ReassignOpenTasks(requested_by=MIA))
    contract.then(TaskAssigned, task_id=T1, worker_id=ADA)
    contract.then_nothing_else()
