"""Processes that a measurement starts, and the one way in which it fails."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, Self

__all__ = ["ROOT", "START_SECONDS", "Child", "WrongResult"]

ROOT = Path(__file__).parent.parent
START_SECONDS = 90.0
"""A group may take a session time-out to form."""
END_SECONDS = 10.0


class WrongResult(Exception):
    """What was measured did not do the work, so its figures say nothing."""


class Child:
    """A process whose standard output is read line by line; it is ended, by its id, when the block ends."""

    def __init__(self, *arguments: str) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed with the block
        self._process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if not name.startswith("PAYDAY_")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()

    def line(self, timeout_seconds: float) -> str:
        """The next line of standard output.

        Raises:
            WrongResult: it did not come; the text has what the process said on standard error.
        """
        assert self._process.stdout is not None
        watchdog = threading.Timer(timeout_seconds, self._process.kill)
        watchdog.start()
        line = self._process.stdout.readline()
        watchdog.cancel()
        if not line:
            raise WrongResult(self.errors() or "it ended without a word")
        return line.strip()

    def expect(self, word: str, timeout_seconds: float = START_SECONDS) -> None:
        """Wait for a line.

        Raises:
            WrongResult: none came, or another.
        """
        if (line := self.line(timeout_seconds)) != word:
            raise WrongResult(f"{word!r} was to come, not {line!r}")

    def errors(self) -> str:
        """The end of what it said on standard error."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-3000:]
