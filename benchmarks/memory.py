"""Whether the app's memory grows with the number of messages that have gone through it.

Commands are sent in chunks and never run far ahead of the app: the embedded broker keeps 5 MB per partition, read or
not. The resident memory of the app's process is noted at the start and after every so many records consumed. Caches,
pools of the allocator and young garbage fill first; so growth is judged by the second half.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from pathlib import Path
from statistics import linear_regression
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]

from benchmarks.findings import Findings, Row
from benchmarks.process import START_SECONDS, Child, WrongResult
from benchmarks.results import check
from benchmarks.workload import EVENTS_PER_TASK, RECORDS_PER_TASK, WORKERS, make_workload, send

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.findings import Sizes
    from benchmarks.workload import Workload

__all__ = ["FLAT_MB", "measure_memory", "slope_mb"]

PART = "memory"
CHUNK_TASKS = 1_000
AHEAD_TASKS = 3_000
LOOK_SECONDS = 0.05
STALL_SECONDS = 60.0
FLAT_MB = 5.0
"""Per 100,000 records: growth below this is called flat."""
BYTES_PER_MB = 1_000_000
Samples = list[tuple[int, float]]


def measure_memory(sizes: Sizes, say: Callable[[str], None]) -> Findings:
    """One long run of the app."""
    workload = make_workload(sizes.memory_records // RECORDS_PER_TASK)
    with tempfile.TemporaryDirectory(prefix="payday-bench-") as home, Child("benchmarks.broker") as broker:
        address = broker.line(START_SECONDS)
        send(address, workload.workers)
        with Child("benchmarks.app_service", home, address, "0") as app:
            app.expect("ready")
            database = Path(home) / "payday.db"
            watch = _Watch(database, app, sizes.memory_every_records)
            begin = time.monotonic()
            _send_paced(address, workload, watch)
            seconds = time.monotonic() - begin
            watch.close()
        check(f"sqlite+aiosqlite:///{database}", workload)
    samples = watch.samples
    half = sizes.memory_records // 2
    growth, slope = slope_mb(samples, 0, half), slope_mb(samples, half, sizes.memory_records)
    say(f"{sizes.memory_records:,} records: {samples[0][1]:.0f} MB to {samples[-1][1]:.0f} MB")
    verdict = "flat" if slope < FLAT_MB else "not flat"
    first, last = samples[0], samples[-1]
    rate = workload_records(workload) / seconds
    unit = "MB per 100,000 records"
    return Findings(
        [
            Row(PART, "memory_start", "(a), resident memory at the start", "MB", (first[1],)),
            Row(PART, "memory_peak", "(a), most of all samples", "MB", (max(mb for _, mb in samples),)),
            Row(PART, "memory_end", f"(a), after {last[0]:,} records", "MB", (last[1],)),
            Row(PART, "memory_growth", "(a), slope over the first half, caches filling", unit, (growth,)),
            Row(PART, "memory_slope", f"(a), slope over the second half: {verdict}", unit, (slope,)),
            Row(
                PART,
                "sustained",
                f"(a), over {last[0]:,} records",
                "records/s",
                (rate,),
            ),
        ],
        samples,
        [f"Memory counts as flat if it grows by less than {FLAT_MB:g} MB per 100,000 records in the second half."],
    )


def workload_records(workload: Workload) -> int:
    """Consumed over both groups, the workers' excluded."""
    return workload.tasks * RECORDS_PER_TASK


def slope_mb(samples: Samples, first_records: int, last_records: int) -> float:
    """Growth per 100,000 records by least squares, over the samples between two counts of records, both included."""
    kept = [sample for sample in samples if first_records <= sample[0] <= last_records]
    line = linear_regression([records for records, _ in kept], [mb for _, mb in kept])
    return 100_000 * line.slope


class _Watch:
    """Looks at the app's progress, and samples its memory on the way."""

    def __init__(self, database: Path, app: Child, every_records: int) -> None:
        self._connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
        self._process = psutil.Process(app.pid)
        self._every_records = every_records
        self.samples: Samples = [(0, self._resident_mb())]

    def look(self) -> int:
        """Records consumed, the workers' excluded."""
        (consumed,) = self._connection.execute("SELECT coalesce(sum(consumed), 0) FROM progress").fetchone()
        records = int(consumed) - 2 * WORKERS
        if records >= self.samples[-1][0] + self._every_records:
            self.samples.append((records // self._every_records * self._every_records, self._resident_mb()))
        return records

    def published(self) -> int:
        """Events that were emitted and sent."""
        (sent,) = self._connection.execute("SELECT count(sent_at_ms) FROM outbox").fetchone()
        return int(sent)

    def close(self) -> None:
        self._connection.close()

    def _resident_mb(self) -> float:
        return float(self._process.memory_info().rss) / BYTES_PER_MB


def _send_paced(address: str, workload: Workload, watch: _Watch) -> None:
    """Send all, and return when it is all consumed and published.

    Raises:
        WrongResult: the app does not come on.
    """
    creations, completions = workload.commands[: workload.tasks], workload.commands[workload.tasks :]
    for first in range(0, workload.tasks, CHUNK_TASKS):
        _wait_for(watch, (first - AHEAD_TASKS) * RECORDS_PER_TASK)
        chunk = slice(first, first + CHUNK_TASKS)
        send(address, creations[chunk] + completions[chunk])
    _wait_for(watch, workload_records(workload))
    deadline = time.monotonic() + STALL_SECONDS
    while watch.published() < workload.tasks * EVENTS_PER_TASK:
        if time.monotonic() > deadline:
            raise WrongResult("events stay unsent")
        time.sleep(LOOK_SECONDS)


def _wait_for(watch: _Watch, records: int) -> None:
    deadline = time.monotonic() + STALL_SECONDS
    while watch.look() < records:
        if time.monotonic() > deadline:
            raise WrongResult(f"the app stays at {watch.look():,} records")
        time.sleep(LOOK_SECONDS)
