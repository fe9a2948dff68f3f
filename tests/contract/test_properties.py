"""Whatever is sent: every record has one outcome, what cannot be read is kept whole, the rest goes on, books agree."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st

from contracts.accounting import AdjustBalance, TransactionApplied
from contracts.catalog import CATALOG
from contracts.message import Message
from contracts.tasks import CreateTask, TaskAssigned
from streams.contract_kit.memory import MemoryTransport
from streams.contract_kit.scenario import Scenario
from streams.inspection.audit import audit
from streams.settings import Settings
from tests.contract.cast import numbered, worker
from tests.contract.mutations import MUTATIONS, Spoilt
from tests.contract.strategies import bodies, courses, records

if TYPE_CHECKING:
    from pathlib import Path

    from streams.contract_kit.records import Sent
    from tests.contract.strategies import Delivery

EXAMPLES_MAX = 40
SOMEBODY = numbered("50000000", 1)
SENTINEL = numbered("5e000000", 1)
quietly = settings(deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.type_name)
def test_every_body_that_a_contract_allows_is_read(entry: Any) -> None:
    """The strategies say what the contracts say; what is read is written again as it was."""

    @settings(quietly, max_examples=15)
    @given(bodies(entry.contract))
    def check(body: dict[str, Any]) -> None:
        message = entry.contract.decode(json.dumps(body).encode())
        assert entry.contract.decode(message.encode()) == message

    check()


@pytest.mark.memory_only("every example has a service of its own")
@pytest.mark.timeout(420)  # a failing example takes time to shrink
@settings(quietly, max_examples=EXAMPLES_MAX)
@given(course=courses())
def test_nothing_is_lost_whatever_is_sent(
    course: list[list[Delivery]], contract_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Sound and spoilt records, at once and one after the other, some of them repeated."""
    asyncio.run(_check(course, contract_template, tmp_path_factory.mktemp("property")))


def test_a_failing_course_shrinks_to_what_matters() -> None:
    """So that a person can read it."""
    course = find(courses(), lambda steps: any(one.flaw == "truncated" for step in steps for one in step))
    assert [[one.flaw for one in step] for step in course] == [["truncated"]]


@pytest.mark.parametrize("flaw", MUTATIONS)
def test_every_mutation_spoils_the_record(flaw: str) -> None:
    """Whatever the record says, what comes out is another one, and of the same topic and key."""

    @settings(quietly, max_examples=10)
    @given(records(AdjustBalance, 1), st.data())
    def check(sound: Sent, data: st.DataObject) -> None:
        spoilt = MUTATIONS[flaw].spoil(Spoilt(sound, AdjustBalance), data.draw)
        assert (spoilt.value, spoilt.headers) != (sound.value, sound.headers)
        assert (spoilt.topic, spoilt.key) == (sound.topic, sound.key)

    check()


async def _check(course: list[list[Delivery]], template: Path, home: Path) -> None:
    transport = await MemoryTransport.start(Settings(home=home), ("tasks", "accounting"), template)
    try:
        contract = Scenario(transport)
        for step in course:
            await contract.when_together(*(one.record for one in step))
        await _check_outcomes(contract, transport, [one for step in course for one in step])
        await _check_sentinel(contract)
        found = await audit(transport._payday.database, settled=True)
        assert found.ok, [finding for finding in found.findings if finding.rows]
    finally:
        await transport.close()


async def _check_outcomes(contract: Scenario, transport: MemoryTransport, sent: list[Delivery]) -> None:
    """Each group has taken every record of its topics, and has kept exactly those that cannot be read."""
    written = [one.record for one in sent] + list(contract.everything(Message))
    counts = await transport.counts()
    for group in ("tasks", "accounting"):
        read = [record for record in written if group in transport.readers(record.topic)]
        if not read:
            continue
        count = counts[group]
        assert count.consumed == len(read) == count.handled + count.duplicate + count.parked
        assert (count.lost, count.skipped, count.discarded) == (0, 0, 0)
        unreadable = [one.record for one in sent if not one.readable and group in transport.readers(one.record.topic)]
        kept = [one for one in await transport.parked() if one.group == group]
        assert len({one.place for one in kept}) == len(kept) == count.parked
        assert Counter(_bytes_of(one) for one in kept) == Counter(_bytes_of(one) for one in unreadable)


async def _check_sentinel(contract: Scenario) -> None:
    """What comes later is handled as if nothing had been."""
    await contract.given(worker(SOMEBODY))
    await contract.when(CreateTask(task_id=SENTINEL, title="Repaint"))
    contract.then(TaskAssigned, task_id=SENTINEL)
    contract.then(TransactionApplied, task_id=SENTINEL, kind="fee")
    await contract.finish()


def _bytes_of(record: Any) -> tuple[object, ...]:
    return (record.topic, record.key, record.value, tuple(record.headers))
