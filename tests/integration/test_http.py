"""Health and metrics over HTTP, asked as an operator's tools ask, with everything up and with what it needs down."""

from __future__ import annotations

import json
import re
import socket
import sqlite3
import urllib.error
import urllib.request
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.processes import Home, RunningProcess, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ANSWER_SECONDS = 2.0
"""Far more than an answer from memory takes, far less than any time-out of what is down."""


def get(url: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as response:
            status, body, kind = response.status, response.read(), response.headers["content-type"]
    except urllib.error.HTTPError as error:
        with error:
            status, body, kind = error.code, error.read(), error.headers["content-type"]
    return status, json.loads(body) if kind.startswith("application/json") else body.decode()


class App:
    def __init__(self, home: Home, broker: RunningProcess, process: RunningProcess, url: str) -> None:
        self.home, self.broker, self.process, self.url = home, broker, process, url

    def status_of(self, path: str) -> tuple[int, str]:
        code, found = get(f"{self.url}/{path}")
        return code, found["status"]

    def metric(self, line_start: str) -> float:
        for line in get(self.url.replace("/actuator", "/metrics"))[1].splitlines():
            if line.startswith(line_start):
                return float(line.rsplit(" ", 1)[1])
        raise AssertionError(f"no metric {line_start}")


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    with Home(tmp_path, PAYDAY_HTTP_PORT="0") as home:
        broker = home.start("broker")
        broker.wait_for_first_line(20)
        process = home.start("run")
        process.wait_for_first_line(60)
        (url,) = re.findall(r"health and metrics at (\S+)", process.errors)
        found = App(home, broker, process, url)
        wait_until(lambda: found.status_of("health") == (200, "UP"), 20, lambda: str(get(f"{url}/health")))
        yield found


def test_everything_answers_while_things_go_down(app: App) -> None:
    """Health says what is down, liveness does not care, metrics count, and nothing keeps a request waiting."""
    worker = (
        '{"worker_id": "11111111-1111-4111-8111-111111111111", "name": "Ada", "email": "a@b.org", "role": "worker"}'
    )
    app.home.run("send", "workers.worker-registered.v1", "--data", worker)
    app.home.run("wait", "--settled")
    taken = 'payday_intake_records_total{group="payday.tasks",outcome="handled",topic="workers.events"}'
    assert app.metric(taken) == 1
    assert app.metric('payday_intake_records_total{group="payday.tasks",outcome="parked",topic="workers.events"}') == 0
    assert app.metric("payday_outbox_unsent") == 0
    assert app.metric("payday_build") == 1
    assert get(f"{app.url}/info")[1]["app"]["name"] == "payday"
    assert set(get(app.url)[1]["_links"]) >= {"health", "info", "prometheus"}
    assert get(f"{app.url}/health/nonsense")[0] == 404
    assert app.status_of("health/intake:payday.accounting") == (200, "UP")

    with closing(sqlite3.connect(app.home.directory / "payday.db", isolation_level=None)) as blocker:
        blocker.execute("BEGIN EXCLUSIVE")
        assert app.status_of("health/liveness") == (200, "UP")
        assert app.status_of("health")[0] == 200
        assert get(f"{app.url}/prometheus")[0] == 200
        blocker.execute("ROLLBACK")

    app.broker.kill()
    wait_until(lambda: app.status_of("health/kafka") == (503, "DOWN"), 20, lambda: str(get(f"{app.url}/health")))
    assert app.status_of("health") == (503, "DOWN")
    assert app.status_of("health/liveness") == (200, "UP")
    assert app.status_of("health/readiness") == (200, "UP")
    assert app.metric("payday_broker_up") == 0
    assert app.metric("payday_database_up") == 1


def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    """The error names the address and the setting, and nothing was started."""
    with closing(socket.socket()) as taken, Home(tmp_path) as home:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        home.start_broker()
        home.environment["PAYDAY_HTTP_PORT"] = str(port)
        process = home.start("run")
        assert process.wait(30) == 1
        assert f"127.0.0.1:{port}" in process.errors
        assert "PAYDAY_HTTP_PORT" in process.errors
        assert "Traceback" not in process.errors
