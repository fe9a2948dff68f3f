"""The topics as they should be and as Kafka has them.

    Exception
    └── TopicsNotMade    Kafka refused to make one

The embedded broker makes a topic when it is first asked for, knows no configuration, and is told apart by its cluster's
id.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # documented, but not marked as exported
    AdminClient,
    ConfigResource,
    NewTopic,
)

from streams.inspection.log_ends import MOCK_CLUSTER, BrokerUnreachable
from streams.outbox.producer import MESSAGE_MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["PARTITIONS", "RETENTION_DAYS", "TopicAdmin", "TopicPlan", "TopicState", "TopicsNotMade", "findings"]

PARTITIONS = 4
REPLICATION_MAX = 3
"""What a topic gets where the cluster has as many brokers."""
RETENTION_DAYS = 7.0
DAY_MS = 86_400_000
TIMEOUT_SECONDS = 30.0
UNLIMITED_MS = -1


class TopicsNotMade(Exception):
    """Kafka refused to make a topic; the text says which and why."""


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """How a topic is to be made.

    Attributes:
        partitions: how many. A key's partition follows from it, so it cannot change under way without a quiet outbox.
        replication: on how many brokers each partition lies; None: on three, or on all where there are fewer.
        min_insync_replicas: how many must have a record before `acks=all` acknowledges it; None: one fewer than the
            replicas, so that one broker may be away, and at least one.
        retention_days: how long records are kept, read or not.
    """

    partitions: int = PARTITIONS
    replication: int | None = None
    min_insync_replicas: int | None = None
    retention_days: float = RETENTION_DAYS

    def on(self, brokers: int) -> TopicPlan:
        """The plan with everything decided for a cluster of so many brokers."""
        replication = self.replication or min(REPLICATION_MAX, brokers)
        return TopicPlan(
            self.partitions, replication, self.min_insync_replicas or max(1, replication - 1), self.retention_days
        )


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as Kafka has it. `retention_ms` is -1 for ever."""

    partitions: int
    replication: int
    min_insync_replicas: int
    retention_ms: int
    cleanup_policy: str
    max_message_bytes: int


@dataclass(frozen=True, slots=True)
class Cluster:
    """What answers at an address."""

    brokers: int
    is_embedded: bool
    topics: Mapping[str, TopicState | None]
    """None where a topic that was asked for does not exist."""


class TopicAdmin:
    """Asks and changes one Kafka.

    Args:
        bootstrap_servers: where it is.
        timeout_seconds: of each question.
    """

    def __init__(self, bootstrap_servers: str, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._timeout_seconds = timeout_seconds

    async def look(self, names: Sequence[str]) -> Cluster:
        """How these topics are now.

        Raises:
            BrokerUnreachable: nobody answers.
        """
        cluster: Cluster = await self._ask(self._look, names)
        return cluster

    async def create(self, names: Iterable[str], plan: TopicPlan) -> None:
        """Make topics that do not exist.

        Raises:
            BrokerUnreachable: nobody answers.
            TopicsNotMade: Kafka refused.
        """
        await self._ask(self._create, list(names), plan)

    async def _ask(self, question: Any, *arguments: Any) -> Any:
        try:
            return await asyncio.to_thread(question, *arguments)
        except KafkaException as error:
            raise BrokerUnreachable(
                f"Kafka at {self._bootstrap_servers} does not answer: {error.args[0].str()}"
            ) from error

    def _client(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self._bootstrap_servers, "log_level": 0})

    def _look(self, names: Sequence[str]) -> Cluster:
        client = self._client()
        metadata = client.list_topics(timeout=self._timeout_seconds)
        embedded = str(metadata.cluster_id).startswith(MOCK_CLUSTER)
        there = [name for name in names if name in metadata.topics]
        topics: dict[str, TopicState | None] = dict.fromkeys(names)
        if not embedded and there:
            answers = client.describe_configs(
                [ConfigResource(ConfigResource.Type.TOPIC, name) for name in there],
                request_timeout=self._timeout_seconds,
            )
            for resource, answer in answers.items():
                config = {entry.name: entry.value for entry in answer.result(self._timeout_seconds).values()}
                partitions = metadata.topics[resource.name].partitions
                topics[resource.name] = TopicState(
                    len(partitions),
                    min((len(partition.replicas) for partition in partitions.values()), default=0),
                    int(config["min.insync.replicas"]),
                    int(config["retention.ms"]),
                    config["cleanup.policy"],
                    int(config["max.message.bytes"]),
                )
        return Cluster(len(metadata.brokers), embedded, topics)

    def _create(self, names: list[str], plan: TopicPlan) -> None:
        client = self._client()
        decided = plan.on(len(client.list_topics(timeout=self._timeout_seconds).brokers))
        assert decided.replication is not None
        retention_ms = UNLIMITED_MS if decided.retention_days < 0 else round(decided.retention_days * DAY_MS)
        config = {
            "min.insync.replicas": str(decided.min_insync_replicas),
            "retention.ms": str(retention_ms),
            "cleanup.policy": "delete",
        }
        if not names:
            return
        answers = client.create_topics(
            [NewTopic(name, decided.partitions, decided.replication, config=config) for name in names],
            request_timeout=self._timeout_seconds,
        )
        for name, answer in answers.items():
            try:
                answer.result(self._timeout_seconds)
            except KafkaException as error:
                raise TopicsNotMade(f"Kafka does not make {name}: {error.args[0].str()}") from error


def findings(states: Mapping[str, TopicState | None], plan: TopicPlan) -> tuple[list[str], list[str]]:
    """What is wrong with the topics, and what is worth knowing.

    Returns:
        Problems, because of which records would be refused or lost, and notes on what differs from the plan.
    """
    problems: list[str] = []
    noted: dict[str, list[str]] = {}
    for name, state in states.items():
        if state is None:
            problems.append(f"{name} does not exist")
            continue
        if "compact" in state.cleanup_policy:
            problems.append(f"{name} is compacted: earlier records of a key would vanish; set cleanup.policy=delete")
        if state.max_message_bytes < MESSAGE_MAX_BYTES:
            problems.append(
                f"{name} takes {state.max_message_bytes} bytes a record at most; set max.message.bytes to "
                f"{MESSAGE_MAX_BYTES} or more"
            )
        if state.min_insync_replicas > state.replication:
            problems.append(
                f"{name} wants {state.min_insync_replicas} replicas in sync and has {state.replication}: "
                "nothing can be written to it"
            )
        elif state.replication > 1 and state.min_insync_replicas == 1:
            problems.append(
                f"{name} has {state.replication} replicas and min.insync.replicas=1: what one broker acknowledged "
                "is lost with it; set it to 2"
            )
        for note in _notes(state, plan):
            noted.setdefault(note, []).append(name)
    notes = [
        f"{note}: {'all topics' if len(names) == len(states) else ', '.join(names)}" for note, names in noted.items()
    ]
    return problems, notes


def _notes(state: TopicState, plan: TopicPlan) -> Iterable[str]:
    if state.replication == 1:
        yield "on one broker only"
    if state.partitions != plan.partitions:
        yield f"{state.partitions} partitions, not {plan.partitions}"
    wanted_ms = UNLIMITED_MS if plan.retention_days < 0 else round(plan.retention_days * DAY_MS)
    if state.retention_ms != wanted_ms:
        kept = "for ever" if state.retention_ms < 0 else f"{state.retention_ms / DAY_MS:g} days"
        yield f"records are kept {kept}, not {'for ever' if wanted_ms < 0 else f'{plan.retention_days:g} days'}"
