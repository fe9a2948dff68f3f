"""The contract kit goes red when it should, and says why: faults are planted in a service that is scripted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from contracts.accounting import TransactionApplied
from contracts.tasks import TaskAssigned, TaskCommandRejected
from streams.contract_kit.records import Counts, Sent
from streams.contract_kit.report import ContractBroken
from streams.contract_kit.scenario import Scenario
from streams.contract_kit.sending import raw_record, record_of
from tests.unit.contract_kit.scripted import (
    ADA,
    BOB,
    COMMAND,
    ELSEWHERE,
    TASK,
    ScriptedTransport,
    answer,
    assigned,
    fee,
    parked,
    step,
)

# --- green ----------------------------------------------------------------------------------------------------------


async def test_a_faultless_answer_is_accepted(contract: Scenario, service: ScriptedTransport, command: Sent) -> None:
    """Whole messages, parts of messages, direct and indirect causes."""
    first = assigned(command)
    await step(contract, service, command, first, fee(first))
    received = contract.then(TaskAssigned, worker_id=ADA, key=TASK, because_of=command)
    contract.then(TransactionApplied, amount_minor=-1500, because_of=received)
    contract.then_nothing_else()


async def test_what_an_earlier_step_emitted_is_past(
    contract: Scenario, service: ScriptedTransport, command: Sent
) -> None:
    """It is found among the earlier messages and nowhere else."""
    await step(contract, service, command, assigned(command))
    await step(contract, service, record_of(COMMAND))
    contract.then_nothing_else()
    assert contract.earlier(TaskAssigned, task_id=TASK).data.worker_id == ADA
    with pytest.raises(ContractBroken, match=r"no tasks\.task-assigned\.v1 was emitted"):
        contract.then(TaskAssigned)


# --- red: data ------------------------------------------------------------------------------------------------------


async def test_a_wrong_amount_is_shown_beside_the_right_one(
    contract: Scenario, service: ScriptedTransport, command: Sent
) -> None:
    """Field by field, with a mark at the one that differs, and everything else that was emitted."""
    first = assigned(command)
    await step(contract, service, command, first, fee(first, amount_minor=-1600))
    with pytest.raises(ContractBroken) as failure:
        contract.then(TransactionApplied, worker_id=ADA, kind="fee", amount_minor=-1500)
    lines = str(failure.value).splitlines()
    assert lines[0] == "no accounting.transaction-applied.v1 is as expected"
    assert [line.split() for line in lines if line.lstrip().startswith("!")] == [
        ["!", "amount_minor", "-1500", "-1600"]
    ]
    assert any(line.split() == ["worker_id", repr(ADA), repr(ADA)] for line in lines)
    assert "1. tasks.task-assigned.v1 on tasks.events" in str(failure.value)


async def test_a_missing_event_is_named_with_what_came_instead(
    contract: Scenario, service: ScriptedTransport, command: Sent
) -> None:
    """The text says what was looked for and lists what there is."""
    await step(contract, service, command, assigned(command))
    with pytest.raises(ContractBroken) as failure:
        contract.then(TransactionApplied, worker_id=ADA)
    text = str(failure.value)
    assert text.startswith(f"no accounting.transaction-applied.v1 was emitted\n    worker_id: {ADA!r}")
    assert f"caused by the tasks.create-task.v1 {command.id[-8:]}" in text


async def test_the_nearest_of_several_is_compared(
    contract: Scenario, service: ScriptedTransport, command: Sent
) -> None:
    """The one with the fewest differences tells most."""
    await step(contract, service, command, assigned(command, 1, BOB, ELSEWHERE), assigned(command, 2, BOB))
    with pytest.raises(ContractBroken, match=r"nearest of 2") as failure:
        contract.then(TaskAssigned, worker_id=ADA, task_id=TASK)
    assert str(failure.value).count("!") == 1


async def test_an_extra_event_is_reported(contract: Scenario, service: ScriptedTransport, command: Sent) -> None:
    """What was expected and what came besides are listed apart."""
    await step(contract, service, command, assigned(command, 1), assigned(command, 2, BOB))
    contract.then(TaskAssigned, worker_id=ADA)
    with pytest.raises(ContractBroken) as failure:
        contract.then_nothing_else()
    expected, besides = str(failure.value).split("emitted besides:")
    assert "more happened than was expected" in expected
    assert ADA in expected
    assert ADA not in besides
    assert BOB in besides


async def test_another_number_of_events_is_reported(
    contract: Scenario, service: ScriptedTransport, command: Sent
) -> None:
    """Neither fewer nor more than asked for."""
    await step(contract, service, command, assigned(command, 1), assigned(command, 2))
    for times in (1, 3):
        with pytest.raises(ContractBroken, match=f"was emitted 2 times, expected {times}"):
            contract.then_each(TaskAssigned, times=times)
    contract.then_each(TaskAssigned, times=2)
    contract.then_nothing_else()


async def test_messages_of_one_key_are_expected_in_their_order(
    contract: Scenario, service: ScriptedTransport, command: Sent
) -> None:
    """Order per key is part of the contract."""
    await step(contract, service, command, assigned(command, 1, ADA), assigned(command, 2, BOB))
    contract.then(TaskAssigned, worker_id=BOB)
    with pytest.raises(ContractBroken, match=r"! order +after tasks\.task-assigned\.v1, of the same key +before it"):
        contract.then(TaskAssigned, worker_id=ADA)


async def test_another_cause_than_expected_is_shown(
    contract: Scenario, service: ScriptedTransport, command: Sent
) -> None:
    """Both causes are named by type and id."""
    first = assigned(command)
    await step(contract, service, command, first, fee(first))
    with pytest.raises(ContractBroken) as failure:
        contract.then(TransactionApplied, because_of=command)
    assert f"the tasks.create-task.v1 {command.id[-8:]}" in str(failure.value)
    assert f"tasks.task-assigned.v1 {first.id[-8:]}" in str(failure.value)


async def test_an_answer_to_an_earlier_command_does_not_pass_for_one_to_the_last(
    contract: Scenario, service: ScriptedTransport, command: Sent
) -> None:
    """Without `because_of` a message must go back to the last step."""
    await step(contract, service, command)
    await step(contract, service, record_of(COMMAND), assigned(command))
    with pytest.raises(ContractBroken, match="! caused by"):
        contract.then(TaskAssigned)


async def test_a_field_that_the_contract_does_not_have_is_a_mistake_in_the_test(
    contract: Scenario, service: ScriptedTransport, command: Sent
) -> None:
    """A test with a mistyped field could never be green, so it says so at once."""
    await step(contract, service, command, assigned(command))
    with pytest.raises(TypeError, match=r"tasks\.task-assigned\.v1 has no worker"):
        contract.then(TaskAssigned, worker=ADA)


# --- red: rejections, parked records, duplicates ----------------------------------------------------------------------


def rejection(command: Sent, reason_code: str = "task-exists") -> TaskCommandRejected:
    return TaskCommandRejected.model_validate(
        {
            "command_id": command.id,
            "command_type": "tasks.create-task.v1",
            "reason_code": reason_code,
            "message": "there is one",
        }
    )


async def test_a_rejection_for_another_reason_is_reported(
    contract: Scenario, service: ScriptedTransport, command: Sent
) -> None:
    """Both reasons stand side by side."""
    await step(contract, service, command, answer(rejection(command), command, ELSEWHERE))
    with pytest.raises(ContractBroken, match=r"! reason_code +'unknown-task' +'task-exists'"):
        contract.then_rejected("unknown-task")
    contract.then_rejected("task-exists", key=TASK)


async def test_a_rejection_with_another_key_than_its_command_is_reported(
    contract: Scenario, service: ScriptedTransport, command: Sent
) -> None:
    """Whoever waits for the answer reads the command's partition."""
    answered = replace(answer(rejection(command), command, ELSEWHERE), key=ADA.encode())
    with pytest.raises(ContractBroken, match=rf"! key +b'{TASK}' +b'{ADA}'"):
        await step(contract, service, command, answered)


async def test_two_rejections_of_one_command_are_reported(
    contract: Scenario, service: ScriptedTransport, command: Sent
) -> None:
    """A command is refused once."""
    again = answer(rejection(command), command, ELSEWHERE.replace("dead", "beef"))
    await step(contract, service, command, answer(rejection(command), command, ELSEWHERE), again)
    with pytest.raises(ContractBroken, match="was rejected 2 times"):
        contract.then_rejected("task-exists")


async def test_a_record_parked_for_another_reason_is_reported(
    contract: Scenario, service: ScriptedTransport, command: Sent
) -> None:
    """The text says why it was really parked."""
    service.parks = [parked(command, reason="failed")]
    await step(contract, service, command)
    with pytest.raises(ContractBroken, match=r"(?s)as invalid.*tasks\.commands\[0\]@0 by tasks: failed \(dead\)"):
        contract.then_parked(reason="invalid")
    with pytest.raises(ContractBroken, match="more happened than was expected"):
        contract.then_nothing_else()
    contract.then_parked(reason="failed")
    contract.then_nothing_else()


@pytest.mark.parametrize("lost", [{"value": b"other"}, {"key": None}, {"headers": []}], ids=["value", "key", "headers"])
async def test_a_record_that_was_not_kept_whole_is_reported(
    contract: Scenario, service: ScriptedTransport, command: Sent, lost: dict[str, Any]
) -> None:
    """A parked record keeps its original bytes, key and headers."""
    service.parks = [replace(parked(command), **lost)]
    await step(contract, service, command)
    with pytest.raises(ContractBroken, match="has not parked"):
        contract.then_parked(reason="failed")


async def test_every_reader_must_have_parked_it(contract: Scenario, service: ScriptedTransport) -> None:
    """What one group sets aside another one may have lost."""
    record = raw_record("workers.events", b"?")
    service.parks = [parked(record, "tasks", "invalid")]
    await contract.when_together(record)
    with pytest.raises(ContractBroken, match="accounting has not parked"):
        contract.then_parked(reason="invalid")


async def test_what_was_parked_before_is_not_parked_again(
    contract: Scenario, service: ScriptedTransport, command: Sent
) -> None:
    """A step answers for its own records."""
    service.parks = [parked(command)]
    await step(contract, service, command)
    contract.then_parked(reason="failed")
    await step(contract, service, record_of(COMMAND))
    contract.then_nothing_else()


async def test_a_duplicate_that_was_handled_is_reported(
    contract: Scenario, service: ScriptedTransport, command: Sent
) -> None:
    """The counts tell, even where nothing was emitted."""
    service.counted = {"tasks": Counts(consumed=1, handled=1)}
    await step(contract, service, command)
    with pytest.raises(ContractBroken, match=r"(?s)! duplicate +1 +0.*! handled +0 +1"):
        contract.then_duplicate()
    service.counted = {"tasks": Counts(consumed=2, handled=1, duplicate=1)}
    await step(contract, service, command)
    contract.then_duplicate()


async def test_what_is_given_must_be_accepted(contract: Scenario, service: ScriptedTransport) -> None:
    """A test whose preparation fails does not test what it says."""
    service.counted = {"tasks": Counts(consumed=1, duplicate=1)}
    with pytest.raises(ContractBroken, match="what is given should be accepted, a duplicate by tasks"):
        await contract.given(COMMAND)


@pytest.mark.parametrize("counts", [Counts(consumed=2, handled=1), Counts(consumed=1, handled=1, skipped=1)])
async def test_a_record_without_an_outcome_is_reported_at_the_end(
    contract: Scenario, service: ScriptedTransport, counts: Counts
) -> None:
    """No test passes in which a record has vanished."""
    service.counted = {"tasks": counts}
    with pytest.raises(ContractBroken, match="tasks has lost count"):
        await contract.finish()
