"""(a) Payday itself: both slices, the ledger, the outbox and the relay, as `payday run` composes them."""

from __future__ import annotations

import asyncio
import cProfile
import logging
import sys
import time
from typing import TYPE_CHECKING, Any

import structlog
from faststream import BaseMiddleware

from benchmarks.broken_decider import break_create_task
from benchmarks.contestant import Assignment, read_assignment, report_ready, report_settled
from benchmarks.lookout import lookout_of
from benchmarks.workload import EVENTS_PER_TASK, FETCH_WAIT_MAX_MS, RECORDS_PER_TASK, SECRET, WORKERS
from streams import app
from streams.app import compose, tune_garbage_collection
from streams.middleware.intake import consumer_config
from streams.settings import load_settings

if TYPE_CHECKING:
    from faststream import ContextRepo

    from streams.intake.subscription import Limits
    from streams.settings import Settings

LOOK_SECONDS = 0.05


class FirstCommand:
    """Notes when the first delivery of commands began."""

    def __init__(self) -> None:
        self.armed = False
        self.at: float | None = None

    def __call__(self, message: Any, /, *, context: ContextRepo) -> BaseMiddleware[Any, Any]:
        """A middleware around all others, which does nothing but look at the clock."""
        if self.armed and self.at is None:
            self.at = time.monotonic()
        return BaseMiddleware(message, context=context)


async def run(assignment: Assignment) -> None:
    """Do the work, or, where there are several instances, a part of it until all of it is done."""
    first = FirstCommand()
    ask_often()
    payday = compose(settings_of(assignment))
    payday.broker.insert_middleware(first)
    await payday.app.start()
    tune_garbage_collection()
    await until_consumed(assignment, 2 * WORKERS, 0)
    first.armed = True
    report_ready()
    records = 2 * WORKERS + assignment.tasks * RECORDS_PER_TASK + assignment.failing
    await until_consumed(assignment, records, assignment.tasks * EVENTS_PER_TASK)
    report_settled(first.at)
    await payday.app.stop()


def settings_of(assignment: Assignment) -> Settings:
    """Payday's settings for a measurement."""
    return load_settings(
        home=assignment.home,
        kafka_bootstrap_servers=assignment.bootstrap_servers,
        database_url=assignment.database_url,
        topic_prefix=assignment.prefix,
        group_prefix=f"{assignment.prefix}payday.",
        secret=SECRET.decode(),
    )


def ask_often() -> None:
    """Let the app's consumers ask an idle broker every few milliseconds; call it before the app is composed."""

    def config(limits: Limits) -> dict[str, Any]:
        return consumer_config(limits) | {"fetch.wait.max.ms": FETCH_WAIT_MAX_MS}

    vars(app)["consumer_config"] = config


def quiet_logs() -> None:
    """Warnings only, to standard error: standard output is for the benchmark."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


async def until_consumed(assignment: Assignment, records: int, events: int) -> None:
    """Until so many records are consumed, so many events were emitted, and none of them is unsent."""
    lookout = await lookout_of(assignment)
    # Other processes may do the work, so there is nothing in this one to wait for.
    while await lookout.consumed() < records or not await lookout.published(events):  # noqa: ASYNC110
        await asyncio.sleep(LOOK_SECONDS)
    await lookout.close()


if __name__ == "__main__":
    quiet_logs()
    told = read_assignment()
    if told.failing:
        break_create_task()
    if told.profile is None:
        asyncio.run(run(told))
    else:
        profiler = cProfile.Profile()
        profiler.runcall(asyncio.run, run(told))
        profiler.dump_stats(told.profile)
