"""Memory mode notices a service that gets nowhere, instead of calling it settled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from contracts.tasks import CreateTask
from contracts.workers import WorkerRegistered
from streams.contract_kit.memory import MemoryTransport
from streams.contract_kit.sending import record_of
from streams.contract_kit.transport import NotSettled
from streams.middleware.dead_letter import DeadLetter
from streams.settings import Settings
from streams.storage.errors import DatabaseUnavailable
from tests.unit.contract_kit.scripted import ADA, TASK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

COMMAND = CreateTask(task_id=TASK, title="Repaint")


@pytest.fixture
async def service(tmp_path: Path, contract_template: Path) -> AsyncIterator[MemoryTransport]:
    settings = Settings(home=tmp_path, topic_prefix="kit.", group_prefix="kit.")
    transport = await MemoryTransport.start(settings, ("tasks",), contract_template)
    yield transport
    await transport.close()


async def test_the_readers_of_a_topic_are_those_of_the_composed_slices(service: MemoryTransport) -> None:
    assert service.readers("workers.events") == ["tasks"]
    assert service.readers("accounting.commands") == []


async def test_what_is_emitted_is_told_once_and_without_prefix(service: MemoryTransport) -> None:
    person = WorkerRegistered(worker_id=ADA, name="Ada", email="ada@example.com", role="worker")
    await service.send([record_of(person)])
    await service.settle()
    await service.send([record_of(COMMAND)])
    await service.settle()
    assert [one.topic for one in await service.emitted()] == ["tasks.events", "tasks.events"]
    assert await service.emitted() == []


async def test_an_outage_is_not_taken_for_having_finished(
    service: MemoryTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Intake has paused, and its records are still there."""

    async def away(*_arguments: Any) -> None:
        raise DatabaseUnavailable("the database is away")

    monkeypatch.setattr("streams.intake.unit_of_work.UnitOfWork.open", away)
    await service.send([record_of(COMMAND)])
    with pytest.raises(NotSettled, match=r"kit\.tasks is paused"):
        await service.settle()


async def test_records_that_are_read_again_and_again_are_reported(
    service: MemoryTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delivery that finishes nothing comes back for ever."""

    async def nothing(*_arguments: Any) -> None:
        return

    monkeypatch.setattr(DeadLetter, "step", nothing)
    await service.send([record_of(COMMAND)])
    with pytest.raises(NotSettled, match="in vain"):
        await service.settle()
