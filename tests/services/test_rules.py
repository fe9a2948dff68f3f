"""The rule of the missing service, what a run says at its end, and that nothing outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from tests.services.process import ServerProcess, ServerTrouble, Yard, wait_until
from tests.services.required import Verdict, verdict

ROOT = Path(__file__).parent.parent.parent
RUN_SECONDS = 60.0
GONE_SECONDS = 10.0  # a PostgreSQL whose data is gone ends by itself within a minute: that does not count
ASKS = """
def test_kafka(kafka): pass
def test_postgres(postgres): pass
"""
STARTS_AND_WAITS = """
import time
def test_it(services):
    server = services.own_postgres()
    print("pid", server.pid(), server._folder.parent, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("required", "expected"),
    [
        ("", Verdict.SKIP),
        ("postgres", Verdict.SKIP),
        ("kafkas", Verdict.SKIP),
        ("kafka", Verdict.FAIL),
        ("postgres, kafka", Verdict.FAIL),
    ],
)
def test_a_missing_service_fails_only_where_it_is_required(required: str, expected: Verdict) -> None:
    assert verdict("kafka", required) is expected


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder for tests of a pytest of its own, with the fixtures of the services."""
    (tmp_path / "conftest.py").write_text("pytest_plugins = ['tests.services.fixtures']\n")
    return tmp_path


def environment(**variables: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PAYDAY_", "PYTEST"))}
    return inherited | {"PYTHONPATH": str(ROOT), **variables}


def command(folder: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider", *options, str(folder)]


def run_where_nothing_is(folder: Path, tmp_path: Path, required: str, *options: str) -> str:
    """Ask for both services on a machine without Docker and Java, and without any PostgreSQL."""
    (folder / "test_it.py").write_text(ASKS)
    with (folder / "conftest.py").open("a") as conftest:
        conftest.write("from pathlib import Path\nfrom tests.services import postgres_local\n")
        conftest.write("postgres_local.WHEEL = 'no-such-wheel'\n")
        conftest.write("postgres_local.PACKAGED = Path('/no/such/folder')\n")
    variables = environment(PATH=str(tmp_path / "empty"), PAYDAY_TEST_REQUIRE=required)
    variables.pop("JAVA_HOME", None)
    return subprocess.run(
        command(folder, *options),
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    ).stdout


def test_a_run_without_services_skips_and_says_how_to_get_them(elsewhere: Path, tmp_path: Path) -> None:
    said = run_where_nothing_is(elsewhere, tmp_path, required="")
    assert "2 skipped" in said
    assert "no Kafka: no Java 17 or newer was found; install a Java runtime" in said
    assert "services: no Kafka: " in said
    assert "· no PostgreSQL: " in said


def test_a_run_without_a_required_service_fails(elsewhere: Path, tmp_path: Path) -> None:
    said = run_where_nothing_is(elsewhere, tmp_path, required="kafka")
    assert "1 skipped, 1 error" in said
    assert "set PAYDAY_TEST_KAFKA; see docs/contributing.md (PAYDAY_TEST_REQUIRE names kafka)" in said


def test_workers_of_a_parallel_run_hand_on_what_they_say(elsewhere: Path, tmp_path: Path) -> None:
    said = run_where_nothing_is(elsewhere, tmp_path, "", "-n1", "-p", "xdist")
    assert "services: no Kafka: " in said


def test_a_run_that_asks_for_nothing_says_nothing(elsewhere: Path) -> None:
    (elsewhere / "test_it.py").write_text("def test_it(): pass\n")
    ran = subprocess.run(
        command(elsewhere), cwd=elsewhere, env=environment(), capture_output=True, timeout=RUN_SECONDS, check=False
    )
    assert ran.returncode == 0
    assert b"services:" not in ran.stdout


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_interrupted_or_killed_leaves_no_server_and_no_files(
    services: object, own_postgres: object, elsewhere: Path, name: signal.Signals
) -> None:
    (elsewhere / "test_it.py").write_text(STARTS_AND_WAITS)
    output = elsewhere / "output"
    with output.open("wb") as said:
        run = subprocess.Popen(
            command(elsewhere, "-s"), cwd=elsewhere, env=environment(), stdout=said, stderr=said, start_new_session=True
        )
    wait_until(
        lambda: "pid " in output.read_text() and output.read_text().endswith("\n"), RUN_SECONDS, output.read_text
    )
    _, pid, folder = output.read_text().partition("pid ")[2].partition("\n")[0].join(("pid ", "")).split()
    server = psutil.Process(int(pid))
    run.send_signal(name)
    run.wait(RUN_SECONDS)
    wait_until(lambda: not server.is_running(), GONE_SECONDS, lambda: f"{server} still runs")
    wait_until(lambda: not Path(folder).exists(), GONE_SECONDS, lambda: f"{folder} is still there")


@pytest.fixture
def yard() -> Yard:
    return Yard()


def test_a_server_that_ends_at_its_start_shows_its_log(yard: Yard) -> None:
    server = ServerProcess("the server", ["sh", "-c", "echo no such setting; exit 1"], yard.directory / "log", yard)
    server.start()
    with pytest.raises(ServerTrouble, match=r"ended at its start\nno such setting"):
        server.wait_until(lambda: False, 10)
    yard.close()


def test_a_server_that_does_not_stop_in_order_is_killed_and_that_is_an_error(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.services.process.STOP_SECONDS", 0.3)
    command = ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"]
    server = ServerProcess("the server", command, yard.directory / "log", yard)
    server.start()
    server.wait_until(lambda: "ready" in server.said, 10)
    with pytest.raises(ServerTrouble, match="did not stop"):
        server.stop()
    assert not server.runs
    yard.close()


def test_a_child_of_a_server_is_killed_with_it(yard: Yard) -> None:
    server = ServerProcess("the server", ["sh", "-c", "sleep 60 & echo $!; wait"], yard.directory / "log", yard)
    server.start()
    server.wait_until(lambda: server.said.endswith("\n"), 10)
    child = psutil.Process(int(server.said))
    server.freeze()
    assert child.status() == psutil.STATUS_STOPPED
    server.kill()
    deadline = time.monotonic() + 10
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    yard.close()
