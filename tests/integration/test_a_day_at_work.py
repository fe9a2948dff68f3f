"""The example of a whole day, run as its README says, undisturbed and with the app killed in the middle of the work."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from contracts.catalog import entry_for
from streams.app import SUBSCRIPTIONS
from tests.integration.processes import ROOT, Home, ProcessTrouble, RunningProcess, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DAY = ROOT / "examples" / "a-day-at-work"
PARTS = sorted(DAY.glob("*.jsonl"))
TOTALS = json.loads((DAY / "totals.json").read_text())
EVENT_TOPICS = ("tasks.events", "accounting.events")
KILLS = 3


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home(tmp_path, PAYDAY_SECRET="a-day-at-work", PAYDAY_TIME_ZONE="UTC") as home:
        yield home


def whole_day() -> bytes:
    """Every part, one after the other."""
    return b"".join(part.read_bytes() for part in PARTS)


def messages() -> list[dict[str, Any]]:
    """Every message of the day, in order."""
    lines = [json.loads(line) for line in whole_day().splitlines()]
    return [line for line in lines if "type" in line]


def records_per_group() -> Counter[str]:
    """How many of the messages each group reads."""
    counts: Counter[str] = Counter()
    for message in messages():
        topic = entry_for(message["type"]).topic
        counts.update(f"payday.{group}" for group, topics in SUBSCRIPTIONS.items() if topic in topics)
    return counts


def send_the_day(home: Home) -> None:
    home.run("send", "--file", "-", timeout_seconds=90, given=whole_day())
    home.run("wait", "--settled")


def audit(home: Home) -> None:
    """Every invariant holds and every total is met."""
    result = home.start("audit", "--expect", str(DAY / "totals.json"), "--json")
    assert result.wait(60) == 0, result.said
    assert json.loads(result.output)["ok"] is True


def progress(home: Home) -> dict[str, dict[str, int]]:
    """Each group's counts."""
    columns = ("consumed", "handled", "duplicate", "parked", "discarded", "lost", "skipped")
    sums = ", ".join(f"sum({column})" for column in columns)
    rows = home.query(f"SELECT group_name, {sums} FROM progress GROUP BY group_name")
    return {group: dict(zip(columns, counts, strict=True)) for group, *counts in rows}


def effects(home: Home) -> dict[str, list[tuple[Any, ...]]]:
    """All that the messages have led to."""
    return {
        "accounts": home.query("SELECT worker_id, balance_minor, version FROM ledger_account ORDER BY 1"),
        "transfers": home.query("SELECT transfer_id, source_ref, sequence FROM ledger_transfer ORDER BY 1"),
        "tasks": home.query("SELECT task_id, assignee, completed_at_ms FROM tasks_task ORDER BY 1"),
        "assignments": home.query("SELECT assignment_id, worker_id FROM tasks_assignment ORDER BY 1"),
        "events": home.query("SELECT id, message_id FROM outbox ORDER BY 1"),
    }


def assert_conserved(home: Home) -> None:
    """Every record that was taken has exactly one outcome, and none was lost."""
    for group, counts in progress(home).items():
        outcomes = counts["handled"] + counts["duplicate"] + counts["parked"] + counts["discarded"]
        assert counts["consumed"] == outcomes, group
        assert (counts["parked"], counts["lost"], counts["skipped"]) == (0, 0, 0), group


def assert_posted_once(home: Home) -> None:
    """No transfer is missing or doubled, and no account's sequence has a gap."""
    transfers, refs = home.query("SELECT count(*), count(DISTINCT source_ref) FROM ledger_transfer")[0]
    assert transfers == refs == TOTALS["transactions"]
    rows = home.query("SELECT worker_id, max(sequence), count(*), sum(signed_minor) FROM ledger_transfer GROUP BY 1")
    assert {worker_id: total for worker_id, _, _, total in rows} == TOTALS["balances"]
    assert all(last == count for _, last, count, _ in rows)


def read_events(home: Home) -> list[tuple[str, bytes, dict[str, str], dict[str, Any]]]:
    """Everything on the topics of emitted events, partition by partition in order: topic, key, headers, body."""
    address = (home.directory / "broker.address").read_text().strip()
    consumer = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "a-day-at-work-reader",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    found = []
    try:
        partitions = [
            TopicPartition(topic, number, OFFSET_BEGINNING)
            for topic in EVENT_TOPICS
            for number in consumer.list_topics(topic, timeout=10).topics[topic].partitions
        ]
        consumer.assign(partitions)
        left = len(partitions)
        while left:
            record = consumer.poll(20)
            assert record is not None, "the broker does not answer"
            if (error := record.error()) is not None:
                assert error.code() == KafkaError._PARTITION_EOF, error
                left -= 1
                continue
            headers = {name: value.decode() for name, value in record.headers()}  # type: ignore[union-attr, str-unpack]
            found.append((record.topic() or "", record.key() or b"", headers, json.loads(record.value() or b"")))
    finally:
        consumer.close()
    return found


def assert_events_in_order(home: Home) -> int:
    """Of each key, first occurrences stand in the order in which they were emitted; how many repeats there are."""
    emitted = {message_id: number for number, message_id in home.query("SELECT id, message_id FROM outbox ORDER BY id")}
    seen: set[str] = set()
    last_of_key: dict[tuple[str, bytes], int] = defaultdict(int)
    sequences: dict[str, list[int]] = defaultdict(list)
    repeats = 0
    for topic, key, headers, body in read_events(home):
        if headers["ce_id"] in seen:
            repeats += 1
            continue
        seen.add(headers["ce_id"])
        number = emitted[headers["ce_id"]]
        assert number > last_of_key[topic, key], f"{headers} came after its successor"
        last_of_key[topic, key] = number
        if headers["ce_type"] == "accounting.transaction-applied.v1":
            sequences[body["worker_id"]].append(body["sequence"])
    assert seen == emitted.keys(), "every event that was emitted is on its topic"
    assert all(of_worker == list(range(1, len(of_worker) + 1)) for of_worker in sequences.values())
    assert sum(map(len, sequences.values())) == TOTALS["transactions"]
    return repeats


def test_the_files_are_what_the_generator_makes() -> None:
    """The committed messages and totals come from `generate.py` and from nowhere else."""
    command = [sys.executable, str(DAY / "generate.py"), "--check"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr


def test_the_day_comes_to_the_foreseen_totals_and_sending_it_again_changes_nothing(home: Home) -> None:
    """What the README promises: exact totals, then only duplicates."""
    home.start_broker()
    app = home.start_app()
    send_the_day(home)
    audit(home)
    assert_conserved(home)
    assert_posted_once(home)
    assert assert_events_in_order(home) == 0
    late = home.query("SELECT DISTINCT period, business_date FROM ledger_transfer WHERE note LIKE 'Forgotten%'")
    assert late == [("2026-11-21", "2026-11-20")], "what came after the close counts for the next day"

    before, counted = effects(home), progress(home)
    send_the_day(home)
    audit(home)
    assert effects(home) == before
    assert_conserved(home)
    for group, records in records_per_group().items():
        more = {name: count - counted[group][name] for name, count in progress(home)[group].items() if count}
        assert more == {"consumed": records, "handled": 0, "duplicate": records}, group
    assert app.stop() == 0, app.said


def test_killing_the_app_in_the_middle_of_the_work_changes_no_total(home: Home) -> None:
    """Three times SIGKILL while records are being handled and events published: nothing is lost, nothing doubled."""
    home.start_broker()
    app = home.start_app()
    sending = home.start("send", "--file", "-", "--timeout", "80", "--deliver-within", "80", given=whole_day())
    expected = sum(records_per_group().values()) + sum(
        TOTALS[name] for name in ("tasks_created", "assignments", "tasks_completed")
    )
    for kill in range(1, KILLS + 1):
        kill_when_busy(home, app, sending, kill * expected // (KILLS + 1))
        app = home.start_app()
    assert sending.wait(80) == 0, sending.said
    home.run("wait", "--settled")
    audit(home)
    assert_conserved(home)
    assert_posted_once(home)
    assert_events_in_order(home)


def kill_when_busy(home: Home, app: RunningProcess, sending: RunningProcess, records: int) -> None:
    """SIGKILL once so many records have been taken and there are events that are committed and not yet marked sent."""
    unsent = "SELECT count(*) FROM outbox WHERE sent_at_ms IS NULL"

    def is_busy() -> bool:
        consumed = home.query("SELECT coalesce(sum(consumed), 0) FROM progress")[0][0]
        return bool(consumed >= records and home.query(unsent)[0][0])

    wait_until(is_busy, 60, lambda: sending.said + app.said)
    app.kill()
    if not home.query(unsent)[0][0]:
        raise ProcessTrouble("it was killed at rest, which proves nothing")
