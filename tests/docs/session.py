"""A shell session in a temporary home that runs the blocks of one page.

Invariant: whatever was started is ended when the session is left, by its own process group, and every wait has a bound.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from tests.docs.pages import ROOT, PageTrouble

if TYPE_CHECKING:
    from tests.docs.pages import Block

__all__ = ["Session"]

BIN = Path(sys.executable).parent
VENV = re.compile(r"(\$PWD/)?\.venv/bin")
BLOCK_SECONDS = 60.0
FIRST_LINE_SECONDS = 60.0
STOP_SECONDS = 25.0
LOOK_SECONDS = 0.02
SHOWN_CHARACTERS = 4000
SERVICES = {"broker": f"{BIN}/payday broker\n", "app": f"{BIN}/payday run\n"}


class Session:
    """Runs blocks as a reader would in one terminal, and those in the background each in another.

    Args:
        directory: an empty one.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._variables = directory / "variables.sh"
        self._variables.write_text("")
        self._ports = {"8080": _free_port(), "8090": _free_port()}
        self._processes: list[subprocess.Popen[bytes]] = []
        self._serving: set[str] = set()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PAYDAY_")}
        path = [part for part in inherited.get("PATH", os.defpath).split(":") if Path(part) != BIN]
        self._environment = inherited | {"PATH": ":".join(path), "PAYDAY_HOME": str(directory / "home")}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        for process in reversed(self._processes):
            _end(process)

    def run(self, block: Block) -> None:
        """Run a block.

        Raises:
            PageTrouble: it did not do what its marker says.
        """
        for service in block.needs:
            if service not in self._serving:
                self._serving.add(service)
                self._background(f"{block.where} needs {service}", SERVICES[service])
        # The home of the page first: the repository itself may lie under /tmp.
        text = VENV.sub(str(BIN), block.text.replace("/tmp/", f"{self._directory}/"))
        for port, free in self._ports.items():
            text = text.replace(port, free)
        if block.background:
            self._background(block.where, text)
        else:
            self._foreground(block, text)

    def _foreground(self, block: Block, text: str) -> None:
        remember = f"trap 'export -p >{self._variables}' EXIT\n"
        with (self._directory / "out").open("wb+") as output:
            process = self._popen(remember + text, output)
            try:
                code = process.wait(BLOCK_SECONDS)
            except subprocess.TimeoutExpired:
                _end(process)
                code = None
            if code != block.exit_code:
                output.seek(0)
                said = output.read().decode(errors="replace")[-SHOWN_CHARACTERS:]
                what = f"ran longer than {BLOCK_SECONDS:g} s" if code is None else f"exited with {code}"
                raise PageTrouble(f"{block.where}: {what}, not with {block.exit_code}\n{block.text}---\n{said}")

    def _background(self, where: str, text: str) -> None:
        number = len(self._processes)
        output, errors = self._directory / f"{number}.out", self._directory / f"{number}.err"
        with output.open("wb") as to_output, errors.open("wb") as to_errors:
            process = self._popen(text, to_output, to_errors)
        self._processes.append(process)
        deadline = time.monotonic() + FIRST_LINE_SECONDS
        while b"\n" not in output.read_bytes():
            if process.poll() is not None or time.monotonic() >= deadline:
                said = (output.read_text() + errors.read_text())[-SHOWN_CHARACTERS:]
                raise PageTrouble(
                    f"{where}: no line on standard output, exit code {process.returncode}\n{text}---\n{said}"
                )
            time.sleep(LOOK_SECONDS)

    def _popen(
        self, text: str, output: IO[bytes], errors: IO[bytes] | int = subprocess.STDOUT
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["bash", "-c", f"set -euo pipefail\n. {self._variables}\n{text}"],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to what was started and to what that has started; SIGKILL to what does not end."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + STOP_SECONDS
        with contextlib.suppress(ProcessLookupError):  # the whole group has ended
            os.killpg(process.pid, number)
            while time.monotonic() < deadline:
                process.poll()
                os.killpg(process.pid, 0)
                time.sleep(LOOK_SECONDS)
            continue
        return


def _free_port() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])
