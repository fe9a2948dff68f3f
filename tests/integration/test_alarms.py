"""From a record that cannot be read to the webhook, once, across kill -9 and beside a second process."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer

from tests.integration.processes import Home, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def received() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A webhook's URL, and what was posted to it."""
    bodies: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/s3cret", bodies
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_dead_record_reaches_the_webhook_once(tmp_path: Path, received: tuple[str, list[dict[str, Any]]]) -> None:
    """The process that told is killed; the one after it knows, and the alarm is still shown."""
    url, bodies = received
    with Home(tmp_path, PAYDAY_ALARM_WEBHOOK_URL=url) as home:
        address = home.start_broker()
        app = home.start_app()
        producer = Producer({"bootstrap.servers": address})
        producer.produce("tasks.commands", key=b"k", value=b"\xff not json")
        assert producer.flush(10) == 0

        wait_until(lambda: bool(bodies) and "alarm raised" in app.errors, 40, lambda: f"{bodies}\n{app.said}")
        settled = "SELECT count(*) FROM alarm_notice WHERE told = 'raised'"
        wait_until(lambda: home.query(settled) == [(2,)], 10, lambda: app.said)
        app.kill()
        (alarm,) = home.run_json("status")["alarms"]
        again = home.start_app()
        assert again.stop() == 0

        assert (alarm["name"], alarm["subject"]) == ("dead-record", "payday.tasks/tasks.commands")
        assert [(body["event"], body["name"], body["detail"]) for body in bodies] == [
            ("raised", "dead-record", "dead records: 1")
        ]
        assert "alarm raised" not in again.errors
        assert "s3cret" not in app.errors + again.errors
