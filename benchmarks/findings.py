"""What the parts of the benchmark hand back: rows of figures, one figure per run."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

__all__ = ["QUICK", "Findings", "Row", "Sizes"]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured.

    Attributes:
        runs: of everything that is compared; the variants take turns within a run.
        commands: per measurement of throughput and of failing records.
        latency_seconds: how long commands are sent at `latency_rate` a second, once per run.
        memory_records: consumed in the one measurement of memory.
        memory_every_records: between two samples.
    """

    runs: int = 3
    commands: int = 12_000
    latency_seconds: float = 8.0
    latency_rate: int = 200
    memory_records: int = 300_000
    memory_every_records: int = 20_000


QUICK = Sizes(
    runs=1, commands=1_000, latency_seconds=2.0, latency_rate=100, memory_records=10_000, memory_every_records=1_000
)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        part: which part of the benchmark it is of.
        name: unique, for programs.
        title: for people.
        unit: `records/s`, `ms`, `ratio`, `MB` or `MB per 100,000 records`.
        values: one per run.
    """

    part: str
    name: str
    title: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """Over the runs."""
        return median(self.values)

    @property
    def low(self) -> float:
        """The smallest."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The largest."""
        return max(self.values)


@dataclass(frozen=True, slots=True)
class Findings:
    """What a part found.

    Attributes:
        rows: in the order of the table.
        samples: (records consumed, resident MB) of the measurement of memory.
        remarks: sentences that belong under the table.
    """

    rows: list[Row]
    samples: list[tuple[int, float]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
