"""Server processes of the tests: started, killed, frozen, thawed, and never left behind.

Invariant: each server is watched by the watchdog from its start until it is gone, and stands in a session of its own,
so that a Ctrl-C in the terminal reaches pytest alone, which then ends its servers in order.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]

from tests.services.watchdog import kill_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Account", "ServerProcess", "ServerTrouble", "Yard", "free_port", "run_as", "wait_until"]

WATCHDOG = Path(__file__).with_name("watchdog.py")
STOP_SECONDS = 20.0
LOOK_SECONDS = 0.02
SHOWN_CHARACTERS = 3000
MEMORY = Path("/dev/shm")
MEMORY_BYTES = 1 << 30
PORTS = range(20_000, 32_000)
"""Below the ports that Linux gives to outgoing connections (32768 and up): nobody takes the port of a server that was
killed before it is started again."""


class ServerTrouble(AssertionError):
    """A server did not do what it was told; the text has the end of its log."""


class Yard:
    """Directories for the servers of one pytest process, and the watchdog over servers and directories.

    Everybody may pass through the directories: PostgreSQL refuses to run as root, and then runs as another user.
    """

    def __init__(self) -> None:
        self._watchdog = subprocess.Popen(
            [sys.executable, str(WATCHDOG)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._directories: list[Path] = []
        self.directory = self._make_directory(None)

    @cached_property
    def memory_directory(self) -> Path | None:
        """As `directory`, in the machine's memory; None where there is no room for it."""
        if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= MEMORY_BYTES:
            return self._make_directory(MEMORY)
        return None

    def watch(self, pid: int) -> None:
        """From now on this process ends with pytest."""
        self._tell({"watch": pid})

    def forget(self, pid: int) -> None:
        """It has ended."""
        self._tell({"forget": pid})

    def folder(self, name: str, *, in_memory: bool = False) -> Path:
        """A new folder, in memory only where there is room."""
        directory = self.memory_directory if in_memory else None
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=directory or self.directory))
        folder.chmod(0o711)
        return folder

    def close(self) -> None:
        """Let the watchdog end what is left, and remove the directories."""
        assert self._watchdog.stdin is not None, "it was opened with a pipe"
        self._watchdog.stdin.close()
        self._watchdog.wait(STOP_SECONDS)
        for directory in self._directories:
            shutil.rmtree(directory, ignore_errors=True)

    def _make_directory(self, place: Path | None) -> Path:
        directory = Path(tempfile.mkdtemp(prefix="payday-services-", dir=place))
        self._directories.append(directory)
        self._tell({"directory": str(directory)})
        directory.chmod(0o711)
        return directory

    def _tell(self, message: dict[str, object]) -> None:
        assert self._watchdog.stdin is not None, "it was opened with a pipe"
        self._watchdog.stdin.write(json.dumps(message).encode() + b"\n")
        self._watchdog.stdin.flush()


class Account:
    """A user of the machine, for a server that does not run as root.

    Args:
        uid: its number.
        gid: its group's number.
    """

    def __init__(self, uid: int, gid: int) -> None:
        self.uid = uid
        self.gid = gid

    def own(self, path: Path) -> None:
        """Give a file or folder to it."""
        os.chown(path, self.uid, self.gid)


class ServerProcess:
    """One server that can be started again with the same command.

    Args:
        name: for messages.
        command: what is run; it must stay in the foreground.
        log: the file for what it says; grows over restarts.
        yard: where it is watched.
        account: as whom it runs; None is as the tests.
        stop_signal: what makes it end in order.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        yard: Yard,
        *,
        account: Account | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self._command = list(command)
        self._log = log
        self._yard = yard
        self._account = account
        self._stop_signal = stop_signal
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id.

        Raises:
            ServerTrouble: it does not run.
        """
        if self._process is None or not self.runs:
            raise ServerTrouble(f"{self.name} does not run\n{self.said}")
        return self._process.pid

    @property
    def said(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-SHOWN_CHARACTERS:] if self._log.exists() else ""

    @property
    def resident_bytes(self) -> int:
        """The memory of the process and its children; shared pages count once for each."""
        return sum(one.memory_info().rss for one in self._family())

    def start(self) -> None:
        """Start it; it is not ready yet when this returns."""
        assert not self.runs, f"{self.name} runs already"
        account = self._account
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._log.parent,
                start_new_session=True,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
            )
        self._yard.watch(self._process.pid)

    def kill(self) -> None:
        """SIGKILL to it and its children, frozen or not; returns when they are gone."""
        process = psutil.Process(self.pid)
        kill_tree(process)
        self._ended()

    def freeze(self) -> None:
        """SIGSTOP: it keeps its connections and answers nobody. Returns when all of it has stopped."""
        for one in self._family():  # the parent first, so that it starts no more children
            with suppress(psutil.NoSuchProcess):
                one.suspend()
        wait_until(
            lambda: all(_status(one) in {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE} for one in self._family()),
            STOP_SECONDS,
            lambda: f"{self.name} did not freeze",
        )

    def thaw(self) -> None:
        """SIGCONT: it goes on where it was."""
        for one in reversed(self._family()):
            with suppress(psutil.NoSuchProcess):
                one.resume()

    def stop(self) -> None:
        """End it in order; what does not end in time is killed.

        Raises:
            ServerTrouble: it had to be killed.
        """
        if self._process is None or not self.runs:
            return
        self.thaw()
        self._process.send_signal(self._stop_signal)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServerTrouble(f"{self.name} did not stop within {STOP_SECONDS:g} s\n{self.said}") from None
        self._ended()

    def discard(self) -> None:
        """Kill it if it runs: nobody needs its data any more."""
        if self.runs:
            self.kill()

    def wait_until(self, condition: Callable[[], bool], timeout_seconds: float) -> None:
        """Look every few milliseconds until a condition of this server holds.

        Raises:
            ServerTrouble: it ended, or the condition did not hold in time.
        """
        wait_until(
            lambda: condition() or not self.runs, timeout_seconds, lambda: f"{self.name} is not ready\n{self.said}"
        )
        if not self.runs:
            raise ServerTrouble(f"{self.name} ended at its start\n{self.said}")

    def _family(self) -> list[psutil.Process]:
        parent = psutil.Process(self.pid)
        return [parent, *parent.children(recursive=True)]

    def _ended(self) -> None:
        assert self._process is not None, "it was started"
        self._process.wait(STOP_SECONDS)
        self._yard.forget(self._process.pid)


def _status(process: psutil.Process) -> str:
    try:
        return str(process.status())
    except psutil.NoSuchProcess:
        return str(psutil.STATUS_ZOMBIE)


def run_as(
    account: Account | None, command: Sequence[str | Path], directory: Path, timeout_seconds: float
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end.

    Raises:
        OSError, subprocess.SubprocessError: it cannot be run, or does not end in time.
    """
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        check=False,
        cwd=directory,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )


def free_port() -> int:
    """A loopback port that nobody listens on."""
    for port in random.sample(PORTS, 100):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise ServerTrouble("no loopback port is free")


def wait_until(condition: Callable[[], bool], timeout_seconds: float, described: Callable[[], str]) -> None:
    """Look every few milliseconds until a condition holds.

    Raises:
        ServerTrouble: it did not in time; `described` says how things stand.
    """
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() >= deadline:
            raise ServerTrouble(f"not within {timeout_seconds:g} s: {described()}")
        time.sleep(LOOK_SECONDS)
