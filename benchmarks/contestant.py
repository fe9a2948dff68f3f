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

from sqlalchemy.engine import make_url

__all__ = ["Assignment", "read_assignment", "report_ready", "report_settled"]


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a variant is told.

    Attributes:
        database_url: of a database that has every table; None is an SQLite file in its home that is yet to be made.
        prefix: of every topic and group.
        failing: commands, beside those of the tasks, at which a decider is to fail; (a) only.
        profile: where cProfile's findings go; (a) only.
    """

    home: Path
    bootstrap_servers: str
    tasks: int
    database_url: str | None
    prefix: str
    failing: int
    profile: Path | None

    @property
    def sqlite_file(self) -> Path:
        """Where it keeps its SQLite file, unless there is another database."""
        return self.home / "payday.db"

    @property
    def url(self) -> str:
        """Of its database, as SQLAlchemy has it."""
        return self.database_url or f"sqlite+aiosqlite:///{self.sqlite_file}"

    @property
    def postgresql_dsn(self) -> str:
        """Of its PostgreSQL, as asyncpg has it."""
        assert self.database_url is not None, "it is on SQLite"
        return make_url(self.database_url).set(drivername="postgresql").render_as_string(hide_password=False)


def read_assignment() -> Assignment:
    """From the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("home", type=Path)
    parser.add_argument("bootstrap_servers")
    parser.add_argument("tasks", type=int)
    parser.add_argument("--database-url", help="a PostgreSQL database with every table; else SQLite in the home")
    parser.add_argument("--prefix", default="", help="of every topic and group")
    parser.add_argument("--failing", type=int, default=0, help="commands at which a decider is to fail")
    parser.add_argument("--profile", type=Path, help="write what cProfile saw of the main thread to this file")
    return Assignment(**vars(parser.parse_args()))


def report_ready() -> None:
    """The workers are known; the commands may come."""
    print("ready", flush=True)


def report_settled(first_record_at: float | None) -> None:
    """Everything is done.

    Args:
        first_record_at: when the first command was consumed, by the monotonic clock, which all processes of a machine
            share; None if another instance has consumed everything.
    """
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu_seconds = usage.ru_utime + usage.ru_stime
    told = {"first_at": first_record_at, "settled_at": time.monotonic(), "cpu_seconds": cpu_seconds}
    print(json.dumps(told), flush=True)
