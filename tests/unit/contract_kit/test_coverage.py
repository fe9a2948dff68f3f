"""What the tests have seen is read off the records, not off what they asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from contracts.tasks import TaskCommandRejected
from streams.contract_kit.coverage import Coverage
from streams.contract_kit.scenario import Scenario
from tests.unit.contract_kit.scripted import answer, assigned, parked, step

if TYPE_CHECKING:
    from streams.contract_kit.records import Sent
    from tests.unit.contract_kit.scripted import ScriptedTransport


def outcomes(coverage: Coverage, group: str = "tasks") -> list[tuple[str, tuple[str, ...]]]:
    return [(one.outcome, one.emitted) for one in coverage.taken if one.group == group]


async def test_each_outcome_has_its_name(service: ScriptedTransport, command: Sent) -> None:
    """Accepted with its events, a duplicate, rejected with its reason, parked with its reason."""
    coverage = Coverage()
    contract = Scenario(service, coverage)
    await step(contract, service, command, assigned(command))
    await step(contract, service, command)
    other = replace(command, headers=[*command.headers[:1], ("ce_id", b"0e0e0e0e-0000-4000-8000-000000000000")])
    other = replace(other, headers=[*other.headers, *(h for h in command.headers[1:] if h[0] != "ce_id")])
    rejection = TaskCommandRejected(
        command_id=other.id, command_type=other.type, reason_code="task-exists", message="there is one"
    )
    await step(contract, service, other, answer(rejection, other, "e3e3e3e3-0000-4000-8000-000000000001"))
    service.parks = [parked(command, reason="id-conflict", offset=7)]
    await step(contract, service, command)
    service.parks = [replace(parked(command, reason="invalid", offset=8), error_type="Rejected")]
    await step(contract, service, command)
    commands = [one for one in outcomes(coverage) if one[1] != () or one[0] != "accepted"]
    assert commands == [
        ("accepted", ("tasks.task-assigned.v1",)),
        ("duplicate", ()),
        ("rejected: task-exists", ("tasks.command-rejected.v1",)),
        ("parked: id-conflict", ()),
        ("refused", ()),
    ]
    assert "| tasks | tasks.create-task.v1 | rejected: task-exists | tasks.command-rejected.v1 | 1 |" in (
        coverage.as_markdown()
    )
