"""The small app as a process of its own, whose handler may take the whole process with it.

Usage: python -m tests.integration.killer_process BOOTSTRAP_SERVERS DATABASE_URL
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog

from streams.intake.retries import Retries
from tests.integration.notes_app import LIMITS, echo, notes_app
from tests.integration.real.notes_process import SomeBroker

if TYPE_CHECKING:
    from streams.intake.batch import Batch
    from streams.intake.unit_of_work import UnitOfWork

SHORT_SESSION: dict[str, Any] = {"session_timeout_ms": 6000, "heartbeat_interval_ms": 1000}
MEMORY_BYTES = 8_000_000_000
RETRIES = Retries(first_delay_seconds=0.05)


async def handle(batch: Batch[Any], work: UnitOfWork) -> None:
    """`exit` ends the process as a crash in C would, `memory` takes more than there is, `late` ends it when retried."""
    for record in batch:
        match record.message.text:
            case "exit":
                os._exit(66)
            case "memory":
                raise AssertionError(f"there were {len(bytearray(2 * MEMORY_BYTES))} bytes")
            case "late" if record.parked is None:
                raise ValueError("not now")
            case "late":
                os._exit(66)
            case _:
                pass
    await echo(batch, work)


async def main(address: str, database_url: str) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, hard))
    limits = replace(LIMITS, max_records=20, crash_limit=2)
    broker = SomeBroker(address, "")
    async with notes_app(broker, database_url, handle, limits=limits, retries=RETRIES, **SHORT_SESSION):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(15, stopped.set)
        await stopped.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
