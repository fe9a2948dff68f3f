"""An operator's session: records that could not be handled are found, mended, replayed, given up, by commands alone."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from confluent_kafka import Producer

from tests.integration.processes import Home

if TYPE_CHECKING:
    from collections.abc import Iterator

TOPIC, KEY = "workers.events", b"shop"
WORKER = str(uuid4())
WHOLE = {"worker_id": WORKER, "name": "Ada", "email": "ada@example.org", "role": "worker"}
TASKS = ("--group", "payday.tasks")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A running app, and a stream with three causes of failure."""
    with Home(tmp_path_factory.mktemp("session")) as home:
        address = home.start_broker()
        home.start_app()
        producer = Producer({"bootstrap.servers": address})
        for type_name, value in (
            ("workers.worker-registered.v1", b"\xff not json"),
            ("workers.worker-registered.v1", json.dumps({**WHOLE, "role": "king"}).encode()),
            ("workers.worker-promoted.v9", b"{}"),
            ("workers.worker-registered.v1", json.dumps({**WHOLE, "worker_id": str(uuid4())}).encode()),
        ):
            headers: list[tuple[str, str | bytes | None]] = [
                ("ce_specversion", "1.0"),
                ("ce_id", str(uuid4())),
                ("ce_source", "shop"),
                ("ce_type", type_name),
            ]
            producer.produce(TOPIC, value, KEY, headers=headers)
        assert producer.flush(10) == 0
        home.start("wait", "--settled", "--timeout", "30").wait(60)
        yield home


def parked(home: Home) -> dict[str, int]:
    """Reason -> id."""
    return {one["reason"]: one["id"] for one in home.run_json("dead-letters", "list", *TASKS)}


def refused(home: Home, *arguments: str, code: int) -> str:
    process = home.start("dead-letters", *arguments)
    assert process.wait(60) == code, process.said
    return process.said


def action(home: Home, *arguments: str) -> Any:
    return home.run_json("dead-letters", *arguments)


def test_a_session(home: Home) -> None:
    """List, look, try, mend, replay, give up, export; every step is written down."""
    ids = parked(home)
    assert set(ids) == {"undecodable", "invalid", "unknown-type", "behind"}
    before = home.run_json("status")["groups"]["payday.tasks"]

    assert f"waits behind record {ids['unknown-type']}" in refused(home, "replay", str(ids["behind"]), code=1)
    plan = action(home, "replay", *TASKS, "--reason", "invalid", "--dry-run")
    assert (plan["replayed"], plan["dry_run"]) == ([ids["invalid"]], True)

    again = home.start("dead-letters", "replay", str(ids["invalid"]), "--wait", "--json")
    assert again.wait(60) == 1, again.said
    assert json.loads(again.output)["failed"] == [ids["invalid"]]

    assert "would be refused" in refused(home, "edit", str(ids["invalid"]), "--value", "{}", "--why", "w", code=2)
    mended = json.dumps(WHOLE)
    action(home, "edit", str(ids["invalid"]), "--value", mended, "--why", "no such role", "--who", "ann")
    done = action(home, "replay", str(ids["invalid"]), "--wait")
    assert done["resolved"] == [ids["invalid"]]
    shown = action(home, "show", str(ids["invalid"]))
    assert (json.loads(shown["value"])["role"], json.loads(shown["edited_value"])["role"]) == ("king", "worker")
    assert [one["action"] for one in shown["actions"]] == ["replay", "edit", "replay"]
    assert shown["actions"][1]["who"] == "ann"

    file = home.directory / "dead.jsonl"
    home.run("dead-letters", "export", *TASKS, "--file", str(file))
    exported = {one["id"]: one for one in map(json.loads, file.read_text().splitlines())}
    assert base64.b64decode(exported[ids["undecodable"]]["value"]) == b"\xff not json"

    assert "--why" in refused(home, "discard", str(ids["undecodable"]), code=2)
    gone = action(home, "discard", str(ids["undecodable"]), str(ids["unknown-type"]), "--why", "not ours")
    assert gone["discarded"] == sorted([ids["undecodable"], ids["unknown-type"]])
    home.run("wait", "--settled")
    assert parked(home) == {}  # the follower went on by itself
    after = home.run_json("status")["groups"]["payday.tasks"]
    assert (after["handled"], after["discarded"], after["parked"]) == (before["handled"] + 2, 2, 0)
    assert home.query("SELECT count(*) FROM tasks_worker") == [(2,)]


def test_what_is_senseless_is_refused(home: Home) -> None:
    """With exit code 2 and a line that says what to give."""
    assert "say which records" in refused(home, "replay", code=2)
    assert "--all leaves nothing" in refused(home, "export", "--all", *TASKS, code=2)
    assert "choose from undecodable" in refused(home, "replay", "--reason", "why", code=2)
    assert "no unresolved record" in refused(home, "replay", "999999", code=1)
    assert action(home, "acknowledge-gaps", "--why", "nothing is missing") == []
