"""`payday broker` and `payday run` as processes: what they print, what they refuse, and how they stop."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from streams.embedded.broker import LIMITS
from tests.integration.processes import PAYDAY, Home, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOWHERE = "127.0.0.1:1"
WITHOUT_ROOTS_RIGHTS = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
"""Root writes into read-only files; without these capabilities it is a user like any other."""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home(tmp_path) as home:
        yield home


def workers(count: int) -> bytes:
    """Lines that register so many workers."""
    lines = (
        {
            "type": "workers.worker-registered.v1",
            "data": {"worker_id": str(uuid4()), "name": "A", "email": "a@b.c", "role": "worker"},
        }
        for _ in range(count)
    )
    return "\n".join(map(json.dumps, lines)).encode()


def test_a_broker_says_its_address_and_stops_cleanly(home: Home) -> None:
    """The address is the first line, the limits are stated, and nothing is left behind for others to find."""
    broker = home.start("broker")
    address = broker.wait_for_first_line(30)
    assert (home.directory / "broker.address").read_text().strip() == address
    wait_until(lambda: LIMITS in broker.errors, 5, lambda: broker.said)
    assert broker.stop() == 0
    assert broker.output == address + "\n"
    assert not (home.directory / "broker.address").exists()


def test_a_home_has_one_broker(home: Home) -> None:
    """A second one is refused while the first lives, and welcome after it was killed."""
    first = home.start("broker")
    first.wait_for_first_line(30)
    second = home.start("broker")
    assert second.wait(30) == 1
    assert "runs already: use that one, or give another --home" in second.errors
    assert second.errors.count("\n") == 1
    first.kill()
    assert home.start("broker").wait_for_first_line(30)


def test_a_broker_that_another_program_embeds_is_found_out(home: Home) -> None:
    """It has no lock, but it answers at the address."""
    other = (
        "import sys, time, pathlib; from streams.embedded.broker import EmbeddedBroker; "
        "broker = EmbeddedBroker(['t'], pathlib.Path(sys.argv[1])); time.sleep(60)"
    )
    file = home.directory / "broker.address"
    with subprocess.Popen([sys.executable, "-c", other, str(file)], env=home.environment) as process:
        try:
            wait_until(file.exists, 30, lambda: "no address")
            second = home.start("broker")
            assert second.wait(30) == 1
            assert f"runs at {file.read_text().strip()} already" in second.errors
        finally:
            process.kill()


def test_the_app_says_ready_and_drains(home: Home) -> None:
    """A line when it has joined, one each on the embedded broker and the missing bank, exit code 0 after SIGTERM."""
    home.start_broker()
    app = home.start_app()
    assert app.errors.count(LIMITS) == 1
    home.run("send", "--file", "-", given=workers(50))
    home.run("wait", "--settled")
    started = time.monotonic()
    assert app.stop() == 0, app.said
    assert time.monotonic() - started < 20
    assert app.output == "ready\n"
    assert "payouts are reserved but not sent: PAYDAY_BANK_URL is not set" in app.errors
    assert app.errors.count("\n") == 2, app.errors


def test_the_app_stops_while_it_is_starting(home: Home) -> None:
    """There is nothing to drain yet: it leaves with 0, whatever it was about to do."""
    home.start_broker()
    app = home.start("run")
    time.sleep(0.5)
    assert app.stop() == 0, app.said
    assert "Traceback" not in app.errors


def test_a_second_signal_ends_it_at_once(home: Home) -> None:
    """Somebody who presses Ctrl-C twice does not want to wait."""
    home.start_broker()
    app = home.start_app()
    os.kill(app._process.pid, signal.SIGSTOP)
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(app._process.pid, number)
    os.kill(app._process.pid, signal.SIGCONT)
    assert app.wait(10) in {128 + signal.SIGTERM, 128 + signal.SIGINT}, app.said


def test_the_relay_alone_is_ready_at_once(home: Home) -> None:
    """It joins no group."""
    home.start_broker()
    app = home.start("run", "--only", "relay")
    started = time.monotonic()
    assert app.wait_for_first_line(20) == "ready"
    assert time.monotonic() - started < 10
    assert app.stop() == 0


def test_a_broker_that_does_not_answer_is_an_outage(tmp_path: Path) -> None:
    """One line says so, the app goes on trying without saying it is ready, and it stops as always."""
    with Home(tmp_path, PAYDAY_KAFKA_BOOTSTRAP_SERVERS=NOWHERE) as home:
        app = home.start("run")
        wait_until(lambda: "trying until it does" in app.errors, 30, lambda: app.said)
        time.sleep(2)
        assert app.runs
        assert app.stop() == 0, app.said
        assert app.output == ""
        assert app.errors.count("\n") == 1, app.errors


def test_the_app_says_when_the_embedded_broker_has_moved(home: Home) -> None:
    """Started anew it has another port, which a running app cannot follow."""
    broker = home.start("broker")
    broker.wait_for_first_line(30)
    app = home.start_app()
    broker.kill()
    address = home.start_broker()
    wait_until(lambda: f"is at {address} now: restart this" in app.errors, 40, lambda: app.said)
    assert app.stop() == 0, app.said


def test_a_read_only_database_is_refused(tmp_path: Path, database_file: Path) -> None:
    """The app finds out at its start rather than with the first message."""
    command = [str(PAYDAY), "run"]
    if os.geteuid() == 0:
        if shutil.which(WITHOUT_ROOTS_RIGHTS[0]) is None:
            pytest.skip("root writes into read-only files, and there is no setpriv to prevent it")
        command = [*WITHOUT_ROOTS_RIGHTS, *command]
    database_file.chmod(0o444)
    environment = Home(tmp_path, PAYDAY_KAFKA_BOOTSTRAP_SERVERS=NOWHERE).environment
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done
    assert "payday.db is read-only; its file and folder must be writable" in done.stderr
    assert done.stderr.count("\n") == 1


def test_progress_in_a_broker_that_is_gone_is_none(home: Home) -> None:
    """The embedded broker starts anew with as many records as were read before: that is not settled yet."""
    messages = workers(40)
    broker = home.start("broker")
    broker.wait_for_first_line(30)
    app = home.start_app()
    home.run("send", "--file", "-", given=messages)
    home.run("wait", "--settled")
    assert app.stop() == 0
    assert broker.stop() == 0

    home.start_broker()
    home.run("send", "--file", "-", given=messages)
    waiting = home.start("wait", "--settled", "--timeout", "2")
    assert waiting.wait(30) == 1, waiting.said
    assert "payday.tasks has 40 records to read" in waiting.errors
    assert home.run_json("status")["groups"]["payday.tasks"]["lag"] == 40
    home.start_app()
    home.run("wait", "--settled")
    assert home.run_json("status")["groups"]["payday.tasks"]["consumed"] == 80


def test_the_start_is_fast(home: Home) -> None:
    """`payday --help` imports nothing that it does not need."""
    code = (
        "import sys, streams.cli.main; "
        "heavy = {'sqlalchemy', 'faststream', 'pydantic', 'confluent_kafka', 'rich'} & sys.modules.keys(); "
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], env=home.environment, check=True, timeout=60)


def test_what_kafka_does_not_take_is_stored_and_goes_out_later(home: Home) -> None:
    """`send` says so and is done; the app's relay publishes it once both run."""
    home.run("db", "upgrade")
    home.environment["PAYDAY_KAFKA_BOOTSTRAP_SERVERS"] = NOWHERE
    said = home.run("send", "--file", "-", "--deliver-within", "0.5", "--json", given=workers(7))
    sent = json.loads(said)
    assert (sent["sent"], sent["stored"], sent["skipped"], len(sent["ids"])) == (0, 7, 0, 7)
    del home.environment["PAYDAY_KAFKA_BOOTSTRAP_SERVERS"]
    status = home.run_json("outbox", "status")
    assert (status["unsent"], status["breaker"]) == (7, None)
    assert [one["type"] for one in home.run_json("outbox", "list", "--limit", "2")] == [
        "workers.worker-registered.v1",
        "workers.worker-registered.v1",
    ]
    home.start_broker()
    home.start_app()
    home.run("wait", "--settled")
    status = home.run_json("status")
    assert (status["unsent"], status["breaker"]) == (0, "closed")
    assert status["groups"]["payday.accounting"]["handled"] == 7
