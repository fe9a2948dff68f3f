"""SIGTERM and SIGINT for commands that run until they are told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["STOP_SIGNALS", "StopSignals", "leave_at_once", "leave_cleanly_when_stopped"]

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def leave_cleanly_when_stopped() -> None:
    """Until the work has begun there is nothing to drain: stopping is simply leaving, also during the imports."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        sys.exit(0)

    for number in STOP_SIGNALS:
        signal.signal(number, leave)


def leave_at_once(code: int) -> NoReturn:
    """End the process now, without waiting for its threads."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class StopSignals:
    """The first signal asks to stop, the second ends the process at once. Use it on a running loop."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._received, number)

    @property
    def asked(self) -> bool:
        """Whether somebody asked to stop."""
        return self._asked.is_set()

    async def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait to be asked; whether that happened within the time."""
        try:
            await asyncio.wait_for(self._asked.wait(), timeout_seconds)
        except TimeoutError:
            return False
        return True

    def _received(self, number: signal.Signals) -> None:
        if self._asked.is_set():
            leave_at_once(128 + number)
        self._asked.set()
