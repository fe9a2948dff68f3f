"""Services as processes of their own: one per combination of slices and settings, shared by the tests of a session.

    Exception
    └── transport.NotSettled
        └── ServiceEnded    the process is not there any more; the text has the end of what it said

Invariant: whatever was started is ended by `close`, each process by its own id, and every wait has a bound.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from streams.contract_kit.premises import Premises, make_premises
from streams.contract_kit.transport import NotSettled
from streams.contract_kit.wire_log import WireLog

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from sqlalchemy import Table

    from streams.contract_kit.premises import DatabaseServer, RealKafka

__all__ = ["LAUNCHER", "Service", "ServiceEnded", "Services", "Wanted"]

LAUNCHER = "streams.contract_kit.service"
"""The module that is run as the service."""
READY_SECONDS = 60.0
STOP_SECONDS = 20.0
LOOK_SECONDS = 0.01
SHOWN_CHARACTERS = 4000


class ServiceEnded(NotSettled):
    """The service's process has ended, or has not come up."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What tells services apart.

    Attributes:
        slices: that it runs.
        settings: names and values, as text, of what differs from the contract kit's usual settings.
        launcher: the module that is run.
    """

    slices: tuple[str, ...]
    settings: tuple[tuple[str, str], ...] = ()
    launcher: str = LAUNCHER


@dataclass(slots=True)
class Service:
    """A running process with topics and a database of its own. Made by `Services`.

    Attributes:
        wanted: what it is.
        premises: what it runs on.
        log: its topics.
        seeds: the rows of its database as the migrations left them, once they have been read.
    """

    wanted: Wanted
    premises: Premises
    log: WireLog
    _process: subprocess.Popen[bytes]
    _output: Path
    _errors: Path
    seeds: Mapping[Table, list[dict[str, Any]]] | None = None
    _ready: bool = field(default=False)

    @property
    def database_url(self) -> str:
        """Of its database."""
        return self.premises.database_url

    @property
    def topic_prefix(self) -> str:
        """What its topics begin with."""
        return self.premises.prefix

    @property
    def group_prefix(self) -> str:
        """What its groups begin with."""
        return self.premises.prefix

    @property
    def runs(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    @property
    def said(self) -> str:
        """The end of its standard error."""
        return self._errors.read_text(errors="replace")[-SHOWN_CHARACTERS:] or "nothing"

    def check(self) -> None:
        """Raise `ServiceEnded` if the process has."""
        if not self.runs:
            raise ServiceEnded(
                f"the service ({', '.join(self.wanted.slices)}) ended with {self._process.returncode}; it said:\n"
                f"{self.said}"
            )

    def wait_until_ready(self) -> None:
        """Wait until it has joined its groups.

        Raises:
            ServiceEnded: it ended, or did not come up in time.
        """
        deadline = time.monotonic() + READY_SECONDS
        while not self._ready:
            self._ready = self._output.read_text().startswith("ready\n")
            self.check()
            if time.monotonic() > deadline:
                raise ServiceEnded(f"the service is not ready after {READY_SECONDS:g} s; it said:\n{self.said}")
            time.sleep(LOOK_SECONDS)

    def ask_to_stop(self) -> None:
        """SIGTERM: finish what was begun."""
        if self.runs:
            self._process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """See it end, and give back its connections and what it ran on."""
        self.ask_to_stop()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self.log.close()
        self.premises.closing.close()


class Services:
    """The services of a session, started when they are first asked for and again after they have ended.

    Args:
        directory: where their homes are made.
        usual: the settings that every service has, by field name.
        kafka: that they share; None: each has an embedded broker.
        server: where each has a database; None: each has an SQLite file.
    """

    def __init__(
        self,
        directory: Path,
        usual: Mapping[str, str],
        kafka: RealKafka | None = None,
        server: DatabaseServer | None = None,
    ) -> None:
        self._directory = directory
        self._usual = dict(usual)
        self._kafka = kafka
        self._server = server
        self._services: dict[Wanted, Service] = {}
        self._started = 0

    def begin(self, all_wanted: Iterable[Wanted]) -> None:
        """Start some without waiting for them: joining a group for the first time takes seconds of idleness."""
        for wanted in all_wanted:
            if wanted not in self._services:
                self._services[wanted] = self._start(wanted)

    def get(self, wanted: Wanted) -> Service:
        """A service that is ready.

        Raises:
            ServiceEnded: it does not come up.
        """
        service = self._services.get(wanted)
        if service is None or (service.seeds is not None and not service.runs):
            self.discard(wanted)
            service = self._services[wanted] = self._start(wanted)
        service.wait_until_ready()
        return service

    def keep_only(self, all_wanted: Collection[Wanted]) -> None:
        """Stop the others, which nobody will ask for any more."""
        for wanted in [wanted for wanted in self._services if wanted not in all_wanted]:
            self.discard(wanted)

    def discard(self, wanted: Wanted) -> None:
        """Stop a service that can no longer be relied on."""
        if (service := self._services.pop(wanted, None)) is not None:
            service.close()

    def close(self) -> None:
        """Stop them all, at the same time."""
        for service in self._services.values():
            service.ask_to_stop()
        for wanted in list(self._services):
            self.discard(wanted)

    def _start(self, wanted: Wanted) -> Service:
        self._started += 1
        home = self._directory / f"service-{self._started}"
        home.mkdir()
        premises = make_premises(home, self._kafka, self._server)
        values = {
            **self._usual,
            "home": str(home),
            "kafka_bootstrap_servers": premises.bootstrap_servers,
            "database_url": premises.database_url,
            "topic_prefix": premises.prefix,
            "group_prefix": premises.prefix,
            **dict(wanted.settings),
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PAYDAY_")}
        inherited["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)  # finds what the tests find
        output, errors = home / "service.out", home / "service.err"
        with output.open("wb") as standard_output, errors.open("wb") as standard_error:
            process = subprocess.Popen(  # noqa: S603  our own interpreter
                [sys.executable, "-m", wanted.launcher, "run", "--only", ",".join((*wanted.slices, "relay"))],
                env=inherited | {f"PAYDAY_{name.upper()}": value for name, value in values.items()},
                stdin=subprocess.PIPE,
                stdout=standard_output,
                stderr=standard_error,
            )
        log = WireLog(premises.bootstrap_servers, premises.prefix)
        return Service(wanted, premises, log, process, output, errors)
