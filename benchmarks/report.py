"""The figures of one run of the benchmark as a table for the terminal, for the page and for programs."""

from __future__ import annotations

import os
import platform
import sqlite3
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from confluent_kafka import libversion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.findings import Findings, Row, Sizes

__all__ = ["Machine", "NoSection", "Report", "replace_section"]

BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
HEADINGS = ("", "unit", "median", "min-max")
DECIMALS = {"records/s": 0, "ms": 1, "s": 2, "ratio": 2, "MB": 0, "MB per 100,000 records": 1}


class NoSection(Exception):
    """The page has no marked section for the figures."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the benchmark ran on, and what else it was doing.

    Attributes:
        load_before: average over one minute, before the first measurement.
        load_highest: of those noted after each measurement; the benchmark's own work is in it.
    """

    name: str
    versions: dict[str, str]
    started: str
    load_before: float
    load_highest: float
    took_seconds: float

    @classmethod
    def looked_at(cls, loads: Sequence[float], begin: float) -> Machine:
        """After the last measurement.

        Args:
            loads: before the first measurement and after each.
            begin: of the first, by the clock.
        """
        started = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(begin))
        return cls(_name(), _versions(), started, loads[0], max(loads), time.time() - begin)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything about one run."""

    machine: Machine
    sizes: Sizes
    findings: list[Findings]

    @property
    def rows(self) -> list[Row]:
        """Of all parts."""
        return [row for findings in self.findings for row in findings.rows]

    @property
    def samples(self) -> list[tuple[int, float]]:
        """Of memory; empty if that was not measured."""
        return [sample for findings in self.findings for sample in findings.samples]

    def as_json(self) -> dict[str, Any]:
        """Everything, for programs."""
        return {
            **asdict(self.machine),
            "sizes": asdict(self.sizes),
            "rows": [asdict(row) | {"median": row.median, "min": row.low, "max": row.high} for row in self.rows],
            "memory_samples": self.samples,
        }

    def as_text(self) -> str:
        """The table for a terminal."""
        lines = [HEADINGS, *(_cells(row) for row in self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
        table = [
            "  ".join((line[0].ljust(widths[0]), line[1].ljust(widths[1]), line[2].rjust(widths[2]), line[3]))
            for line in lines
        ]
        return "\n".join([*self._circumstances(), "", *table])

    def as_markdown(self) -> str:
        """The table for the page, with what is needed to judge it."""
        table = [f"| {' | '.join(HEADINGS)} |", "|---|---|---:|---|"]
        table += [f"| {' | '.join(_cells(row))} |" for row in self.rows]
        return "\n\n".join(["\n".join(table), *self._circumstances()])

    def _circumstances(self) -> list[str]:
        machine, sizes = self.machine, self.sizes
        versions = ", ".join(f"{name} {number}" for name, number in machine.versions.items())
        remarks = [remark for findings in self.findings for remark in findings.remarks]
        when = (
            f"{machine.started}, {machine.name}, load average {machine.load_before:.2f} before and "
            f"{machine.load_highest:.2f} at most; took {machine.took_seconds:.0f} s."
        )
        runs = f"Medians of {sizes.runs} paired runs (memory: one run)" if sizes.runs > 1 else "One run"
        how = (
            f"{runs}, {sizes.commands:,} commands each, for (b) a twentieth; where nothing else is said, embedded "
            "broker and SQLite (WAL, synchronous=FULL), fresh for each measurement."
        )
        return [when, f"{versions[0].upper()}{versions[1:]}.", how, *remarks]


def replace_section(page: str, text: str) -> str:
    """The page with other text between its markers.

    Raises:
        NoSection: it has no such markers.
    """
    before, begin, rest = page.partition(BEGIN)
    _old, end, after = rest.partition(END)
    if not begin or not end:
        raise NoSection(f"no section between {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def _cells(row: Row) -> tuple[str, ...]:
    def number(value: float) -> str:
        return f"{value:,.{DECIMALS[row.unit]}f}"

    several = len(row.values) > 1
    return (row.title, row.unit, number(row.median), f"{number(row.low)} to {number(row.high)}" if several else "")


def _name() -> str:
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return f"{os.cpu_count()} x {model}, {platform.system()} {platform.release()}"


def _versions() -> dict[str, str]:
    """Of what matters for the rates."""
    packages = ("faststream", "confluent-kafka", "sqlalchemy", "aiosqlite", "asyncpg", "pydantic")
    return {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "librdkafka": libversion()[0],
        **{package: version(package) for package in packages},
    }
