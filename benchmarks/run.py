"""Measures Payday's whole path against the same work written by hand, and against a loop without any framework.

    python -m benchmarks.run [--runs N] [--commands N] [--json]

Three variants do the same work on the same kind of broker and database: (a) the app, (b) FastStream subscribers with a
transaction per message, (c) a bare loop. Each measurement has a broker, a process and an SQLite file (WAL,
synchronous=FULL) of its own; the variants take turns. A rate counts only if every balance, every transfer and every
event is what it must be. (b) gets fewer commands because it is slow; rates are compared, not times.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import IO, TYPE_CHECKING, Self

from confluent_kafka import libversion

from benchmarks.workload import EVENTS_PER_TASK, RECORDS_PER_TASK, Workload, make_workload, send

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
START_SECONDS = 90.0
"""A group may take a session time-out to form."""
WORK_SECONDS = 120.0
COMMANDS = 12_000
COMMANDS_MAX = 16_000
"""The embedded broker keeps 5 MB per partition; three events per task, 600 bytes each, must fit until they are read."""


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
        seconds: from the first command consumed to everything settled.
        cpu_seconds: of the variant's process, its start included, the broker's excluded.
    """

    letter: str
    commands: int
    records: int
    seconds: float
    cpu_seconds: float

    @property
    def records_per_second(self) -> float:
        """Records consumed, over both groups."""
        return self.records / self.seconds

    @property
    def commands_per_second(self) -> float:
        """Commands from Kafka to the last event they cause."""
        return self.commands / self.seconds


class WrongResult(Exception):
    """A variant did not do the work, so its rate says nothing."""


class Child:
    """A process whose standard output is read line by line; it is ended, by its id, when the block ends."""

    def __init__(self, *arguments: str) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed with the block
        self._process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if not name.startswith("PAYDAY_")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def line(self, timeout_seconds: float) -> str:
        """The next line of standard output.

        Raises:
            WrongResult: it did not come; the text has what the process said on standard error.
        """
        assert self._process.stdout is not None
        watchdog = threading.Timer(timeout_seconds, self._process.kill)
        watchdog.start()
        line = self._process.stdout.readline()
        watchdog.cancel()
        if not line:
            self._errors.seek(0)
            raise WrongResult(self._errors.read().decode()[-3000:] or "it ended without a word")
        return line.strip()


def measure(variant: Variant, workload: Workload, *options: str) -> Measurement:
    """Run a variant once, on a broker and in a home of its own."""
    with tempfile.TemporaryDirectory(prefix="payday-bench-") as home, Child("benchmarks.broker") as broker:
        address = broker.line(START_SECONDS)
        send(address, workload.workers)
        with Child(variant.module, home, address, str(workload.tasks), *options) as contestant:
            if contestant.line(START_SECONDS) != "ready":
                raise WrongResult("it did not get ready")
            send(address, workload.commands)
            settled = json.loads(contestant.line(WORK_SECONDS))
        check(Path(home) / "payday.db", workload)
    commands = len(workload.commands)
    return Measurement(
        variant.letter, commands, workload.tasks * RECORDS_PER_TASK, settled["seconds"], settled["cpu_seconds"]
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
    connection.close()
    if balances != workload.balances:
        raise WrongResult("balances differ")
    if (transfers, completed) != (2 * workload.tasks, workload.tasks):
        raise WrongResult(f"{transfers} transfers and {completed} completed tasks of {workload.tasks}")
    if handled != 2 * len(workload.workers) + workload.tasks * RECORDS_PER_TASK:
        raise WrongResult(f"{handled} records handled")
    if emitted and (emitted, sent) != (workload.tasks * EVENTS_PER_TASK,) * 2:  # (b) has no outbox
        raise WrongResult(f"{emitted} events, {sent} of them sent")


def measure_all(runs: int, commands: int) -> Iterator[Measurement]:
    """Every variant in turn, so that a change of the machine's mood meets all of them."""
    workloads = {variant.letter: make_workload(max(1, round(commands * variant.share / 2))) for variant in VARIANTS}
    for run in range(runs):
        for variant in VARIANTS:
            measurement = measure(variant, workloads[variant.letter])
            print(
                f"run {run + 1} ({variant.letter}): {measurement.commands} commands in {measurement.seconds:.2f} s",
                file=sys.stderr,
            )
            yield measurement


def summary(measurements: list[Measurement]) -> dict[str, object]:
    """Medians and ratios, with all that is needed to judge them."""
    variants = {}
    rates = {}
    for variant in VARIANTS:
        mine = [each for each in measurements if each.letter == variant.letter]
        rates[variant.letter] = median(each.records_per_second for each in mine)
        variants[variant.letter] = {
            "title": variant.title,
            "commands": mine[0].commands,
            "seconds": round(median(each.seconds for each in mine), 3),
            "cpu_seconds": round(median(each.cpu_seconds for each in mine), 3),
            "records_per_second": round(rates[variant.letter]),
            "commands_per_second": round(median(each.commands_per_second for each in mine)),
            "slowest_and_fastest": [
                round(min(each.records_per_second for each in mine)),
                round(max(each.records_per_second for each in mine)),
            ],
        }
    return {
        "machine": machine(),
        "versions": versions(),
        "runs": len(measurements) // len(VARIANTS),
        "variants": variants,
        "a_to_b": round(rates["a"] / rates["b"], 1),
        "a_to_c": round(rates["a"] / rates["c"], 2),
        "measurements": [asdict(each) for each in measurements],
    }


def machine() -> str:
    """What it ran on."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return f"{os.cpu_count()} x {model}, {platform.system()} {platform.release()}"


def versions() -> dict[str, str]:
    """Of what matters for the rates."""
    packages = ("faststream", "confluent-kafka", "sqlalchemy", "aiosqlite", "pydantic")
    return {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "librdkafka": libversion()[0],
        **{package: version(package) for package in packages},
    }


def show(result: dict[str, object]) -> None:
    """The table."""
    variants = result["variants"]
    assert isinstance(variants, dict)
    print(f"\n{result['machine']}")
    print(", ".join(f"{name} {number}" for name, number in versions().items()))
    print(
        f"embedded broker (librdkafka's mock) and SQLite (WAL, synchronous=FULL), fresh for each measurement; "
        f"medians of {result['runs']} runs\n"
    )
    print(f"{'':4}{'':48}{'commands':>9}{'seconds':>9}{'CPU s':>8}{'records/s':>11}{'(min-max)':>16}{'commands/s':>12}")
    for letter, row in variants.items():
        low, high = row["slowest_and_fastest"]
        print(
            f"({letter}) {row['title']:48}{row['commands']:>9,}{row['seconds']:>9.2f}{row['cpu_seconds']:>8.2f}"
            f"{row['records_per_second']:>11,}{f'{low:,}-{high:,}':>16}{row['commands_per_second']:>12,}"
        )
    print(f"\na/b = {result['a_to_b']}    a/c = {result['a_to_c']}")
    print("records are those consumed over both groups, five per task; (b) gets fewer commands because it is slow")


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=3, help="measurements of each variant (3)")
    parser.add_argument("--commands", type=int, default=COMMANDS, help=f"for (a) and (c), at most {COMMANDS_MAX}")
    parser.add_argument("--json", action="store_true", help="one JSON value on standard output")
    arguments = parser.parse_args()
    if not 40 <= arguments.commands <= COMMANDS_MAX or arguments.runs < 1:
        parser.error(f"between 40 and {COMMANDS_MAX} commands, at least 1 run")
    begin = time.monotonic()
    try:
        measurements = list(measure_all(arguments.runs, arguments.commands))
    except WrongResult as error:
        print(f"a variant did not do the work, so there is nothing to compare: {error}", file=sys.stderr)
        return 1
    result = summary(measurements)
    if arguments.json:
        print(json.dumps(result))
    else:
        show(result)
        print(f"took {time.monotonic() - begin:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
