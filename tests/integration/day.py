"""The day of the example: sent to an app, and what must have come of it, whatever happened to the app meanwhile."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from contracts.catalog import entry_for
from streams.app import SUBSCRIPTIONS
from tests.integration.processes import ROOT, ProcessTrouble, wait_until

if TYPE_CHECKING:
    from tests.integration.processes import Home, RunningProcess

DAY = ROOT / "examples" / "a-day-at-work"
PARTS = sorted(DAY.glob("*.jsonl"))
TOTALS = json.loads((DAY / "totals.json").read_text())
EVENT_TOPICS = ("tasks.events", "accounting.events")
SETTINGS = {"PAYDAY_SECRET": "a-day-at-work", "PAYDAY_TIME_ZONE": "UTC"}
"""What the totals were computed with."""


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


def foreseen_records() -> int:
    """How many records all groups together will have taken when the day is over, about."""
    events = sum(TOTALS[name] for name in ("tasks_created", "assignments", "tasks_completed"))
    return int(sum(records_per_group().values()) + events)


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
    consumer = Consumer(
        {
            "bootstrap.servers": home.bootstrap_servers,
            "group.id": home.topic_prefix + "a-day-at-work-reader",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    found = []
    try:
        partitions = [
            TopicPartition(topic, number, OFFSET_BEGINNING)
            for topic in (home.topic_prefix + name for name in EVENT_TOPICS)
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
