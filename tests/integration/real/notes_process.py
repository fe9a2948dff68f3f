"""The small app as a process of its own, which freezes in the middle of a batch.

Usage: python -m tests.integration.real.notes_process BOOTSTRAP_SERVERS PREFIX DATABASE_URL PLACE NUMBER

At the first note whose number is not below NUMBER it freezes: PLACE is `transaction` or `decoding`, which is before it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import structlog

from tests.integration.notes_app import echo, notes_app
from tests.kit import Note, NoteCatalog

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.intake.batch import Batch
    from streams.intake.unit_of_work import UnitOfWork

SHORT_SESSION: dict[str, Any] = {"session_timeout_ms": 6000, "heartbeat_interval_ms": 2000}
"""Kafka allows no shorter one unless its operator does (`group.min.session.timeout.ms`)."""


class SomeBroker:
    """Where somebody else has made the topic."""

    def __init__(self, address: str, prefix: str) -> None:
        self.address = address
        self.prefix = prefix

    def start_anew(self) -> None:
        raise NotImplementedError


class Sleeper:
    """Freezes the process, once."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._has_slept = False

    def look_at(self, note: Note) -> None:
        if not self._has_slept and int(note.text) >= self._number:
            self._has_slept = True
            os.kill(os.getpid(), signal.SIGSTOP)


class SleepyCatalog(NoteCatalog):
    """Freezes while it decodes."""

    def __init__(self, sleeper: Sleeper) -> None:
        self._sleeper = sleeper

    def decoder(self, type_name: str) -> Callable[[bytes], Note] | None:
        read = super().decoder(type_name)

        def decode(value: bytes) -> Note:
            assert read is not None, "the tests send notes"
            note = read(value)
            self._sleeper.look_at(note)
            return note

        return decode


async def main(address: str, prefix: str, database_url: str, place: str, number: str) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    sleeper = Sleeper(int(number))

    async def handle(batch: Batch[Any], work: UnitOfWork) -> None:
        await echo(batch, work)
        for record in batch:
            if place == "transaction":
                sleeper.look_at(record.message)

    options = SHORT_SESSION | ({"catalog": SleepyCatalog(sleeper)} if place == "decoding" else {})
    async with notes_app(SomeBroker(address, prefix), database_url, handle, **options):
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
        await stopped.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
