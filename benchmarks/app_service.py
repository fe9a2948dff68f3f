"""Payday as it runs for longer: prints `ready`, goes on until standard input ends.

Its consumers ask an idle broker every few milliseconds: librdkafka's mock cluster answers an empty fetch only when the
whole `fetch.wait.max.ms` (500 by default) is over, where Kafka answers as soon as a record comes. Without that the
latency would be the mock's.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

from benchmarks.app_variant import quiet_logs, settings_of, until_consumed
from benchmarks.contestant import Assignment, read_assignment, report_ready
from benchmarks.workload import FETCH_WAIT_MAX_MS, WORKERS
from streams import app

if TYPE_CHECKING:
    from streams.intake.subscription import Limits


async def serve(assignment: Assignment) -> None:
    """Run until standard input ends."""
    usual = app.consumer_config

    def consumer_config(limits: Limits) -> dict[str, Any]:
        return usual(limits) | {"fetch.wait.max.ms": FETCH_WAIT_MAX_MS}

    app.consumer_config = consumer_config
    payday = app.compose(settings_of(assignment))
    await payday.app.start()
    app.tune_garbage_collection()
    await until_consumed(assignment, 2 * WORKERS, 0)
    report_ready()
    await asyncio.to_thread(sys.stdin.read)
    await payday.app.stop()


if __name__ == "__main__":
    quiet_logs()
    asyncio.run(serve(read_assignment()))
