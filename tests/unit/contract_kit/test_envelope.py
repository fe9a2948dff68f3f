"""Whatever a service emits is checked on sight: faults in topic, key, headers and body are reported."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from streams.contract_kit.records import Emitted, Sent
from streams.contract_kit.report import ContractBroken
from streams.contract_kit.scenario import Scenario
from streams.contract_kit.sending import record_of
from tests.unit.contract_kit.scripted import (
    ADA,
    COMMAND,
    ELSEWHERE,
    TASK,
    ScriptedTransport,
    assigned,
    step,
    with_header,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def wrong(record: Emitted, name: str, value: str | bytes | None) -> Emitted:
    return with_header(record, name, value)


FAULTS: dict[str, tuple[Callable[[Emitted], Emitted], str]] = {
    "wrong topic": (lambda one: replace(one, topic="tasks.commands"), r"! topic +tasks\.events +tasks\.commands"),
    "wrong key": (lambda one: replace(one, key=ADA.encode()), rf"! key +b'{TASK}' +b'{ADA}'"),
    "no key": (lambda one: replace(one, key=None), rf"! key +b'{TASK}' +None"),
    "no causation": (lambda one: wrong(one, "ce_causationid", None), r"! ce_causationid +the id of a .* missing"),
    "unknown causation": (lambda one: wrong(one, "ce_causationid", ELSEWHERE), rf"! ce_causationid .* {ELSEWHERE}"),
    "other correlation": (lambda one: wrong(one, "ce_correlationid", ELSEWHERE), rf"! ce_correlationid .* {ELSEWHERE}"),
    "other time": (
        lambda one: wrong(one, "ce_time", "2020-01-01T00:00:00Z"),
        r"! ce_time +20\S+ +2020-01-01T00:00:00Z",
    ),
    "no time": (lambda one: wrong(one, "ce_time", None), r"! ce_time +\S+ +missing"),
    "other source": (lambda one: wrong(one, "ce_source", "payday/x"), r"! ce_source +payday/tasks +payday/x"),
    "other version": (lambda one: wrong(one, "ce_specversion", "0.3"), r"! ce_specversion +1\.0 +0\.3"),
    "other content type": (lambda one: wrong(one, "content-type", "text/plain"), r"! content-type +app\S+ +text/plain"),
    "id that is no UUID": (lambda one: wrong(one, "ce_id", "17"), r"! ce_id +a UUID .* 17"),
    "a header too many": (lambda one: wrong(one, "x-debug", "1"), r"! header names .*"),
    "a header twice": (lambda one: replace(one, headers=[*one.headers, one.headers[0]]), r"! header names .*"),
    "type in no contract": (lambda one: wrong(one, "ce_type", "tasks.gone.v1"), r"in no contract.*tasks\.gone\.v1"),
    "no type": (lambda one: wrong(one, "ce_type", None), "in no contract"),
    "broken body": (lambda one: replace(one, value=b'{"task_id": 1}'), "breaks its contract.*task_id"),
    "no body": (lambda one: replace(one, value=None), "breaks its contract"),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_wrong_envelope_is_reported_on_sight(
    contract: Scenario, service: ScriptedTransport, command: Sent, name: str
) -> None:
    """Topic, key and headers are checked although the test asks for none of them."""
    plant, expected = FAULTS[name]
    with pytest.raises(ContractBroken, match=expected) as failure:
        await step(contract, service, command, plant(assigned(command)))
    assert "emitted since the last step:" in str(failure.value)


async def test_an_id_that_was_used_before_is_reported(
    contract: Scenario, service: ScriptedTransport, command: Sent
) -> None:
    """Consumers would take the second message for a duplicate of the first."""
    with pytest.raises(ContractBroken, match=r"! ce_id +an id that no other message has"):
        await step(contract, service, command, assigned(command), assigned(command))


async def test_the_trace_is_carried_on(contract: Scenario, service: ScriptedTransport) -> None:
    """An event without the trace of its command breaks the chain."""
    service.emits = []
    traced = with_header(record_of(COMMAND), "traceparent", "00-0af7-b7ad-01")
    command = Sent(traced.topic, traced.key, traced.value, traced.headers, message=COMMAND)
    with pytest.raises(ContractBroken, match=r"! traceparent +00-0af7-b7ad-01"):
        await step(contract, service, command, assigned(command))
