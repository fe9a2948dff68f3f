"""Payday's whole path against the same work written by hand, and against a loop without any framework.

Three variants do the same work on the same kind of broker and database. Each measurement has a broker, a process and an
SQLite file (WAL, synchronous=FULL) of its own; the variants take turns, so that a change of the machine's mood meets
all of them. A rate counts only if every balance, every transfer and every event is what it must be.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.findings import Findings, Row
from benchmarks.measurement import Measurement, Place, Variant, measure
from benchmarks.process import START_SECONDS, Child
from benchmarks.workload import Workload, make_workload

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.findings import Sizes

__all__ = ["AIMS", "VARIANTS", "measure_embedded", "measure_throughput", "ratios"]

PART = "throughput"
AIMS = {"a_to_b": 25.0, "a_to_c": 0.4}
VARIANTS = (
    Variant("a", "benchmarks.app_variant", "Payday, whole path", 1.0),
    Variant("b", "benchmarks.by_hand_variant", "FastStream by hand, a transaction per message", 0.05),
    Variant("c", "benchmarks.bare_variant", "bare confluent-kafka and sqlite3 in one loop", 1.0),
)


def measure_embedded(variant: Variant, workload: Workload, *options: str) -> Measurement:
    """Run a variant once, on an embedded broker and an SQLite file of its own.

    Raises:
        WrongResult: it did not do the work.
    """
    with tempfile.TemporaryDirectory(prefix="payday-bench-") as home, Child("benchmarks.broker") as broker:
        return measure(variant, workload, Place(Path(home), broker.line(START_SECONDS)), *options)


def measure_throughput(sizes: Sizes, say: Callable[[str], None]) -> Findings:
    """Every variant in turn, `sizes.runs` times."""
    workloads = {one.name: make_workload(max(1, round(sizes.commands * one.share / 2))) for one in VARIANTS}
    found: dict[str, list[Measurement]] = {one.name: [] for one in VARIANTS}
    for run in range(sizes.runs):
        for one in VARIANTS:
            measurement = measure_embedded(one, workloads[one.name])
            say(f"run {run + 1}, ({one.name}): {measurement.commands:,} commands in {measurement.seconds:.2f} s")
            found[one.name].append(measurement)
    rates = {name: tuple(each.records_per_second for each in mine) for name, mine in found.items()}
    rows = [Row(PART, one.name, f"({one.name}) {one.title}", "records/s", rates[one.name]) for one in VARIANTS]
    for other in ("b", "c"):
        name = f"a_to_{other}"
        rows.append(Row(PART, name, f"(a) / ({other}), aim {AIMS[name]:g}", "ratio", ratios(rates["a"], rates[other])))
    cpu = tuple(1000 * each.cpu_seconds / each.records for each in found["a"])
    rows.append(Row(PART, "a_cpu", "(a), processor time per 1,000 records, start included", "s", cpu))
    return Findings(rows)


def ratios(mine: tuple[float, ...], others: tuple[float, ...]) -> tuple[float, ...]:
    """Each taken within its run."""
    return tuple(one / other for one, other in zip(mine, others, strict=True))
