"""One walk through the command line: messages in, money out, and every command tells the same story."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from confluent_kafka import Producer

from tests.integration.processes import Home

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WORKERS = [str(uuid4()) for _ in range(5)]
MANAGER = str(uuid4())
TASKS = [str(uuid4()) for _ in range(30)]
JUNK = (b"\xff\x00 not json", b'{"worker_id": 7}')


def line(type_name: str, **data: Any) -> dict[str, Any]:
    return {"type": type_name, "id": str(uuid4()), "data": data}


def lines() -> list[dict[str, Any]]:
    """People, then tasks, then a reassignment and what is refused."""
    people = [(worker, "worker") for worker in WORKERS] + [(MANAGER, "manager")]
    return [
        *(
            line("workers.worker-registered.v1", worker_id=who, name="N", email="n@example.org", role=role)
            for who, role in people
        ),
        {"wait": "settled"},
        *(line("tasks.create-task.v1", task_id=task, title="[POP-1] - Sweep") for task in TASKS),
        {"wait": "settled"},
        line("tasks.create-task.v1", task_id=TASKS[0], title="again"),
        line("tasks.complete-task.v1", task_id=TASKS[1], worker_id=MANAGER),
        line("tasks.reassign-open-tasks.v1", requested_by=MANAGER),
        line("accounting.close-period.v1", period="2999-01-01"),
    ]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home in which the whole walk has been made."""
    with Home(tmp_path_factory.mktemp("walk")) as home:
        address = home.start_broker()
        home.start_app()
        file = home.directory / "day.jsonl"
        file.write_text("\n".join(map(json.dumps, lines())))
        sent = home.run_json("send", "--file", str(file))
        assert sent == {"sent": 40, "stored": 0, "skipped": 0, "ids": [one["id"] for one in lines_of(file)]}
        produce_junk(address)
        home.run("wait", "--settled")
        yield home


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [found for text in file.read_text().splitlines() if "id" in (found := json.loads(text))]


def produce_junk(address: str) -> None:
    """Records that no consumer can make sense of."""
    producer = Producer({"bootstrap.servers": address})
    for value in JUNK:
        headers: list[tuple[str, str | bytes | None]] = [
            ("ce_id", str(uuid4())),
            ("ce_source", "elsewhere"),
            ("ce_type", "workers.worker-registered.v1"),
        ]
        producer.produce("workers.events", key=b"junk", value=value, headers=headers)
    assert producer.flush(30) == 0


def test_the_audit_and_the_totals_agree(home: Home) -> None:
    """Every task was charged when it was created and when it was reassigned, and three commands were refused."""
    totals = {
        "tasks_created": 30,
        "assignments": 60,
        "tasks_completed": 0,
        "transactions": 60,
        "rejected": {"task-exists": 1, "not-the-assignee": 1, "period-not-over": 1},
    }
    file = home.directory / "totals.json"
    file.write_text(json.dumps(totals))
    found = home.run_json("audit", "--settled", "--expect", str(file))
    assert found["ok"] is True
    assert set(found["checks"].values()) == {0}
    assert {"conservation", "assignment-charged", "expected-totals"} <= set(found["checks"])
    assert "rows that break it" in home.run("audit")


def test_the_audit_names_a_total_that_differs(home: Home) -> None:
    """Exit code 1, the JSON still on standard output, and the number in words."""
    file = home.directory / "wrong.json"
    file.write_text('{"transactions": 61}')
    audit = home.start("audit", "--expect", str(file), "--json")
    assert audit.wait(60) == 1
    assert json.loads(audit.output)["checks"]["expected-totals"] == 1
    assert "what=transactions expected=61 found=60" in audit.errors


def test_the_statements_add_up(home: Home) -> None:
    """The accounts together are what the fees were, and the table says the same."""
    balances = 0
    entries = 0
    for worker in WORKERS:
        account = home.start("ledger", worker, "--json")
        if account.wait(60) == 0:
            found = json.loads(account.output)
            assert found["worker_id"] == worker
            assert found["balance_minor"] == sum(one["amount_minor"] for one in found["entries"])
            balances += found["balance_minor"]
            entries += len(found["entries"])
    assert entries == 60
    assert [(balances,)] == home.query("SELECT sum(signed_minor) FROM ledger_transfer")
    worker = next(row[0] for row in home.query("SELECT worker_id FROM ledger_account"))
    assert "balance: -" in home.run("ledger", worker)


def test_events_are_read_from_the_beginning_to_the_end(home: Home) -> None:
    """By topic, type and key; without joining a group."""
    assert len(home.run_json("events", "--topic", "tasks.events", "--type", "tasks.task-assigned.v1")) == 60
    of_one = home.run_json("events", "--topic", "tasks.events", "--key", TASKS[0])
    assert [one["type"] for one in of_one] == [
        "tasks.task-created.v1",
        "tasks.task-assigned.v1",
        "tasks.command-rejected.v1",
        "tasks.task-assigned.v1",
    ]
    assert of_one[0]["data"] == {"task_id": TASKS[0], "title": "[POP-1] - Sweep"}
    junk = home.run_json("events", "--topic", "workers.events", "--key", "junk")
    assert [one["data"] for one in junk] == [{"base64": "/wAgbm90IGpzb24="}, {"worker_id": 7}]
    assert len(home.run_json("events", "--limit", "3")) == 3
    assert home.run_json("events", "--topic", "accounting.admin-commands", "--key", "nobody") == []
    assert "tasks.task-created.v1" in home.run("events", "--topic", "tasks.events")


def test_status_shows_everything_read_and_the_junk_parked(home: Home) -> None:
    """Both groups read workers.events, so both have parked the two records."""
    found = home.run_json("status")
    for group in ("payday.tasks", "payday.accounting"):
        counts = found["groups"][group]
        assert (counts["lag"], counts["parked"], counts["dead"]) == (0, 2, 2)
        assert counts["consumed"] == counts["handled"] + counts["duplicate"] + counts["parked"] + counts["discarded"]
    assert (found["unsent"], found["oldest_unsent_age_seconds"]) == (0, None)
    assert "payday.tasks" in home.run("status")
    outbox = home.run_json("outbox", "status")
    assert (outbox["unsent"], outbox["oldest_age_seconds"], outbox["breaker"]) == (0, None, "closed")


def test_dead_letters_are_listed_and_shown(home: Home) -> None:
    """With the reason, by cause, and whole."""
    found = home.run_json("dead-letters", "list", "--group", "payday.tasks")
    assert {one["reason"] for one in found} == {"undecodable", "invalid"}
    assert all(one["topic"] == "workers.events" and one["state"] == "dead" and one["key"] == "junk" for one in found)
    causes = home.run_json("dead-letters", "list", "--by-cause")
    assert {(one["group"], one["reason"], one["count"]) for one in causes} == {
        (group, reason, 1) for group in ("payday.tasks", "payday.accounting") for reason in ("undecodable", "invalid")
    }
    undecodable = next(one["id"] for one in found if one["reason"] == "undecodable")
    whole = home.run_json("dead-letters", "show", str(undecodable))
    assert whole["value"] == {"base64": "/wAgbm90IGpzb24="}
    assert ["ce_source", "elsewhere"] in whole["headers"]
    assert "undecodable" in home.run("dead-letters", "show", str(undecodable))
    assert home.run_json("dead-letters", "list", "--state", "retrying") == []


def test_sending_the_same_lines_again_changes_nothing(home: Home) -> None:
    """Their ids are known: duplicates, and no event."""
    before = home.query("SELECT count(*), sum(balance_minor) FROM ledger_account")
    assert home.run("send", "--file", str(home.directory / "day.jsonl")) == "sent 40\n"
    home.run("wait", "--settled")
    assert home.query("SELECT count(*), sum(balance_minor) FROM ledger_account") == before
    assert sum(counts["duplicate"] for counts in home.run_json("status")["groups"].values()) >= 40


def test_bad_lines_are_left_out_when_asked(home: Home) -> None:
    """The good ones are sent, the others named with their numbers."""
    good = line("workers.worker-deactivated.v1", worker_id=str(uuid4()))
    given = "\n".join(["nonsense", json.dumps(good), '{"type": "tasks.create-task.v1", "data": {}}']).encode()
    sending = home.start("send", "--file", "-", "--skip-invalid", "--json", given=given)
    assert sending.wait(60) == 0, sending.said
    assert json.loads(sending.output) == {"sent": 1, "stored": 0, "skipped": 2, "ids": [good["id"]]}
    assert "left out -:1: is not JSON" in sending.errors
    assert "left out -:3: tasks.create-task.v1: task_id: is missing" in sending.errors


def test_one_message_is_sent_with_its_id_and_time(home: Home) -> None:
    """Headers as in a file's line."""
    worker, message = str(uuid4()), str(uuid4())
    data = json.dumps({"worker_id": worker})
    sent = home.run_json(
        "send", "workers.worker-deactivated.v1", "--data", data, "--id", message, "--time", "2026-01-02T03:04:05Z"
    )
    assert sent["ids"] == [message]
    (found,) = home.run_json("events", "--topic", "workers.events", "--key", worker)
    assert (found["id"], found["time"]) == (message, "2026-01-02T03:04:05.000Z")


def test_contracts_are_listed(home: Home) -> None:
    """Each with its topic and its fields, those that may be left out marked."""
    found = {one["type"]: one for one in home.run_json("contracts", "list")}
    assert found["tasks.create-task.v1"]["fields"] == ["task_id", "title"]
    assert "payout_id?" in found["accounting.transaction-applied.v1"]["fields"]
    assert "tasks.admin-commands" in home.run("contracts", "list")


def test_the_database_is_at_this_version(home: Home) -> None:
    """What the app made at its start is what the migrations and the tables say."""
    assert home.run_json("db", "check")["ok"] is True
    assert "already" in home.run("db", "upgrade")
