"""Whatever a user gets wrong, and whatever is missing, ends in a clear line, the right exit code, and no traceback."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.integration.processes import PAYDAY, ROOT

if TYPE_CHECKING:
    from pathlib import Path

WORKER = "0190a6b0-0000-7000-8000-000000000001"
NOWHERE = "127.0.0.1:1"
"""Nobody listens there."""
COMPLETE = json.dumps({"task_id": WORKER, "worker_id": WORKER})
CREATE = json.dumps({"type": "tasks.create-task.v1", "data": {"task_id": WORKER, "title": "t"}})
BAD_FILE = f'{CREATE}\n{{"type": "tasks.create-task.v1", "data": {{}}}}\nnonsense\n'
PARALLEL = max(2, (os.cpu_count() or 2))


@dataclass(frozen=True)
class Case:
    """A command line, what it ends with, and what it says on standard error.

    `home` is what there is: nothing, an empty database, or tables of another version; `files` are written into it.
    """

    arguments: str
    code: int
    says: str
    home: str = "nothing"
    settings: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    data: str | None = None

    @property
    def command(self) -> list[str]:
        return self.arguments.split() + ([] if self.data is None else ["--data", self.data])

    def __str__(self) -> str:
        return f"{self.arguments}|{self.home}|{','.join(self.settings)}"


UNREACHABLE = {"PAYDAY_KAFKA_BOOTSTRAP_SERVERS": NOWHERE}

CASES = [
    # Wrong use of the command line.
    Case("nope", 2, "No such command 'nope'"),
    Case("run --only tasks,nope", 2, "no part 'nope'; choose from"),
    Case("status --nope", 2, "No such option"),
    Case("wait", 2, "payday wait --settled"),
    Case("wait --settled --timeout soon", 2, "'--timeout'"),
    Case("ledger", 2, "Missing argument 'WORKER_ID'"),
    Case("ledger bob", 2, "'bob' is no worker's id"),
    Case("dead-letters show x", 2, "'ID'"),
    Case("dead-letters list --state lost", 2, "choose from retrying, blocked, dead"),
    Case("dead-letters list --reason why", 2, "choose from undecodable"),
    Case("events --type tasks.task-complete.v1", 2, "did you mean tasks.task-completed.v1"),
    Case("events --topic nope", 2, "no such topic", settings=UNREACHABLE),
    Case("audit --expect missing.json", 2, "missing.json cannot be read"),
    Case("audit --expect {home}/t.json", 2, "nope: Extra inputs are not permitted", files={"t.json": '{"nope": 1}'}),
    Case("audit --expect {home}/t.json", 2, "Invalid JSON", files={"t.json": "{"}),
    # Senseless settings.
    Case(
        "run",
        2,
        "PAYDAY_KAFKA_BOOTSTRAP_SERVERS='nowhere': should be",
        settings={"PAYDAY_KAFKA_BOOTSTRAP_SERVERS": "nowhere"},
    ),
    Case("status", 2, "PAYDAY_TIME_ZONE='Mars'", settings={"PAYDAY_TIME_ZONE": "Mars"}),
    Case("db check", 2, "PAYDAY_DATABASE_URL: should be", settings={"PAYDAY_DATABASE_URL": "mysql://x"}),
    Case("broker", 2, "PAYDAY_TOPIC_PREFIX", settings={"PAYDAY_TOPIC_PREFIX": "a b"}),
    # Nothing to send.
    Case("send", 2, "either --data JSON"),
    Case("send --file x --id y", 2, "--id and --time go with --data"),
    Case("send", 2, "--data needs a type", data="{}"),
    Case("send nope.v1", 2, "unknown type 'nope.v1'", data="{}"),
    Case("send tasks.complete-task.v1", 2, "task_id: is missing", data="{}"),
    Case("send tasks.complete-task.v1", 2, "is not JSON", data="{"),
    Case("send tasks.complete-task.v1 --id x", 2, "should be a UUID", data=COMPLETE),
    Case("send tasks.complete-task.v1 --time x", 2, "should be like", data=COMPLETE),
    Case("send --file missing.jsonl", 2, "missing.jsonl cannot be read"),
    Case("send --file {home}", 2, "cannot be read"),
    Case("send --file {home}/f", 2, "f:2: tasks.create-task.v1: task_id: is missing", files={"f": BAD_FILE}),
    Case("send --file {home}/f", 2, "(and 1 more bad lines); nothing was sent", files={"f": BAD_FILE}),
    # Kafka is unknown, or does not answer.
    Case("run", 1, "no Kafka is known: start one with `payday broker`"),
    Case("send tasks.complete-task.v1", 1, "no Kafka is known", data=COMPLETE),
    Case("events", 1, "no Kafka is known"),
    Case("status", 1, "no Kafka is known", home="migrated"),
    Case("status", 1, f"Kafka at {NOWHERE} does not answer", home="migrated", settings=UNREACHABLE),
    Case("wait --settled", 1, f"Kafka at {NOWHERE} does not answer", home="migrated", settings=UNREACHABLE),
    Case("events", 1, f"Kafka at {NOWHERE} does not answer", settings=UNREACHABLE),
    Case(
        "send tasks.complete-task.v1 --deliver-within 1",
        1,
        "did not acknowledge within 1 s (Local: Message timed out (_MSG_TIMED_OUT)): 0 messages were acknowledged",
        settings=UNREACHABLE,
        data=COMPLETE,
    ),
    # Wrong use of the outbox.
    Case("outbox retry", 2, "say which: --topic, --key or both; or --all", home="migrated"),
    Case("outbox retry --all --topic t", 2, "say which", home="migrated"),
    # The database is missing, of another version, or not one at all.
    Case("status", 1, "there is no database at", settings=UNREACHABLE),
    Case("audit", 1, "there is no database at"),
    Case(f"ledger {WORKER}", 1, "there is no database at"),
    Case("outbox status", 1, "there is no database at"),
    Case("dead-letters list", 1, "there is no database at"),
    Case("db check", 1, "there is no database at"),
    Case("run", 1, "is at 0000, this version needs", home="other version", settings=UNREACHABLE),
    Case("status", 1, "run `payday db upgrade`", home="other version", settings=UNREACHABLE),
    Case("db check", 1, "run `payday db upgrade`", home="other version"),
    Case("db check", 1, "tables are not those of this version", home="altered"),
    Case("run", 1, "file is not a database", home="junk", settings=UNREACHABLE),
    Case("audit", 1, "file is not a database", home="junk"),
    # What was asked for does not exist.
    Case(f"ledger {WORKER}", 1, "nothing was ever posted", home="migrated"),
    Case("dead-letters show 7", 1, "no parked record 7", home="migrated"),
    Case("wait --settled --groups taks", 2, "no group is called 'taks'", home="migrated", settings=UNREACHABLE),
    Case(
        "audit --expect {home}/t.json",
        1,
        "expected-totals: 1 rows",
        home="migrated",
        files={"t.json": '{"transactions": 5}'},
    ),
]


@dataclass(frozen=True)
class Ended:
    code: int
    output: str
    errors: str


def prepare(case: Case, home: Path, migrated_file: Path) -> None:
    home.mkdir()
    for name, content in case.files.items():
        (home / name).write_text(content)
    file = home / "payday.db"
    if case.home == "junk":
        file.write_bytes(b"no database " * 1000)
    elif case.home != "nothing":
        shutil.copy(migrated_file, file)
    if case.home == "other version":
        change(file, "UPDATE alembic_version SET version_num = '0000'")
    elif case.home == "altered":
        change(file, "ALTER TABLE inbox ADD COLUMN stray TEXT")


def change(file: Path, sql: str) -> None:
    with closing(sqlite3.connect(file)) as database, database:
        database.execute(sql)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, migrated_file: Path) -> dict[int, Ended]:
    """Every case's process, run a few at a time: most of their time is Python's start."""
    base = tmp_path_factory.mktemp("homes")

    def run(numbered: tuple[int, Case]) -> Ended:
        number, case = numbered
        home = base / str(number)
        prepare(case, home, migrated_file)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PAYDAY_")}
        done = subprocess.run(
            [str(PAYDAY), *(argument.replace("{home}", str(home)) for argument in case.command)],
            cwd=ROOT,
            env=inherited | {"PAYDAY_HOME": str(home), **case.settings},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    with ThreadPoolExecutor(PARALLEL) as pool:
        return dict(zip(map(id, CASES), pool.map(run, enumerate(CASES)), strict=True))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_mistake_is_one_clear_line(case: Case, ended: dict[int, Ended]) -> None:
    """The exit code tells wrong use from failure, standard error says what, where and what to do."""
    found = ended[id(case)]
    assert found.code == case.code, found
    assert case.says in found.errors, found
    assert "Traceback" not in found.errors + found.output
    assert "should not happen" not in found.errors
    assert found.errors.startswith("payday")
    if case.arguments.startswith("audit") and case.code == 1 and case.files:
        return  # this one shows the totals that differ, a line each, and prints its table
    assert found.output == ""
    assert found.errors.count("\n") == 1, found.errors
