"""Payday's whole path against the same work written by hand, and against a loop without any framework.

Three variants do the same work on the same kind of broker and database. Each measurement has a broker, a process and an
SQLite file (WAL, synchronous=FULL) of its own; the variants take turns, so that a change of the machine's mood meets
all of them. A rate counts only if every balance, every transfer and every event is what it must be.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.findings import Findings, Row
from benchmarks.process import START_SECONDS, Child, WrongResult
from benchmarks.workload import EVENTS_PER_TASK, RECORDS_PER_TASK, Workload, make_workload, send

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.findings import Sizes

__all__ = ["AIMS", "VARIANTS", "Measurement", "Variant", "check", "measure", "measure_throughput"]

PART = "throughput"
WORK_SECONDS = 120.0
AIMS = {"a_to_b": 25.0, "a_to_c": 0.4}


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to do the work.

    Attributes:
        share: of the commands; the slow one gets fewer.
    """

    letter: str
    module: str
    title: str
    share: float


VARIANTS = (
    Variant("a", "benchmarks.app_variant", "Payday, whole path", 1.0),
    Variant("b", "benchmarks.by_hand_variant", "FastStream by hand, a transaction per message", 0.05),
    Variant("c", "benchmarks.bare_variant", "bare confluent-kafka and sqlite3 in one loop", 1.0),
)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One run of one variant.

    Attributes:
        records: that were handled, over both groups.
        seconds: from the first command consumed to everything settled.
        cpu_seconds: of the variant's process, its start included, the broker's excluded.
    """

    commands: int
    records: int
    seconds: float
    cpu_seconds: float

    @property
    def records_per_second(self) -> float:
        """Records handled, over both groups."""
        return self.records / self.seconds


def measure(variant: Variant, workload: Workload, *options: str) -> Measurement:
    """Run a variant once, on a broker and in a home of its own.

    Raises:
        WrongResult: it did not do the work.
    """
    with tempfile.TemporaryDirectory(prefix="payday-bench-") as home, Child("benchmarks.broker") as broker:
        address = broker.line(START_SECONDS)
        send(address, workload.workers)
        with Child(variant.module, home, address, str(workload.tasks), *options) as contestant:
            contestant.expect("ready")
            send(address, workload.commands)
            settled = json.loads(contestant.line(WORK_SECONDS))
        check(Path(home) / "payday.db", workload)
    return Measurement(
        len(workload.commands), workload.tasks * RECORDS_PER_TASK, settled["seconds"], settled["cpu_seconds"]
    )


def check(database: Path, workload: Workload) -> None:
    """Compare what is in the database with what must come of the work.

    Raises:
        WrongResult: something differs.
    """
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    balances = dict(connection.execute("SELECT worker_id, balance_minor FROM ledger_account"))
    (transfers,) = connection.execute("SELECT count(*) FROM ledger_transfer").fetchone()
    (completed,) = connection.execute("SELECT count(*) FROM tasks_task WHERE completed_at_ms IS NOT NULL").fetchone()
    (handled,) = connection.execute("SELECT count(*) FROM inbox").fetchone()
    (emitted, sent) = connection.execute("SELECT count(*), count(sent_at_ms) FROM outbox").fetchone()
    parked = dict(connection.execute("SELECT reason, count(*) FROM parked GROUP BY reason"))
    connection.close()
    if balances != workload.balances:
        raise WrongResult("balances differ")
    if (transfers, completed) != (2 * workload.tasks, workload.tasks):
        raise WrongResult(f"{transfers} transfers and {completed} completed tasks of {workload.tasks}")
    if handled != 2 * len(workload.workers) + workload.tasks * RECORDS_PER_TASK:
        raise WrongResult(f"{handled} records handled")
    if emitted and (emitted, sent) != (workload.tasks * EVENTS_PER_TASK,) * 2:  # (b) has no outbox
        raise WrongResult(f"{emitted} events, {sent} of them sent")
    if parked != ({"failed": workload.failing} if workload.failing else {}):
        raise WrongResult(f"parked are {parked}")


def measure_throughput(sizes: Sizes, say: Callable[[str], None]) -> Findings:
    """Every variant in turn, `sizes.runs` times."""
    workloads = {one.letter: make_workload(max(1, round(sizes.commands * one.share / 2))) for one in VARIANTS}
    found: dict[str, list[Measurement]] = {one.letter: [] for one in VARIANTS}
    for run in range(sizes.runs):
        for one in VARIANTS:
            measurement = measure(one, workloads[one.letter])
            say(f"run {run + 1}, ({one.letter}): {measurement.commands:,} commands in {measurement.seconds:.2f} s")
            found[one.letter].append(measurement)
    rates = {letter: tuple(each.records_per_second for each in mine) for letter, mine in found.items()}
    rows = [Row(PART, one.letter, f"({one.letter}) {one.title}", "records/s", rates[one.letter]) for one in VARIANTS]
    for other in ("b", "c"):
        name = f"a_to_{other}"
        ratios = tuple(mine / its for mine, its in zip(rates["a"], rates[other], strict=True))
        rows.append(Row(PART, name, f"(a) / ({other}), aim {AIMS[name]:g}", "ratio", ratios))
    cpu = tuple(1000 * each.cpu_seconds / each.records for each in found["a"])
    rows.append(Row(PART, "a_cpu", "(a), processor time per 1,000 records, start included", "s", cpu))
    return Findings(rows)
