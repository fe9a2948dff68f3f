"""One measurement: a variant does the work in a place of its own, and the result is checked."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.process import Child
from benchmarks.results import check
from benchmarks.workload import RECORDS_PER_TASK, send

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.workload import Workload

__all__ = ["Measurement", "Place", "Settled", "Variant", "measure"]

WORK_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to do the work.

    Attributes:
        name: what its row is called by programs.
        share: of the commands; the slow one gets fewer.
        instances: processes that share the work.
    """

    name: str
    module: str
    title: str
    share: float
    instances: int = 1


@dataclass(frozen=True, slots=True)
class Place:
    """A broker and a database where nothing happened before.

    Attributes:
        home: the processes' folder.
        database_url: of a database with every table; None is an SQLite file in the home, made by the variant.
        prefix: of every topic and group.
    """

    home: Path
    bootstrap_servers: str
    database_url: str | None = None
    prefix: str = ""

    @property
    def url(self) -> str:
        """Of the database, as SQLAlchemy has it."""
        return self.database_url or f"sqlite+aiosqlite:///{self.home / 'payday.db'}"

    def arguments(self, tasks: int) -> list[str]:
        """What a variant is told on its command line."""
        database = [f"--database-url={self.database_url}"] if self.database_url else []
        return [str(self.home), self.bootstrap_servers, str(tasks), *database, f"--prefix={self.prefix}"]


@dataclass(frozen=True, slots=True)
class Settled:
    """What one process says at its end.

    Attributes:
        first_at, settled_at: by the monotonic clock; the former is None if it got no command.
        cpu_seconds: its own, its start included.
    """

    first_at: float | None
    settled_at: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """One run of one variant.

    Attributes:
        records: that were handled, over both groups.
        seconds: from the first command consumed to everything settled.
        cpu_seconds: of the variant's processes, their starts included, the broker's and the database's excluded.
    """

    commands: int
    records: int
    seconds: float
    cpu_seconds: float

    @property
    def records_per_second(self) -> float:
        """Records handled, over both groups."""
        return self.records / self.seconds

    @classmethod
    def of(cls, workload: Workload, settled: Sequence[Settled]) -> Measurement:
        """From the first command that any process consumed to the last process's end."""
        first_at = min(one.first_at for one in settled if one.first_at is not None)
        seconds = max(one.settled_at for one in settled) - first_at
        cpu_seconds = sum(one.cpu_seconds for one in settled)
        return cls(len(workload.commands), workload.tasks * RECORDS_PER_TASK, seconds, cpu_seconds)


def measure(
    variant: Variant, workload: Workload, place: Place, *options: str, before: Callable[[], None] | None = None
) -> Measurement:
    """Run a variant once, with options of its own; `before` is called when all is ready for the commands.

    Raises:
        WrongResult: it did not do the work.
    """
    send(place.bootstrap_servers, workload.workers, place.prefix)
    arguments = place.arguments(workload.tasks)
    with ExitStack() as stack:
        processes = [stack.enter_context(Child(variant.module, *arguments, *options)) for _ in range(variant.instances)]
        for process in processes:
            process.expect("ready")
        if before is not None:
            before()
        send(place.bootstrap_servers, workload.commands, place.prefix)
        settled = [Settled(**json.loads(process.line(WORK_SECONDS))) for process in processes]
    check(place.url, workload)
    return Measurement.of(workload, settled)
