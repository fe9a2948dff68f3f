"""What records that fail cost those that do not.

The good work is the same in each measurement. To it come create-task commands with keys of their own at which the
decider raises, evenly spread; each of them is parked with its stack. The rate counts good records only, so a ratio of 1
says that failing records cost the others nothing at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.findings import Findings, Row
from benchmarks.throughput import VARIANTS, measure_embedded
from benchmarks.workload import make_workload

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.findings import Sizes

__all__ = ["measure_failing"]

PART = "failing"
PERCENTAGES = (0, 1, 10)


def measure_failing(sizes: Sizes, say: Callable[[str], None]) -> Findings:
    """Clean, 1 % and 10 % in turn, `sizes.runs` times."""
    tasks = sizes.commands // 2
    workloads = {
        percent: make_workload(tasks, failing=round(2 * tasks * percent / (100 - percent))) for percent in PERCENTAGES
    }
    rates: dict[int, list[float]] = {percent: [] for percent in PERCENTAGES}
    for run in range(sizes.runs):
        for percent, workload in workloads.items():
            measurement = measure_embedded(VARIANTS[0], workload, "--failing", str(workload.failing))
            rates[percent].append(measurement.records_per_second)
            say(f"run {run + 1}, {percent} % failing: {measurement.records_per_second:,.0f} good records/s")
    rows = [Row(PART, "clean", "(a), no command fails", "records/s", tuple(rates[0]))]
    for percent in PERCENTAGES[1:]:
        ratios = tuple(rate / clean for rate, clean in zip(rates[percent], rates[0], strict=True))
        title = f"(a), {percent} % of the commands fail"
        rows.append(Row(PART, f"failing_{percent}", title, "records/s", tuple(rates[percent])))
        rows.append(Row(PART, f"failing_{percent}_to_clean", f"{title}: to clean", "ratio", ratios))
    return Findings(rows)
