"""`payday topics` on a real Kafka: what is missing is made, what is dangerous is said, and `payday run` looks first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # documented, but not marked as exported
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)

from contracts.catalog import topics
from tests.integration.processes import Home

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.services.kafka import Kafka
    from tests.services.kafka_local import LocalKafka

ANSWER_SECONDS = 15.0
STOP_SECONDS = 30.0
DAY_MS = 86_400_000
WORKER = '{"worker_id": "ada00000-0000-4000-8000-000000000001", "name": "A", "email": "a@b.c", "role": "worker"}'
TASK = '{"task_id": "7a5c0000-0000-4000-8000-000000000001", "title": "t"}'


def home_on(kafka: Kafka, directory: Path, prefix: str = "") -> Home:
    """A home whose Kafka is this one."""
    names = {"PAYDAY_TOPIC_PREFIX": prefix, "PAYDAY_GROUP_PREFIX": prefix or "payday."}
    return Home(directory, PAYDAY_KAFKA_BOOTSTRAP_SERVERS=kafka.address, **names)


@pytest.fixture
def home(kafka: Kafka, kafka_prefix: str, tmp_path: Path) -> Iterator[Home]:
    with home_on(kafka, tmp_path, kafka_prefix) as home:
        yield home


def test_run_refuses_to_start_without_topics_and_the_command_that_it_names_mends_it(
    home: Home, kafka: Kafka, kafka_prefix: str
) -> None:
    """Nobody has to guess: `payday topics create` is named, makes them all, and is harmless a second time."""
    names = sorted(kafka_prefix + name for name in topics())
    refused, checked = home.start("run"), home.start("topics", "check")
    assert (refused.wait(STOP_SECONDS), checked.wait(STOP_SECONDS)) == (1, 1)
    assert refused.output == ""
    for process in (refused, checked):
        assert "`payday topics create`" in process.errors
        assert all(name in process.errors for name in names)

    home.run("topics", "create", "--partitions", "6", "--retention-days", "2")
    assert kafka.topics(kafka_prefix) == names
    found = home.run_json("topics", "check", "--partitions", "6", "--retention-days", "2")
    assert found["ok"] is True
    assert {(state["partitions"], state["retention_ms"]) for state in found["topics"].values()} == {(6, 2 * DAY_MS)}
    assert home.run("topics", "create") == f"{len(names)} exist already\n"
    assert home.run_json("topics", "check", "--partitions", "6", "--retention-days", "2") == found
    assert "6 partitions, not 4" in home.run("topics", "check")
    assert home.start_app().stop() == 0


def test_topics_on_three_brokers_survive_the_loss_of_one(kafka_cluster: LocalKafka, tmp_path: Path) -> None:
    """Three replicas, two of which must have a record; one that is enough alone is told by `check` and by `run`."""
    with home_on(kafka_cluster, tmp_path) as home:
        home.run("topics", "create")
        found = home.run_json("topics", "check")
        assert (found["ok"], found["brokers"]) == (True, 3)
        assert {(one["replication"], one["min_insync_replicas"]) for one in found["topics"].values()} == {(3, 2)}

        set_config(kafka_cluster, "tasks.events", "min.insync.replicas", "1")
        danger = "tasks.events has 3 replicas and min.insync.replicas=1"
        checked, app = home.start("topics", "check", "--json"), home.start("run")
        assert checked.wait(STOP_SECONDS) == 1, checked.said
        assert danger in checked.output
        assert app.wait_for_first_line(60) == "ready"
        assert danger in app.errors

        kafka_cluster.kill(2)
        home.run("send", "workers.worker-registered.v1", "--data", WORKER)
        home.run("send", "tasks.create-task.v1", "--data", TASK)
        home.run("wait", "--settled")
        assert home.query("SELECT count(*) FROM ledger_transfer") == [(1,)]
        assert app.stop() == 0, app.said


def set_config(kafka: Kafka, topic: str, name: str, value: str) -> None:
    """Change one setting of a topic, as an operator's tool would."""
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    client = AdminClient({"bootstrap.servers": kafka.address, "log_level": 0})
    for changed in client.incremental_alter_configs([resource], request_timeout=ANSWER_SECONDS).values():
        changed.result(ANSWER_SECONDS)
