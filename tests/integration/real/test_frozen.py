"""Consumers that are frozen for longer than their sessions last, and wake as zombies."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

import pytest

from streams.storage.database import Database
from tests.integration.notes_app import RealNotesBroker, notes_app
from tests.integration.processes import RunningProcess, wait_until
from tests.integration.real.notes import Traffic
from tests.integration.real.notes_process import SHORT_SESSION
from tests.kit import rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.services.kafka import Kafka

RECORDS = 120
PROGRESS = "SELECT partition, epoch, next_offset FROM progress ORDER BY 1"
TAKEN = "SELECT coalesce(sum(consumed), 0) FROM progress"
GIVEN = "partitions=['"
"""In the log of a process that has been given partitions, and not an empty list."""
PLACES = ("transaction", "decoding")


@pytest.fixture
def broker(kafka: Kafka, kafka_prefix: str) -> RealNotesBroker:
    return RealNotesBroker(kafka, kafka_prefix)


@pytest.fixture
def sleepers(broker: RealNotesBroker, postgres_url: str, tmp_path: Path) -> Iterator[list[RunningProcess]]:
    """Two processes of the app that freeze when they meet what is sent second."""
    program = [sys.executable, "-m", "tests.integration.real.notes_process", broker.address, broker.prefix]
    started = [
        RunningProcess(place, [*program, postgres_url, place, str(RECORDS)], dict(os.environ), tmp_path)
        for place in PLACES
    ]
    yield started
    for sleeper in started:
        sleeper.stop()
        sys.stderr.write(sleeper.said)


async def test_frozen_consumers_are_fenced_when_they_wake(
    kafka: Kafka, broker: RealNotesBroker, postgres_url: str, sleepers: list[RunningProcess]
) -> None:
    """Their partitions are taken over; the batches they go on with are neither applied nor moved past.

    One of them froze inside its transaction, the other before it, when it knew its positions from an earlier batch.
    """
    traffic = Traffic(broker)
    await _until(sleepers, lambda one: GIVEN in one.errors)
    traffic.send(RECORDS)
    await _until_taken(postgres_url, RECORDS)
    traffic.send(RECORDS)
    await _until(sleepers, lambda one: one.is_frozen)
    async with notes_app(broker, postgres_url, **SHORT_SESSION) as app:
        await app.until_handled(2 * RECORDS)
        await traffic.assert_exact(app)
        await traffic.assert_at_the_end(app, kafka)
        taken_over = await rows(app.database, PROGRESS)

        for sleeper in sleepers:
            sleeper.thaw()
        await _until(sleepers, lambda one: "fenced" in one.errors)
        await traffic.assert_exact(app)
        assert await rows(app.database, PROGRESS) == taken_over

        await _until(sleepers, lambda one: GIVEN in one.errors.partition("fenced")[2])
        traffic.send(RECORDS)
        await app.until_handled(3 * RECORDS)
        await traffic.assert_exact(app)
        await traffic.assert_at_the_end(app, kafka)
    assert all(one.runs for one in sleepers)


async def _until(processes: list[RunningProcess], condition: Callable[[RunningProcess], bool]) -> None:
    await asyncio.to_thread(
        wait_until, lambda: all(map(condition, processes)), 30, lambda: "".join(one.said for one in processes)
    )


async def _until_taken(database_url: str, count: int) -> None:
    database = Database(database_url)
    try:
        async with asyncio.timeout(30):
            while await rows(database, TAKEN) != [(count,)]:  # noqa: ASYNC110  another process takes them
                await asyncio.sleep(0.02)
    finally:
        await database.close()
