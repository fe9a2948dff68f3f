"""What sinks say, and that the webhook's address stays secret."""

from __future__ import annotations

import json
import logging
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from streams.alarms.kinds import DATABASE_DOWN, DEAD_RECORD, KINDS
from streams.alarms.notices import Event, Notice
from streams.alarms.sinks import LogSink, log_at_once
from streams.alarms.webhook import NotTaken, WebhookSink
from streams.settings import SettingsError, load_settings
from tests.docs.test_pages import anchors
from tests.kit import rows
from tests.unit.alarms.rig import Clock, Rig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streams.storage.database import Database

NOTICE = Notice(
    7, Event.RAISED, "dead-record", "g/t", "critical", "dead records: 1", 1_700_000_000_123, 1_700_000_001_000, None, 3
)


class Receiver:
    """A real HTTP server on loopback."""

    def __init__(self) -> None:
        self.status = 204
        self.bodies: list[dict[str, Any]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if receiver.status < 300:
                    receiver.bodies.append(body)
                self.send_response(receiver.status)
                self.send_header("location", "http://127.0.0.1:1/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook/s3cret"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.mark.parametrize(
    ("event", "severity", "level"),
    [
        (Event.RAISED, "critical", "error"),
        (Event.REPEATED, "warning", "warning"),
        (Event.CLEARED, "critical", "warning"),
    ],
)
async def test_the_log_gets_the_severity_as_its_level(event: Event, severity: str, level: str) -> None:
    with capture_logs() as logs:
        await LogSink().notify(Notice(1, event, "fire", "house", severity, "hot", 1, 1, None, 1))
    (line,) = logs
    assert (line["log_level"], line["event"], line["alarm"], line["subject"]) == (
        level,
        f"alarm {event.value}",
        "fire",
        "house",
    )


def test_what_cannot_be_durable_is_logged_at_once() -> None:
    with capture_logs() as logs:
        log_at_once(DATABASE_DOWN, Event.RAISED, "sqlite", "gone")
    assert [(one["alarm"], one["log_level"], one["runbook"]) for one in logs] == [
        ("database-down", "error", "docs/operations.md#the-database-is-down")
    ]


async def test_the_webhook_gets_a_document_that_says_everything(receiver: Receiver) -> None:
    sink = WebhookSink(receiver.url, KINDS, app="payday")
    await sink.notify(NOTICE)
    await sink.close()
    assert receiver.bodies == [
        {
            "id": "7-3",
            "event": "raised",
            "name": "dead-record",
            "subject": "g/t",
            "severity": "critical",
            "detail": "dead records: 1",
            "meaning": DEAD_RECORD.meaning,
            "runbook": "docs/operations.md#parked-records-appear",
            "raised_at": "2023-11-14T22:13:20.123Z",
            "last_seen_at": "2023-11-14T22:13:21.000Z",
            "cleared_at": None,
            "number": 3,
            "app": "payday",
        }
    ]


@pytest.mark.parametrize("status", [302, 400, 500])
async def test_anything_but_2xx_is_not_taken(receiver: Receiver, status: int) -> None:
    receiver.status = status
    sink = WebhookSink(receiver.url, KINDS)
    with pytest.raises(NotTaken, match=str(status)):
        await sink.notify(NOTICE)
    await sink.close()


async def test_a_webhook_that_is_down_is_told_once_it_is_up(database: Database, receiver: Receiver) -> None:
    clock = Clock()
    sink = WebhookSink(receiver.url, KINDS)
    rig = Rig(database, clock, sink)
    await rig.raises()
    receiver.status = 503
    await rig.tell()
    assert await rows(database, "SELECT failures, error FROM alarm_notice") == [(1, "the webhook answered 503")]
    receiver.status = 200
    await rig.clears()
    assert await rig.tell() == 0, "after a failure it waits, whatever happens meanwhile"
    clock.pass_seconds(2)
    await rig.tell()
    await sink.close()
    assert [(body["event"], body["number"]) for body in receiver.bodies] == [("cleared", 1)]


async def test_the_address_stands_in_no_error_and_no_log_line(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    sink = WebhookSink(receiver.url, KINDS)
    await sink.notify(NOTICE)
    await sink.close()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = WebhookSink(f"http://127.0.0.1:{free.getsockname()[1]}/s3cret", KINDS)
        with pytest.raises(NotTaken) as error:
            await nobody.notify(NOTICE)
        await nobody.close()
    assert "s3cret" not in f"{error.value}{error.value.__cause__}{caplog.text}"
    with pytest.raises(SettingsError) as problem:
        load_settings(alarm_webhook_url="ftp://host/s3cret")
    assert "PAYDAY_ALARM_WEBHOOK_URL" in str(problem.value)
    assert "s3cret" not in str(problem.value)


def test_every_kind_has_a_runbook_and_a_name_of_its_own() -> None:
    known = anchors(Path(__file__).parents[3] / "docs" / "operations.md")
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    assert [kind.name for kind in KINDS if kind.anchor not in known] == []
