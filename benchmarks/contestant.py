"""What the three variants have in common as processes.

A variant is a module that is run with home, broker and number of tasks. It prints `ready` when it has handled the
workers, and a JSON line when everything is settled: committed, published, acknowledged.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Assignment", "read_assignment", "report_ready", "report_settled"]


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a variant is told.

    Attributes:
        failing: commands, beside those of the tasks, at which a decider is to fail; (a) only.
        profile: where cProfile's findings go; (a) only.
    """

    home: Path
    bootstrap_servers: str
    tasks: int
    failing: int
    profile: Path | None

    @property
    def database(self) -> Path:
        """Where it keeps its SQLite file."""
        return self.home / "payday.db"


def read_assignment() -> Assignment:
    """From the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("home", type=Path)
    parser.add_argument("bootstrap_servers")
    parser.add_argument("tasks", type=int)
    parser.add_argument("--failing", type=int, default=0, help="commands at which a decider is to fail")
    parser.add_argument("--profile", type=Path, help="write what cProfile saw of the main thread to this file")
    return Assignment(**vars(parser.parse_args()))


def report_ready() -> None:
    """The workers are known; the commands may come."""
    print("ready", flush=True)


def report_settled(first_record_at: float) -> None:
    """Everything is done.

    Args:
        first_record_at: when the first command was consumed, by the monotonic clock.
    """
    usage = resource.getrusage(resource.RUSAGE_SELF)
    seconds = time.monotonic() - first_record_at
    print(json.dumps({"seconds": seconds, "cpu_seconds": usage.ru_utime + usage.ru_stime}), flush=True)
