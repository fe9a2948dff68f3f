"""Wire mode: the contract tests against processes behind a broker; how these are emptied, and what if one ends."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

from contracts.tasks import CreateTask, TaskAssigned, TaskCreated
from streams.contract_kit.scenario import Scenario
from streams.contract_kit.sending import record_of
from streams.contract_kit.services import ServiceEnded, Services, Wanted
from streams.contract_kit.wire import WireTransport
from streams.ledger.tables import ledger_book
from streams.tasks.tables import tasks_task
from tests.contract.cast import ADA, T1, worker
from tests.contract.ending_service import LAST_WORDS
from tests.integration.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.services.kafka import Kafka
    from tests.services.postgres import Postgres

TIMEOUT_SECONDS = 300
ENDING = "tests.contract.ending_service"
PERSON = worker(ADA)
COMMAND = CreateTask(task_id=T1, title="Repaint")


@pytest.fixture(scope="module")
def contract_services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    services = Services(tmp_path_factory.mktemp("services"), {"currency": "USD"})
    services.begin([Wanted(("tasks",)), Wanted(("tasks",), launcher=ENDING)])
    yield services
    services.close()


async def test_the_next_test_meets_an_empty_service(contract_services: Services) -> None:
    """The same task can be created again, and nothing of the first time is seen or counted."""
    for _ in range(2):
        transport = await WireTransport.start(contract_services.get(Wanted(("tasks",))))
        try:
            async with transport._database.read() as connection:
                assert (await connection.execute(select(func.count()).select_from(tasks_task))).scalar_one() == 0
                assert (await connection.execute(select(func.count()).select_from(ledger_book))).scalar_one() == 1
            assert not await transport.counts()
            contract = Scenario(transport)
            await contract.given(PERSON)
            await contract.when(COMMAND)
            contract.then(TaskCreated, task_id=T1)
            contract.then(TaskAssigned, task_id=T1, worker_id=ADA)
            contract.then_nothing_else()
            await contract.finish()
            assert (await transport.counts())["tasks"].consumed == 2
        finally:
            await transport.close()


async def test_what_a_test_leaves_unread_is_not_the_next_ones(contract_services: Services) -> None:
    """A test may end before the service has done what it was told, and before anybody has looked."""
    service = contract_services.get(Wanted(("tasks",)))
    transport = await WireTransport.start(service)
    await transport.send([record_of(PERSON)])
    await transport.settle()
    await transport.send([record_of(COMMAND)])
    await transport.close()
    transport = await WireTransport.start(service)
    assert await transport.emitted() == []
    assert not await transport.counts()
    await transport.close()


async def test_a_service_that_ends_shows_its_last_words(contract_services: Services) -> None:
    """Not a time-out, but what the process itself has said; the next test gets a new process."""
    wanted = Wanted(("tasks",), launcher=ENDING)
    service = contract_services.get(wanted)
    transport = await WireTransport.start(service)
    with pytest.raises(ServiceEnded, match=f"ended with 7; it said:\n(.|\n)*{LAST_WORDS}"):
        await Scenario(transport).when(PERSON)
    assert not transport.settled
    await transport.close()
    contract_services.discard(wanted)
    assert contract_services.get(wanted) is not service


def test_a_service_that_does_not_come_up_shows_its_last_words(contract_services: Services) -> None:
    """At once, not when the time is up."""
    with pytest.raises(ServiceEnded, match=LAST_WORDS):
        contract_services.get(Wanted(("tasks",), (("currency", "EUR"),), ENDING))


def real_services(request: pytest.FixtureRequest) -> tuple[list[str], dict[str, str]]:
    """Options and variables for a run on a real Kafka and a real PostgreSQL; none where these are missing."""
    try:
        kafka: Kafka = request.getfixturevalue("kafka")
        postgres: Postgres = request.getfixturevalue("postgres")
    except pytest.skip.Exception:
        return [], {}
    variables = {"PAYDAY_TEST_KAFKA": kafka.address, "PAYDAY_TEST_POSTGRES": postgres.url}
    return ["--contract-kafka=real", "--contract-database=postgresql"], variables


@pytest.mark.timeout(TIMEOUT_SECONDS + 30)
def test_the_contract_tests_hold_on_the_wire(request: pytest.FixtureRequest) -> None:
    """Each test that is green in memory is green there, unless it says why it cannot be asked."""
    options, variables = real_services(request)
    command = [sys.executable, "-m", "pytest", "tests/contract", "--contract-mode=wire", "-q", *options]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-4_000:]
    assert " passed" in done.stdout
