"""The services' own tests: what others build on holds for a real Kafka."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]

from tests.services.kafka import Kafka
from tests.services.process import wait_until

if TYPE_CHECKING:
    from tests.services.kafka_local import LocalKafka

ANSWER_SECONDS = 30.0


def send(kafka: Kafka, topic: str, values: list[bytes], **options: object) -> list[str | None]:
    """Send records to partition 0, all acknowledged by every replica in sync; the error of each, None where it went."""
    outcomes: list[str | None] = []
    producer = Producer({"bootstrap.servers": kafka.address, "acks": "all", "log_level": 0, "linger.ms": 0, **options})
    for value in values:
        producer.produce(
            topic,
            value,
            partition=0,
            on_delivery=lambda error, _record: outcomes.append(None if error is None else error.name()),
        )
    producer.flush(ANSWER_SECONDS)
    return outcomes


def values(kafka: Kafka, topic: str) -> list[bytes | None]:
    return [value for _, _, value in kafka.read(topic)]


def consume(kafka: Kafka, topic: str, group: str, count: int) -> None:
    """Read so many records in a group and commit behind the last."""
    consumer = Consumer(
        {"bootstrap.servers": kafka.address, "group.id": group, "auto.offset.reset": "earliest", "log_level": 0}
    )
    try:
        consumer.subscribe([topic])
        for _ in range(count):
            record = consumer.poll(ANSWER_SECONDS)
            assert record is not None, f"a record of {topic} did not come"
            assert record.error() is None
        consumer.commit(asynchronous=False)
    finally:
        consumer.close()


def test_what_is_sent_is_read_and_the_commit_of_the_group_is_seen(kafka: Kafka, kafka_prefix: str) -> None:
    topic, group = f"{kafka_prefix}a", f"{kafka_prefix}group"
    kafka.create_topic(topic, 2)
    assert send(kafka, topic, [b"1", b"2", b"3"]) == [None] * 3
    consume(kafka, topic, group, 2)
    assert values(kafka, topic) == [b"1", b"2", b"3"]
    assert kafka.committed(group) == {(topic, 0): 2}
    assert kafka.watermarks(topic) == {(topic, 0): (0, 3), (topic, 1): (0, 0)}


def test_a_topic_is_made_with_its_partitions_and_settings(kafka: Kafka, kafka_prefix: str) -> None:
    topic = f"{kafka_prefix}a"
    kafka.create_topic(topic, 3, {"max.message.bytes": "1000"})
    assert len(kafka.watermarks(topic)) == 3
    assert send(kafka, topic, [b"x" * 2000]) == ["MSG_SIZE_TOO_LARGE"]


def test_a_topic_that_nobody_made_is_an_error(kafka: Kafka, kafka_prefix: str) -> None:
    options = {"topic.metadata.propagation.max.ms": 100}
    assert send(kafka, f"{kafka_prefix}a", [b"1"], **options) == ["UNKNOWN_TOPIC_OR_PART"]
    assert kafka.topics(kafka_prefix) == []


def test_retention_takes_records_from_the_front(kafka: Kafka, kafka_prefix: str) -> None:
    topic = f"{kafka_prefix}a"
    kafka.create_topic(topic, 1)
    send(kafka, topic, [b"1", b"2", b"3"])
    kafka.delete_records(topic, 0, 2)
    assert kafka.watermarks(topic) == {(topic, 0): (2, 3)}
    assert values(kafka, topic) == [b"3"]


def test_offsets_of_a_group_are_set_and_forgotten(kafka: Kafka, kafka_prefix: str) -> None:
    topic, group = f"{kafka_prefix}a", f"{kafka_prefix}group"
    kafka.create_topic(topic, 1)
    send(kafka, topic, [b"1", b"2", b"3"])
    consume(kafka, topic, group, 3)
    kafka.set_committed(group, {(topic, 0): 1})
    assert kafka.committed(group) == {(topic, 0): 1}
    kafka.forget_group(group)
    assert kafka.committed(group) == {}


def test_what_begins_with_a_prefix_is_deleted_and_nothing_else(kafka: Kafka, kafka_prefix: str) -> None:
    gone, kept = f"{kafka_prefix}gone.", f"{kafka_prefix}kept."
    for prefix in (gone, kept):
        kafka.create_topic(f"{prefix}a", 1)
        kafka.set_committed(f"{prefix}group", {(f"{prefix}a", 0): 0})
    kafka.delete_prefix(gone)
    assert kafka.topics(kafka_prefix) == [f"{kept}a"]
    assert kafka.groups(kafka_prefix) == [f"{kept}group"]


def test_a_kafka_of_somebody_else_is_not_broken_but_the_test_skipped() -> None:
    for harm in (Kafka.kill, Kafka.freeze, Kafka.thaw, Kafka.restart, Kafka.stop):
        with pytest.raises(pytest.skip.Exception, match="not: Kafka elsewhere"):
            harm(Kafka("127.0.0.1:1", "Kafka elsewhere"))


def test_a_killed_broker_comes_back_on_its_address_with_what_it_acknowledged(own_kafka: LocalKafka) -> None:
    own_kafka.create_topic("a", 1)
    sent = [b"%d" % number for number in range(500)]
    assert send(own_kafka, "a", sent) == [None] * 500
    consume(own_kafka, "a", "group", 500)
    own_kafka.kill()
    assert not own_kafka.answers()
    own_kafka.restart()
    assert values(own_kafka, "a") == sent
    assert own_kafka.committed("group") == {("a", 0): 500}


def test_a_frozen_broker_times_out_and_goes_on_when_thawed(own_kafka: LocalKafka) -> None:
    own_kafka.create_topic("a", 1)
    own_kafka.freeze()
    assert send(own_kafka, "a", [b"lost"], **{"message.timeout.ms": 500}) == ["_MSG_TIMED_OUT"]
    thaw = threading.Timer(0.5, own_kafka.thaw)
    thaw.start()
    assert send(own_kafka, "a", [b"kept"]) == [None]
    thaw.join()
    assert b"kept" in values(own_kafka, "a")


def test_three_brokers_take_records_while_one_is_gone_unless_a_topic_wants_all_three(kafka_cluster: LocalKafka) -> None:
    kafka_cluster.create_topic("a", 1)
    kafka_cluster.create_topic("strict", 1, {"min.insync.replicas": "3"})
    assert send(kafka_cluster, "a", [b"1"]) == send(kafka_cluster, "strict", [b"1"]) == [None]
    kafka_cluster.kill(0)
    assert send(kafka_cluster, "a", [b"2"]) == [None]
    assert send(kafka_cluster, "strict", [b"2"], retries=0) == ["NOT_ENOUGH_REPLICAS"]
    kafka_cluster.restart(0)
    wait_until(lambda: kafka_cluster.brokers() == 3, ANSWER_SECONDS, lambda: "a broker is missing")
    assert values(kafka_cluster, "a") == [b"1", b"2"]
    assert least_in_sync(kafka_cluster, "a") == "2"


def least_in_sync(kafka: Kafka, topic: str) -> str:
    """How many replicas must have a record before it is acknowledged."""
    wanted = ConfigResource(ConfigResource.Type.TOPIC, topic)
    admin = AdminClient({"bootstrap.servers": kafka.address})
    return str(admin.describe_configs([wanted])[wanted].result(ANSWER_SECONDS)["min.insync.replicas"].value)


def test_an_offset_beyond_the_end_cannot_be_deleted_to(kafka: Kafka, kafka_prefix: str) -> None:
    kafka.create_topic(f"{kafka_prefix}a", 1)
    with pytest.raises(KafkaException, match="OFFSET_OUT_OF_RANGE"):
        kafka.delete_records(f"{kafka_prefix}a", 0, 1)
