"""Real processes for tests: the command line as a user runs it, in a home of its own.

Invariant: whatever was started is ended when its home is left, each by its own process id, and every wait has a bound.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import asyncpg  # type: ignore[import-untyped]
import psutil  # type: ignore[import-untyped]
from sqlalchemy.engine import make_url

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent.parent
PAYDAY = Path(sys.executable).parent / "payday"
LOOK_SECONDS = 0.02
STOP_SECONDS = 25.0
VIEW_SECONDS = 30.0
SHOWN_CHARACTERS = 4000


class ProcessTrouble(AssertionError):
    """A process did not do what it was started for; the text has what it said."""


class RunningProcess:
    """A process whose output goes to files, so that it never waits for a reader.

    Args:
        name: for messages.
        command: what is run, from the root of the repository.
        environment: all of it.
        directory: where the output goes.
        given: what it reads on standard input.
    """

    def __init__(
        self, name: str, command: list[str], environment: dict[str, str], directory: Path, given: bytes = b""
    ) -> None:
        self.name = name
        self._output = directory / f"{name}.out"
        self._errors = directory / f"{name}.err"
        standard_input = directory / f"{name}.in"
        standard_input.write_bytes(given)
        with standard_input.open("rb") as source, self._output.open("wb") as output, self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=source, stdout=output, stderr=errors
            )

    @property
    def output(self) -> str:
        """Its standard output so far."""
        return self._output.read_text()

    @property
    def errors(self) -> str:
        """Its standard error so far."""
        return self._errors.read_text()

    @property
    def said(self) -> str:
        """The end of all it has said, for a failure's message."""
        return f"--- {self.name}\n{self.output[-SHOWN_CHARACTERS:]}{self.errors[-SHOWN_CHARACTERS:]}"

    @property
    def is_frozen(self) -> bool:
        """Whether it has been stopped by SIGSTOP."""
        return bool(psutil.Process(self._process.pid).status() == psutil.STATUS_STOPPED)

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def wait_for_first_line(self, timeout_seconds: float) -> str:
        """The first line of standard output.

        Raises:
            ProcessTrouble: it ended, or said nothing in time.
        """
        wait_until(lambda: "\n" in self.output or not self.runs, timeout_seconds, lambda: self.said)
        if "\n" not in self.output:
            raise ProcessTrouble(f"it ended with {self._process.returncode}\n{self.said}")
        return self.output.partition("\n")[0]

    def wait(self, timeout_seconds: float) -> int:
        """Its exit code.

        Raises:
            ProcessTrouble: it did not end in time.
        """
        try:
            return self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            raise ProcessTrouble(f"still running after {timeout_seconds:g} s\n{self.said}") from None

    def kill(self) -> None:
        """SIGKILL: no chance to finish anything."""
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """SIGSTOP: it keeps its connections and does nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: it goes on where it was."""
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> int:
        """SIGTERM; its exit code. What does not end in time is killed."""
        if self.runs:
            self.thaw()
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        return self._process.returncode


class PostgresView:
    """A connection that cannot change anything, kept open on a thread of its own.

    Args:
        url: SQLAlchemy's.
    """

    def __init__(self, url: str) -> None:
        self._url = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="postgres-view")
        self._runner = asyncio.Runner()
        self._connection: asyncpg.Connection | None = None

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a SELECT."""
        return self._thread.submit(self._runner.run, self._fetch(sql)).result(VIEW_SECONDS)

    def close(self) -> None:
        """Give back the connection and its thread."""
        if self._connection is not None:
            self._connection.terminate()
        self._thread.submit(self._runner.close).result(VIEW_SECONDS)
        self._thread.shutdown()

    async def _fetch(self, sql: str) -> list[tuple[Any, ...]]:
        if self._connection is None:
            settings = {"default_transaction_read_only": "on"}
            self._connection = await asyncpg.connect(self._url, server_settings=settings)
        return [tuple(row) for row in await self._connection.fetch(sql)]


class Home:
    """A PAYDAY_HOME and the processes that run in it. Leaving it ends them, the youngest first.

    Args:
        directory: an empty one.
        settings: `PAYDAY_*` variables; those of the environment are not inherited.
    """

    def __init__(self, directory: Path, **settings: str) -> None:
        self.directory = directory
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PAYDAY_")}
        self.environment = inherited | {"PAYDAY_HOME": str(directory), **settings}
        self._started: list[RunningProcess] = []
        self._postgres: PostgresView | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        for process in reversed(self._started):
            process.stop()
        if self._postgres is not None:
            self._postgres.close()
        for process in self._started:
            sys.stderr.write(process.said)  # pytest shows it where a test has failed

    def start(self, *arguments: str, given: bytes = b"") -> RunningProcess:
        """Start `payday` with these arguments in the background, `given` on its standard input."""
        name = f"{len(self._started):02}-{arguments[0]}"
        process = RunningProcess(name, [str(PAYDAY), *arguments], self.environment, self.directory, given)
        self._started.append(process)
        return process

    def start_broker(self) -> str:
        """`payday broker`; its address."""
        return self.start("broker").wait_for_first_line(30)

    def start_app(self, timeout_seconds: float = 60) -> RunningProcess:
        """`payday run`, once it is ready."""
        app = self.start("run")
        line = app.wait_for_first_line(timeout_seconds)
        assert line == "ready", app.said
        return app

    def run(self, *arguments: str, timeout_seconds: float = 60, given: bytes = b"") -> str:
        """`payday` with these arguments to its end; its standard output.

        Raises:
            ProcessTrouble: it did not exit with 0, or not in time.
        """
        process = self.start(*arguments, given=given)
        code = process.wait(timeout_seconds)
        if code != 0:
            raise ProcessTrouble(f"payday {' '.join(arguments)} exited with {code}\n{process.said}")
        return process.output

    def run_json(self, *arguments: str, timeout_seconds: float = 60) -> Any:
        """As `run`; what it printed, read as JSON."""
        return json.loads(self.run(*arguments, "--json", timeout_seconds=timeout_seconds))

    @property
    def bootstrap_servers(self) -> str:
        """Where this home's Kafka is."""
        named = self.environment.get("PAYDAY_KAFKA_BOOTSTRAP_SERVERS")
        return named or (self.directory / "broker.address").read_text().strip()

    @property
    def topic_prefix(self) -> str:
        """What its topics begin with."""
        return self.environment.get("PAYDAY_TOPIC_PREFIX", "")

    @property
    def group_prefix(self) -> str:
        """What its groups begin with."""
        return self.environment.get("PAYDAY_GROUP_PREFIX", "payday.")

    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Look into the database beside the running app, without being able to change it."""
        if (url := self.environment.get("PAYDAY_DATABASE_URL", "")).startswith("postgresql"):
            assert not parameters, "their marks differ between the databases"
            if self._postgres is None:
                self._postgres = PostgresView(url)
            return self._postgres.query(sql)
        with closing(sqlite3.connect(f"file:{self.directory / 'payday.db'}?mode=ro", uri=True, timeout=5)) as database:
            return database.execute(sql, parameters).fetchall()


def wait_until(condition: Callable[[], bool], timeout_seconds: float, described: Callable[[], str]) -> None:
    """Look every few milliseconds until a condition holds.

    Raises:
        ProcessTrouble: it did not in time; `described` says how things stand.
    """
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() >= deadline:
            raise ProcessTrouble(f"not within {timeout_seconds:g} s\n{described()}")
        time.sleep(LOOK_SECONDS)
