"""A record that takes its process with it is found and set aside; those beside it are not blamed."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.integration.notes_app import EmbeddedNotesBroker, NotesSender
from tests.integration.processes import RunningProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WITHIN_SECONDS = 90.0
OUTCOMES = "SELECT sum(consumed), sum(handled), sum(duplicate), sum(parked) FROM progress"


class Supervisor:
    """Starts the app again whenever it has died, as a service manager does."""

    def __init__(self, directory: Path, broker: EmbeddedNotesBroker, database_file: Path) -> None:
        self.deaths = 0
        self._directory = directory
        self._file = database_file
        self._command = [sys.executable, "-m", "tests.integration.killer_process", broker.address]
        self._process: RunningProcess | None = None

    def watch_until(self, sql: str, *expected: tuple[object, ...]) -> None:
        deadline = time.monotonic() + WITHIN_SECONDS
        while self.query(sql) != list(expected):
            if self._process is None or not self._process.runs:
                self.deaths += self._process is not None
                self.start()
            assert time.monotonic() < deadline, f"{self.deaths} deaths, {self.query(sql)}\n{self._process.said}"  # type: ignore[union-attr]
            time.sleep(0.02)

    def start(self) -> RunningProcess:
        command = [*self._command, f"sqlite+aiosqlite:///{self._file}"]
        self._process = RunningProcess(f"app-{time.monotonic_ns()}", command, dict(os.environ), self._directory)
        return self._process

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()

    def stop(self) -> int:
        return self._process.stop() if self._process is not None else 0

    def query(self, sql: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(f"file:{self._file}?mode=ro", uri=True, timeout=10)) as connection:
            return connection.execute(sql).fetchall()


@pytest.fixture
def broker() -> Iterator[EmbeddedNotesBroker]:
    broker = EmbeddedNotesBroker()
    yield broker
    broker.stop()


@pytest.fixture
def supervisor(tmp_path: Path, broker: EmbeddedNotesBroker, database_file: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(tmp_path, broker, database_file)
    yield supervisor
    supervisor.stop()


def send(broker: EmbeddedNotesBroker, killer: str, beside: int = 15) -> None:
    """The killer among others, with a follower of its key."""
    sender = NotesSender(broker)
    for number in range(beside):
        sender.send(str(number), key=b"%d" % (number % 5))
    sender.send(killer, "behind", key=b"killer")
    for number in range(beside):
        sender.send(str(beside + number), key=b"%d" % (number % 5))


@pytest.mark.parametrize("killer", ["exit", "late"])
def test_a_record_that_kills_the_process_is_set_aside(
    supervisor: Supervisor, broker: EmbeddedNotesBroker, killer: str
) -> None:
    """After it has killed it often enough, in its batch or when it is tried again; all others are handled once."""
    send(broker, killer)
    supervisor.watch_until("SELECT reason, state FROM parked WHERE resolved_at_ms IS NULL ORDER BY id",
                           ("crashed", "dead"), ("behind", "retrying"))  # fmt: skip
    supervisor.watch_until("SELECT sum(handled), sum(parked) FROM progress", (30, 2))
    assert supervisor.deaths >= 2  # a life that came on before it died makes nobody a suspect
    assert supervisor.query("SELECT count(*), count(DISTINCT message_id) FROM outbox") == [(30, 30)]
    supervisor.watch_until("SELECT count(*) FROM suspect", (0,))


def test_a_record_that_takes_too_much_memory_is_set_aside(supervisor: Supervisor, broker: EmbeddedNotesBroker) -> None:
    """Whether Python gets away with an error or the process dies, all others are handled."""
    send(broker, "memory")
    supervisor.watch_until("SELECT sum(handled), sum(parked) FROM progress", (30, 2))
    ((reason, _),) = supervisor.query("SELECT reason, error_type FROM parked WHERE reason <> 'behind'")
    assert reason in {"failed", "crashed"}


def test_innocents_are_not_blamed_for_a_process_that_is_killed(
    supervisor: Supervisor, broker: EmbeddedNotesBroker
) -> None:
    """Deploys with kill -9, again and again while records are handled: nothing is parked."""
    sender = NotesSender(broker)
    total = 0
    for _ in range(4):
        for number in range(60):
            sender.send(str(total + number), key=b"%d" % (number % 7))
        total += 60
        supervisor.start()
        supervisor.watch_until(f"SELECT sum(handled) >= {total - 30} FROM progress", (1,))
        supervisor.kill()
    supervisor.watch_until(OUTCOMES.replace("sum(consumed), ", "").replace("sum(duplicate), ", ""), (total, 0))
    assert supervisor.query("SELECT count(*) FROM parked") == [(0,)]


def test_a_stop_in_good_order_leaves_no_suspicion(supervisor: Supervisor, broker: EmbeddedNotesBroker) -> None:
    """SIGTERM gives the partitions back: the next start costs nothing."""
    send(broker, "harmless")
    supervisor.watch_until("SELECT sum(handled) FROM progress", (32,))
    assert supervisor.query("SELECT count(*) > 0 FROM ownership") == [(1,)]
    assert supervisor.stop() == 0
    assert supervisor.query("SELECT count(*) FROM ownership") == [(0,)]
