"""Payday as it runs for longer: prints `ready`, goes on until standard input ends."""

from __future__ import annotations

import asyncio
import sys

from benchmarks.app_variant import ask_often, quiet_logs, settings_of, until_consumed
from benchmarks.contestant import Assignment, read_assignment, report_ready
from benchmarks.workload import WORKERS
from streams.app import compose, tune_garbage_collection


async def serve(assignment: Assignment) -> None:
    """Run until standard input ends."""
    ask_often()
    payday = compose(settings_of(assignment))
    await payday.app.start()
    tune_garbage_collection()
    await until_consumed(assignment, 2 * WORKERS, 0)
    report_ready()
    await asyncio.to_thread(sys.stdin.read)
    await payday.app.stop()


if __name__ == "__main__":
    quiet_logs()
    asyncio.run(serve(read_assignment()))
