"""Kafka and PostgreSQL in containers, where a Docker engine answers. These cannot be broken."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.services.kafka import Kafka
from tests.services.kafka_jars import KAFKA_VERSION
from tests.services.postgres import Postgres
from tests.services.process import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["engine_answers", "kafka_container", "postgres_container"]

ENGINE_SECONDS = 5.0
START_SECONDS = 60.0
POSTGRES_IMAGE = "postgres:18"


def engine_answers() -> bool:
    """Whether there is a Docker engine. Quick where there is none."""
    docker = shutil.which("docker")
    if docker is None:
        return False
    try:
        return (
            subprocess.run([docker, "info"], capture_output=True, timeout=ENGINE_SECONDS, check=False).returncode == 0
        )
    except (OSError, subprocess.SubprocessError):
        return False


@contextmanager
def kafka_container() -> Iterator[Kafka]:
    """Apache Kafka's own image, one broker."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it deprecates in itself is no concern of these tests
        from testcontainers.core.container import DockerContainer  # noqa: PLC0415  slow, and rarely needed
    port = free_port()
    settings = {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENERS": "CLIENT://:9092,CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"CLIENT://127.0.0.1:{port}",
        "KAFKA_INTER_BROKER_LISTENER_NAME": "CLIENT",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
    }
    container = DockerContainer(f"apache/kafka:{KAFKA_VERSION}")
    # A port alone would be open to the network; Docker's client takes an address with it, testcontainers' types do not.
    container.ports["9092/tcp"] = ("127.0.0.1", port)  # type: ignore[assignment]
    for name, value in settings.items():
        container = container.with_env(name, value)
    with container:
        address = f"127.0.0.1:{port}"
        kafka = Kafka(address, f"Kafka {KAFKA_VERSION} (container, {address})")
        wait_until(kafka.answers, START_SECONDS, lambda: f"{kafka.described} does not answer")
        kafka.prepare_groups()
        yield kafka
        kafka.disconnect()


@contextmanager
def postgres_container() -> Iterator[Postgres]:
    """PostgreSQL's official image."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from testcontainers.postgres import PostgresContainer  # noqa: PLC0415
    with PostgresContainer(POSTGRES_IMAGE, driver="asyncpg") as container:
        server = Postgres(container.get_connection_url(), "container")
        server.connect()
        yield server
        server.close()
