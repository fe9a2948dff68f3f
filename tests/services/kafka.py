"""A real Kafka as tests see it: an address, topics, groups, and the means to break it.

Invariant: every call is bounded. They block; a test with a running event loop calls those that take long (`restart`,
`stop`) through `asyncio.to_thread`.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec  # type: ignore[attr-defined]

from tests.services.process import wait_until
from tests.services.required import leave_test

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from concurrent.futures import Future

__all__ = ["Kafka", "Offsets"]

ANSWER_SECONDS = 15.0
LOOK_SECONDS = 0.05
PASSING = (
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError._NOENT,  # librdkafka's own, for no leaders at all
)
"""What a broker answers until it leads its partitions again."""
Answer = TypeVar("Answer")
Offsets = dict[tuple[str, int], int]
"""(topic, partition): offset."""


class Kafka:
    """A cluster somewhere. What only its owner can do skips the test; `LocalKafka` can do it.

    Args:
        address: bootstrap servers.
        described: for the line at the end of a test run.
        replication: of topics made here.
    """

    def __init__(self, address: str, described: str, *, replication: int = 1) -> None:
        self.address = address
        self.described = described
        self.replication = replication
        self._admin_client: AdminClient | None = None
        self._group_clients: dict[str, Consumer] = {}

    def create_topic(self, name: str, partitions: int = 4, config: Mapping[str, str] | None = None) -> None:
        """Make a topic and wait until its partitions have leaders.

        Raises:
            KafkaException: it exists, or Kafka does not answer in time.
        """
        new = NewTopic(name, partitions, self.replication, config=dict(config or {}))
        self._admin.create_topics([new], request_timeout=ANSWER_SECONDS)[name].result(ANSWER_SECONDS)
        wait_until(
            lambda: self._led_partitions(name) == partitions, ANSWER_SECONDS, lambda: f"topic {name} has no leaders"
        )

    def topics(self, prefix: str = "") -> list[str]:
        """The names of the topics that begin so, without Kafka's own."""
        names = self._admin.list_topics(timeout=ANSWER_SECONDS).topics
        return sorted(name for name in names if name.startswith(prefix) and not name.startswith("__"))

    def groups(self, prefix: str = "") -> list[str]:
        """The names of the consumer groups that begin so."""
        found = self._admin.list_consumer_groups(request_timeout=ANSWER_SECONDS).result(ANSWER_SECONDS)
        return sorted(group.group_id for group in found.valid if group.group_id.startswith(prefix))

    def delete_prefix(self, prefix: str) -> None:
        """Delete the topics and the groups that begin so. A group that still has members stays."""
        assert prefix, "an empty prefix would delete everything"
        topics = self.topics(prefix)
        pending = [*self._admin.delete_topics(topics, request_timeout=ANSWER_SECONDS).values()] if topics else []
        for future in pending:
            _ignoring(future, KafkaError.UNKNOWN_TOPIC_OR_PART)
        groups = self.groups(prefix)
        pending = [*self._admin.delete_consumer_groups(groups).values()] if groups else []
        for future in pending:
            _ignoring(future, KafkaError.NON_EMPTY_GROUP, KafkaError.GROUP_ID_NOT_FOUND)

    def watermarks(self, topic: str) -> dict[tuple[str, int], tuple[int, int]]:
        """(topic, partition): the offset of the first record that is kept, and the offset of the next one to come."""
        return self._patiently(lambda: self._watermarks(topic))

    def _watermarks(self, topic: str) -> dict[tuple[str, int], tuple[int, int]]:
        partitions = [TopicPartition(topic, number) for number in self._partitions(topic)]
        earliest: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
        latest: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        first = self._admin.list_offsets(dict.fromkeys(partitions, earliest), request_timeout=ANSWER_SECONDS)
        after = self._admin.list_offsets(dict.fromkeys(partitions, latest), request_timeout=ANSWER_SECONDS)
        return {
            (one.topic, one.partition): (
                first[one].result(ANSWER_SECONDS).offset,
                after[one].result(ANSWER_SECONDS).offset,
            )
            for one in partitions
        }

    def read(self, topic: str, timeout_seconds: float = ANSWER_SECONDS) -> list[tuple[int, bytes | None, bytes | None]]:
        """Every record that is kept, as (partition, key, value), in the order of each partition; commits nothing.

        Raises:
            KafkaException: not all of them came in time.
        """
        marks = self.watermarks(topic)
        left = {partition: after for (_, partition), (first, after) in marks.items() if after > first}
        consumer = Consumer(
            {"bootstrap.servers": self.address, "group.id": "unused", "enable.auto.commit": False, "log_level": 0}
        )
        records: list[tuple[int, bytes | None, bytes | None]] = []
        try:
            consumer.assign([TopicPartition(topic, partition, marks[topic, partition][0]) for partition in left])
            while left:
                record = consumer.poll(timeout_seconds)
                if record is None:
                    raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"records of {topic} are missing"))
                if (error := record.error()) is not None:
                    raise KafkaException(error)
                partition, offset = record.partition(), record.offset()
                assert partition is not None, "a record has a partition"
                assert offset is not None, "a record has an offset"
                records.append((partition, record.key(), record.value()))
                if offset + 1 >= left[partition]:
                    del left[partition]
                    consumer.incremental_unassign([TopicPartition(topic, partition)])
        finally:
            consumer.close()
        return records

    def committed(self, group: str) -> Offsets:
        """What a group has committed; partitions without a committed offset are left out."""
        return self._patiently(lambda: self._committed(group))

    def _committed(self, group: str) -> Offsets:
        topics = self._admin.list_topics(timeout=ANSWER_SECONDS).topics
        partitions = [
            TopicPartition(name, number)
            for name, topic in topics.items()
            if not name.startswith("__")
            for number in topic.partitions
        ]
        answer = self._group_client(group).committed(partitions, timeout=ANSWER_SECONDS) if partitions else []
        return {(one.topic, one.partition): one.offset for one in answer if one.offset >= 0}

    def set_committed(self, group: str, offsets: Mapping[tuple[str, int], int]) -> None:
        """Set a group's committed offsets back or forward.

        Raises:
            KafkaException: it has members, or Kafka does not answer in time.
        """
        wanted = [TopicPartition(topic, partition, offset) for (topic, partition), offset in offsets.items()]
        self._patiently(lambda: self._group_client(group).commit(offsets=wanted, asynchronous=False))

    def forget_group(self, group: str) -> None:
        """Delete a group with all it has committed, as Kafka does with one that was away too long.

        Raises:
            KafkaException: it has members, is unknown, or Kafka does not answer in time.
        """
        self._admin.delete_consumer_groups([group], request_timeout=ANSWER_SECONDS)[group].result(ANSWER_SECONDS)

    def delete_records(self, topic: str, partition: int, before_offset: int) -> None:
        """Delete the records below an offset at once, as retention does in time.

        Raises:
            KafkaException: the offset is beyond the end, or Kafka does not answer in time.
        """
        wanted = [TopicPartition(topic, partition, before_offset)]
        self._patiently(
            lambda: [
                future.result(ANSWER_SECONDS)
                for future in self._admin.delete_records(wanted, request_timeout=ANSWER_SECONDS).values()
            ]
        )

    def kill(self, broker: int = 0) -> None:
        """SIGKILL to a broker, counted from 0."""
        leave_test("killing a broker", self.described)

    def freeze(self, broker: int = 0) -> None:
        """SIGSTOP to a broker: its connections stay and nothing is answered."""
        leave_test("freezing a broker", self.described)

    def thaw(self, broker: int = 0) -> None:
        """SIGCONT to a broker."""
        leave_test("thawing a broker", self.described)

    def restart(self, broker: int = 0) -> None:
        """Start a broker that was killed or stopped on its old data and address; one that runs is stopped first."""
        leave_test("restarting a broker", self.described)

    def stop(self, broker: int = 0) -> None:
        """End a broker in order."""
        leave_test("stopping a broker", self.described)

    def prepare_groups(self) -> None:
        """Have Kafka make the topic of its committed offsets now, so that no test's first consumer waits for it."""
        self._patiently(self._delete_nobody)

    def _delete_nobody(self) -> None:
        asked = self._admin.delete_consumer_groups(["nobody"], request_timeout=ANSWER_SECONDS)
        _ignoring(asked["nobody"], KafkaError.GROUP_ID_NOT_FOUND)

    def disconnect(self) -> None:
        """Give up every connection; the next call makes them anew."""
        for client in self._group_clients.values():
            client.close()
        self._group_clients.clear()
        self._admin_client = None

    def answers(self) -> bool:
        """Whether it tells its brokers within a second."""
        # A client of its own each time: one that was refused waits before it connects again.
        client = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
        with suppress(KafkaException):
            return bool(client.list_topics(timeout=1.0).brokers)
        return False

    def brokers(self) -> int:
        """How many brokers are in the cluster now."""
        return len(self._admin.list_topics(timeout=ANSWER_SECONDS).brokers)

    @property
    def _admin(self) -> AdminClient:
        if self._admin_client is None:
            self._admin_client = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
        return self._admin_client

    def _group_client(self, group: str) -> Consumer:
        """A client that speaks for a group without joining it.

        Not `AdminClient.list_consumer_group_offsets`: where a coordinator is only just made, librdkafka's answer to it
        is a segmentation fault.
        """
        if group not in self._group_clients:
            self._group_clients[group] = Consumer(
                {"bootstrap.servers": self.address, "group.id": group, "enable.auto.commit": False, "log_level": 0}
            )
        return self._group_clients[group]

    def _patiently(self, ask: Callable[[], Answer]) -> Answer:
        """Ask again, knowing the leaders of now, while the answer is that a broker is only just back."""
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            try:
                return ask()
            except KafkaException as error:
                passes = error.args[0].retriable() or error.args[0].code() in PASSING
                if not passes or time.monotonic() >= deadline:
                    raise
                time.sleep(LOOK_SECONDS)
                self._admin.list_topics(timeout=ANSWER_SECONDS)

    def _partitions(self, topic: str) -> Iterable[int]:
        return self._admin.list_topics(topic, timeout=ANSWER_SECONDS).topics[topic].partitions

    def _led_partitions(self, topic: str) -> int:
        partitions = self._admin.list_topics(topic, timeout=ANSWER_SECONDS).topics[topic].partitions
        return sum(one.leader >= 0 for one in partitions.values())


def _ignoring(future: Future[Any], *codes: int) -> None:
    try:
        future.result(ANSWER_SECONDS)
    except KafkaException as error:
        if error.args[0].code() not in codes:
            raise
