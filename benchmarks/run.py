"""Measures what Payday costs. `make bench`.

    python -m benchmarks.run [--only throughput,latency] [--quick] [--json] [--plot [FILE]] [--write [FILE]]

throughput   the whole path against the same work by hand and in a bare loop
latency      command to event at a modest rate
failing      good records while 1 % and 10 % of the commands fail
memory       resident memory over many records
servers      throughput on a real Kafka and a real PostgreSQL, where they can be run

Each part is a module that says how it measures. Whatever is compared is measured in turn within a run, and a figure
counts only if what is in the database afterwards is what the work must lead to.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.failing import measure_failing
from benchmarks.findings import QUICK, Findings, Sizes
from benchmarks.latency import measure_latency
from benchmarks.memory import measure_memory
from benchmarks.process import ROOT, WrongResult
from benchmarks.report import Machine, NoSection, Report, replace_section
from benchmarks.servers import measure_servers
from benchmarks.throughput import measure_throughput

if TYPE_CHECKING:
    from collections.abc import Callable

COMMANDS_MAX = 16_000
"""The embedded broker keeps 5 MB per partition; three events per task, 600 bytes each, must fit until they are read."""
PLOT = ROOT / "docs" / "images" / "benchmarks.svg"
PAGE = ROOT / "docs" / "performance.md"
PARTS: dict[str, Callable[[Sizes, Callable[[str], None]], Findings]] = {
    "throughput": measure_throughput,
    "latency": measure_latency,
    "failing": measure_failing,
    "memory": measure_memory,
    "servers": measure_servers,
}


def measure_parts(parts: list[str], sizes: Sizes) -> Report:
    """Measure, telling on standard error how it goes.

    Raises:
        WrongResult: something that was measured did not do its work.
    """
    loads, begin = [os.getloadavg()[0]], time.time()

    def say(part: str, text: str) -> None:
        loads.append(os.getloadavg()[0])
        print(f"{part}: {text}", file=sys.stderr)

    findings = [PARTS[part](sizes, partial(say, part)) for part in parts]
    return Report(Machine.looked_at(loads, begin), sizes, findings)


def main() -> int:
    """Measure and report."""
    parser = _parser()
    arguments = parser.parse_args()
    parts = [part for part in PARTS if part in arguments.only]
    if arguments.write and (arguments.quick or len(parts) < len(PARTS)):
        parser.error("the page shows a full run: --write goes with neither --quick nor --only")
    if arguments.write:
        arguments.plot = arguments.plot or PLOT
        try:
            replace_section(arguments.write.read_text(), "")
        except (OSError, NoSection) as error:
            parser.error(f"{arguments.write}: {error}")
    sizes = _sizes(arguments)
    if not 200 <= sizes.commands <= COMMANDS_MAX or sizes.runs < 1:
        parser.error(f"between 200 and {COMMANDS_MAX} commands, at least 1 run")
    try:
        report = measure_parts(parts, sizes)
    except WrongResult as error:
        print(f"the work was not done, so there is nothing to measure: {error}", file=sys.stderr)
        return 1
    print(json.dumps(report.as_json()) if arguments.json else "\n" + report.as_text())
    if arguments.plot:
        from benchmarks.plot import draw  # noqa: PLC0415  matplotlib takes its time

        draw(report, arguments.plot)
    if arguments.write:
        arguments.write.write_text(replace_section(arguments.write.read_text(), report.as_markdown()))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run",
        description=(__doc__ or "").partition("\n")[0],
    )
    parser.add_argument("--only", type=_parts, default=list(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="small sizes: whether it works, not how fast it is")
    parser.add_argument("--runs", type=int, help=f"of whatever is compared ({Sizes().runs})")
    parser.add_argument("--commands", type=int, help=f"per measurement ({Sizes().commands}), at most {COMMANDS_MAX}")
    parser.add_argument("--json", action="store_true", help="one JSON value on standard output")
    parser.add_argument(
        "--plot", type=Path, nargs="?", const=PLOT, help="draw the figures (docs/images/benchmarks.svg)"
    )
    parser.add_argument("--write", type=Path, nargs="?", const=PAGE, help="renew docs/performance.md and its plot")
    return parser


def _parts(text: str) -> list[str]:
    parts = text.split(",")
    if strange := [part for part in parts if part not in PARTS]:
        raise argparse.ArgumentTypeError(f"there is no part {strange[0]!r}; choose from {', '.join(PARTS)}")
    return parts


def _sizes(arguments: argparse.Namespace) -> Sizes:
    sizes = QUICK if arguments.quick else Sizes()
    named = {name: getattr(arguments, name) for name in ("runs", "commands") if getattr(arguments, name) is not None}
    return replace(sizes, **named)


if __name__ == "__main__":
    sys.exit(main())
