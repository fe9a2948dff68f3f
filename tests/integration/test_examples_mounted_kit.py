"""The example of another team's app on the kit, run as its README says, as a process beside an embedded broker."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from pydantic_core import from_json

from streams.embedded.broker import PARTITIONS, EmbeddedBroker
from tests.integration.processes import ROOT, RunningProcess, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

EXAMPLE = ROOT / "examples" / "mounted-kit"
FASTSTREAM = str(ROOT / sys.executable).rsplit("/", 1)[0] + "/faststream"
SCANS, EVENTS = "parcels.scans", "parcels.events"
SECONDS = 30.0


class Parcels:
    """The example and its surroundings."""

    def __init__(self, directory: Path, address: str) -> None:
        self.directory = directory
        self.address = address
        self.environment = os.environ | {
            "PARCELS_KAFKA": address,
            "PARCELS_DATABASE": f"sqlite+aiosqlite:///{directory / 'parcels.db'}",
        }
        self._started: list[RunningProcess] = []
        self._producer = Producer({"bootstrap.servers": address})

    def start(self) -> RunningProcess:
        command = [FASTSTREAM, "run", "--app-dir", str(EXAMPLE), "parcels:app"]
        app = RunningProcess(f"app-{len(self._started)}", command, dict(self.environment), self.directory)
        self._started.append(app)
        return app

    def stop(self) -> None:
        for process in self._started:
            process.stop()

    def scan(self, *arguments: str) -> None:
        """By the example's own producer."""
        command = [sys.executable, str(EXAMPLE / "scan.py"), *arguments]
        subprocess.run(command, env=self.environment, check=True, timeout=SECONDS, capture_output=True)

    def produce(self, value: bytes, key: str, type_name: str = "parcels.scanned.v1") -> None:
        headers: list[tuple[str, str | bytes | None]] = [
            ("ce_id", str(uuid4())),
            ("ce_source", "elsewhere"),
            ("ce_type", type_name),
        ]
        self._producer.produce(SCANS, key=key, value=value, headers=headers)
        assert self._producer.flush(10) == 0

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        path = self.directory / "parcels.db"
        if not path.exists():
            return []
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as database:
            try:
                return database.execute(sql).fetchall()
            except sqlite3.OperationalError:  # the tables are being made
                return []

    def until(self, sql: str, found: Sequence[tuple[Any, ...]]) -> None:
        """Wait until a query finds just this."""
        wait_until(
            lambda: self.query(sql) == list(found),
            SECONDS,
            lambda: f"{sql}\n{self.query(sql)}\n" + "".join(one.said for one in self._started),
        )

    def until_taken(self, count: int) -> None:
        self.until("SELECT sum(consumed) FROM progress", [(count,)])

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """Key and body of everything that came out, in the order of each key."""
        self.until("SELECT count(*) FROM outbox WHERE sent_at_ms IS NULL", [(0,)])
        consumer = Consumer({"bootstrap.servers": self.address, "group.id": "reader", "enable.auto.commit": False})
        try:
            consumer.assign([TopicPartition(EVENTS, number, 0) for number in range(PARTITIONS)])
            found: list[tuple[str, dict[str, Any]]] = []
            while len(found) < self.query("SELECT count(*) FROM outbox")[0][0]:
                message = consumer.poll(SECONDS)
                assert message is not None, f"{len(found)} events came out"
                key, value = message.key(), message.value()
                assert isinstance(key, bytes)
                assert value is not None
                found.append((key.decode(), from_json(value)))
            assert consumer.poll(0.3) is None, "more came out than was decided"
        finally:
            consumer.close()
        return found


@pytest.fixture
def parcels(tmp_path: Path) -> Iterator[Parcels]:
    with EmbeddedBroker([SCANS, EVENTS]) as kafka:
        parcels = Parcels(tmp_path, kafka.address)
        try:
            yield parcels
        finally:
            parcels.stop()


def test_each_scan_counts_once_and_its_event_comes_out(parcels: Parcels) -> None:
    """Also when it is sent twice, and the events of a parcel keep their order."""
    first, second, third = (str(uuid4()) for _ in range(3))
    parcels.start()
    parcels.scan(first, "p-1", "Rotterdam", second, "p-1", "Basel", third, "p-2", "Oslo")
    parcels.scan(first, "p-1", "Rotterdam")
    parcels.until_taken(4)
    assert parcels.query(
        "SELECT handled, duplicate FROM (SELECT sum(handled) handled, sum(duplicate) duplicate FROM progress)"
    ) == [(3, 1)]
    assert parcels.query("SELECT * FROM parcel ORDER BY 1") == [("p-1", "Basel", 2), ("p-2", "Oslo", 1)]
    events = parcels.events()
    assert [body for key, body in events if key == "p-1"] == [
        {"parcel_id": "p-1", "place": "Rotterdam", "scans": 1},
        {"parcel_id": "p-1", "place": "Basel", "scans": 2},
    ]
    assert [body for key, body in events if key == "p-2"] == [{"parcel_id": "p-2", "place": "Oslo", "scans": 1}]


def test_junk_is_parked_whole_and_the_rest_goes_on(parcels: Parcels) -> None:
    """What cannot be read, what breaks the model, and what no catalogue knows."""
    parcels.start()
    parcels.produce(b"\xff", "p-1")
    parcels.produce(b'{"parcel_id": "p-1", "place": 7}', "p-1")
    parcels.produce(b"{}", "p-3", "parcels.weighed.v1")
    parcels.scan(str(uuid4()), "p-1", "Basel")
    parcels.until_taken(4)
    assert parcels.query("SELECT reason, state, value FROM parked ORDER BY reason") == [
        ("invalid", "dead", b'{"parcel_id": "p-1", "place": 7}'),
        ("undecodable", "dead", b"\xff"),
        ("unknown-type", "retrying", b"{}"),
    ]
    assert parcels.query("SELECT * FROM parcel") == [("p-1", "Basel", 1)]
    assert len(parcels.events()) == 1


def test_a_kill_in_the_middle_changes_nothing(parcels: Parcels) -> None:
    """What was read before is read again and recognised; every scan has one event."""
    scans = [part for number in range(300) for part in (str(uuid4()), f"p-{number % 7}", f"place {number}")]
    app = parcels.start()
    parcels.scan(*scans[:450])
    wait_until(
        lambda: parcels.query("SELECT sum(consumed) FROM progress") not in ([], [(None,)]), SECONDS, lambda: app.said
    )
    app.kill()
    parcels.scan(*scans[450:])
    parcels.start()
    parcels.until("SELECT sum(scans) FROM parcel", [(300,)])
    parcels.until("SELECT sum(handled) FROM progress", [(300,)])
    parcels.until("SELECT count(*), count(DISTINCT message_id) FROM outbox WHERE sent_at_ms IS NOT NULL", [(300, 300)])
    assert parcels.query("SELECT count(*) FROM parked") == [(0,)]


def test_it_stops_cleanly(parcels: Parcels) -> None:
    """SIGTERM ends it with 0, with everything published."""
    app = parcels.start()
    parcels.scan(str(uuid4()), "p-1", "Basel")
    parcels.until_taken(1)
    assert app.stop() == 0, app.said
    assert parcels.query("SELECT count(*) FROM outbox WHERE sent_at_ms IS NULL") == [(0,)]
