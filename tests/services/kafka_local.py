"""Apache Kafka as processes of the tests: one broker or three, in KRaft mode, on loopback ports.

The settings shorten what a test would wait for (group rebalances, the time after which a dead broker is given up, the
size of Kafka's own topics); when and whether data is flushed is as Kafka has it.
"""

from __future__ import annotations

import base64
import os
import subprocess
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from tests.services.kafka import Kafka
from tests.services.kafka_jars import KAFKA_VERSION, Distribution, cache_lock
from tests.services.process import ServerProcess, ServerTrouble, free_port

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.services.process import Yard

__all__ = ["LocalKafka", "with_class_archive"]

START_SECONDS = 60.0
JAVA_FLAGS = ("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
LOG_FLAGS = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
)


class LocalKafka(Kafka):
    """One broker, or three that survive the loss of one (replication 3, at least 2 in sync).

    Args:
        distribution: the jars.
        yard: where the processes and their data are.
        brokers: 1 or 3; each is a controller as well.
    """

    def __init__(self, distribution: Distribution, yard: Yard, brokers: int = 1) -> None:
        self._distribution = distribution
        self._yard = yard
        self._ports = [free_port() for _ in range(brokers)]
        address = ",".join(f"127.0.0.1:{port}" for port in self._ports)
        count = "1 broker" if brokers == 1 else f"{brokers} brokers"
        super().__init__(
            address, f"Kafka {KAFKA_VERSION} (local, KRaft, {count}, {address})", replication=min(brokers, 3)
        )
        self._folder = yard.folder("kafka")
        self._configurations = self._configure()
        self._servers: list[ServerProcess] = []

    def start(self, extra_flags: Sequence[str] = ()) -> None:
        """Format the storage, start every broker and wait until all are in the cluster.

        Raises:
            ServerTrouble: they are not in time.
        """
        self._format()
        for number, configuration in enumerate(self._configurations):
            command = [*self._java(), *extra_flags, *LOG_FLAGS, "kafka.Kafka", str(configuration)]
            log = configuration.parent / "log"
            self._servers.append(ServerProcess(f"Kafka broker {number}", command, log, self._yard))
        for server in self._servers:
            server.start()
        for number in range(len(self._servers)):
            self._wait_for(number)
        self.prepare_groups()

    def kill(self, broker: int = 0) -> None:
        """SIGKILL to a broker, counted from 0."""
        self._servers[broker].kill()

    def freeze(self, broker: int = 0) -> None:
        """SIGSTOP to a broker: its connections stay and nothing is answered."""
        self._servers[broker].freeze()

    def thaw(self, broker: int = 0) -> None:
        """SIGCONT to a broker."""
        self._servers[broker].thaw()

    def restart(self, broker: int = 0) -> None:
        """Start a broker that was killed or stopped on its old data and address; one that runs is stopped first.

        Raises:
            ServerTrouble: it does not stop, or is not in the cluster again in time.
        """
        self._servers[broker].stop()
        self._servers[broker].start()
        self._wait_for(broker)

    def stop(self, broker: int = 0) -> None:
        """End a broker in order."""
        self._servers[broker].stop()

    def discard(self) -> None:
        """Kill every broker; nobody needs the data any more."""
        self.disconnect()
        for server in self._servers:
            server.discard()

    def pid(self, broker: int = 0) -> int:
        """The process id of a broker."""
        return self._servers[broker].pid

    def resident_bytes(self) -> int:
        """The memory of all brokers that run."""
        return sum(server.resident_bytes for server in self._servers if server.runs)

    def _java(self) -> list[str]:
        archive = self._distribution.class_archive
        shared = [f"-XX:SharedArchiveFile={archive}"] if archive.exists() else []
        return [self._distribution.java, *JAVA_FLAGS, *shared, "-cp", self._distribution.class_path]

    def _format(self) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = [*self._java(), "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "--config"]
        running = [
            subprocess.Popen(
                [*command, str(configuration)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            for configuration in self._configurations
        ]
        for process in running:
            self._yard.watch(process.pid)
            said, _ = process.communicate(timeout=START_SECONDS)
            self._yard.forget(process.pid)
            if process.returncode != 0:
                raise ServerTrouble(f"formatting Kafka's storage failed\n{said.decode(errors='replace')}")

    def _configure(self) -> list[Path]:
        controllers = [free_port() for _ in self._ports]
        voters = ",".join(f"{number}@127.0.0.1:{port}" for number, port in enumerate(controllers))
        count = len(self._ports)
        written = []
        for number, (port, controller) in enumerate(zip(self._ports, controllers, strict=True)):
            folder = self._folder / str(number)
            folder.mkdir()
            settings = {
                "process.roles": "broker,controller",
                "node.id": number,
                "controller.quorum.voters": voters,
                "controller.listener.names": "CONTROLLER",
                "listeners": f"CLIENT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
                "advertised.listeners": f"CLIENT://127.0.0.1:{port}",
                "inter.broker.listener.name": "CLIENT",
                "listener.security.protocol.map": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
                "log.dirs": folder / "data",
                # A topic that nobody made is a mistake that a real cluster would show as well.
                "auto.create.topics.enable": "false",
                "default.replication.factor": count,
                "min.insync.replicas": min(count, 2),
                "offsets.topic.replication.factor": count,
                "offsets.topic.num.partitions": 4,
                "transaction.state.log.replication.factor": count,
                "transaction.state.log.min.isr": min(count, 2),
                "transaction.state.log.num.partitions": 1,
                "share.coordinator.state.topic.replication.factor": count,
                "share.coordinator.state.topic.min.isr": min(count, 2),
                "share.coordinator.state.topic.num.partitions": 1,
                # What a test would only wait for. A killed broker is let in again when its old session has ended.
                "group.initial.rebalance.delay.ms": 0,
                "broker.session.timeout.ms": 1500,
                "broker.heartbeat.interval.ms": 200,
                # Less memory and fewer threads than for a machine of its own.
                "log.cleaner.dedupe.buffer.size": 4 * 1024 * 1024,
                "num.network.threads": 2,
                "num.io.threads": 4,
            }
            path = folder / "server.properties"
            path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
            written.append(path)
        return written

    def _wait_for(self, broker: int) -> None:
        """Until this broker itself answers and says that it is in the cluster."""
        address = f"127.0.0.1:{self._ports[broker]}"
        # A client of its own each time: one that was refused waits before it connects again.
        self._servers[broker].wait_until(lambda: _is_member(address, broker), START_SECONDS)


def _is_member(address: str, broker: int) -> bool:
    client = AdminClient({"bootstrap.servers": address, "log_level": 0, "reconnect.backoff.max.ms": 100})
    with suppress(KafkaException):
        return broker in client.list_topics(timeout=1.0).brokers
    return False


def with_class_archive(distribution: Distribution, yard: Yard) -> None:
    """Make the archive of a broker's classes if it is not there: run one, use it, and let Java write at its end.

    Raises:
        ServerTrouble: the broker did not run.
        KafkaException: it did not answer.
    """
    archive = distribution.class_archive
    if archive.exists():
        return
    with cache_lock():
        if archive.exists():
            return
        made = archive.with_name(f".new-{os.getpid()}.jsa")
        broker = LocalKafka(distribution, yard)
        try:
            broker.start([f"-XX:ArchiveClassesAtExit={made}"])
            _use(broker)
            broker.stop()
            made.replace(archive)
        finally:
            broker.discard()
            made.unlink(missing_ok=True)


def _use(broker: LocalKafka) -> None:
    """Send and read a record in a group, so that the classes for it are in the archive."""
    broker.create_topic("warm-up", 1)
    producer = Producer({"bootstrap.servers": broker.address})
    producer.produce("warm-up", b"value")
    producer.flush(START_SECONDS)
    consumer = Consumer({"bootstrap.servers": broker.address, "group.id": "warm-up", "auto.offset.reset": "earliest"})
    try:
        consumer.subscribe(["warm-up"])
        consumer.poll(START_SECONDS)
        consumer.commit(asynchronous=False)
    finally:
        consumer.close()
    broker.committed("warm-up")
