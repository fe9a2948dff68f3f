"""The broker dies: while records are handled and events published, and while the app stops and commits its offsets."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.integration.day import SETTINGS, foreseen_records
from tests.integration.notes_app import LIMITS, RealNotesBroker, notes_app
from tests.integration.processes import Home, wait_until
from tests.integration.real.instances import assert_day_is_exact, consumed, send_in_background, unsent
from tests.integration.real.notes import Traffic
from tests.integration.real.notes_process import SHORT_SESSION

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.services.kafka_local import LocalKafka

RECORDS = 120
PREFIX = "own."
BUSY_SECONDS = 100.0
DAY_SECONDS = 200.0
NEVER_MS = 3_600_000


@pytest.fixture
def home(tmp_path: Path, own_kafka: LocalKafka) -> Iterator[Home]:
    with Home(tmp_path, **SETTINGS, PAYDAY_KAFKA_BOOTSTRAP_SERVERS=own_kafka.address) as home:
        home.run("topics", "create")
        yield home


@pytest.mark.timeout(2 * DAY_SECONDS)
def test_a_broker_killed_in_the_middle_of_the_work_changes_no_total(home: Home, own_kafka: LocalKafka) -> None:
    """SIGKILL to Kafka, twice, while records are read and events are on their way: both go on when it is back."""
    app = home.start_app()
    sending = send_in_background(home)
    for share in (1 / 3, 2 / 3):
        wait_until_under_way(home, int(share * foreseen_records()))
        own_kafka.kill()
        assert unsent(home) > 0, "it was killed when nothing was on its way, which proves nothing"
        own_kafka.restart()
    assert sending.wait(DAY_SECONDS) == 0, sending.said
    assert_day_is_exact(home, own_kafka)
    assert app.stop() == 0, app.said


def wait_until_under_way(home: Home, records: int) -> None:
    """Until so many records have been taken, and there are events on their way."""
    wait_until(
        lambda: consumed(home) >= records and unsent(home) > 0,
        BUSY_SECONDS,
        lambda: f"{consumed(home)} of {records} taken",
    )


async def test_a_commit_that_fails_leads_to_duplicates_only(own_kafka: LocalKafka, database_file: Path) -> None:
    """Kafka is away when the app stops, so that no offset of its work is committed: all is read again, for nothing."""
    broker = RealNotesBroker(own_kafka, PREFIX)
    traffic = Traffic(broker)
    traffic.send(RECORDS)
    limits = replace(LIMITS, commit_interval_ms=NEVER_MS)
    async with notes_app(broker, database_file, limits=limits, **SHORT_SESSION) as app:
        await app.until_taken(RECORDS)
        own_kafka.kill()
    await asyncio.to_thread(own_kafka.restart)
    assert own_kafka.committed(PREFIX + "notes") == {}
    async with notes_app(broker, database_file, **SHORT_SESSION) as app:
        await app.until_taken(2 * RECORDS)
        assert (await app.counts())["duplicate"] == RECORDS
        await traffic.assert_exact(app)
        await traffic.assert_at_the_end(app, own_kafka)
