"""An Apache Kafka and a durable PostgreSQL of the benchmark's own, and fresh topics and tables on them."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg  # type: ignore[import-untyped]
import psutil  # type: ignore[import-untyped]
from sqlalchemy.engine import make_url

from benchmarks.measurement import Place
from benchmarks.process import WrongResult
from contracts.catalog import topics
from tests.services.kafka_jars import KAFKA_VERSION
from tests.services.process import ServerTrouble
from tests.services.services import Services

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.services.kafka import Kafka
    from tests.services.postgres import Postgres

__all__ = ["PARTITIONS", "RealServers", "real_servers"]

PARTITIONS = 4
"""Of every topic."""
IN_MEMORY = frozenset({"tmpfs", "ramfs"})


@dataclass(frozen=True, slots=True)
class RealServers:
    """Both of them.

    Attributes:
        described: versions and what their commits wait for.
    """

    kafka: Kafka
    postgres: Postgres
    described: str

    @contextmanager
    def place(self) -> Iterator[Place]:
        """Topics and a database where nothing happened before; they are gone afterwards."""
        prefix = f"b{secrets.token_hex(4)}."
        for topic in topics():
            self.kafka.create_topic(prefix + topic, PARTITIONS)
        database_url = self.postgres.fresh_database()
        try:
            with tempfile.TemporaryDirectory(prefix="payday-bench-") as home:
                yield Place(Path(home), self.kafka.address, database_url, prefix)
        finally:
            self.postgres.drop_database(database_url)
            self.kafka.delete_prefix(prefix)


@contextmanager
def real_servers() -> Iterator[RealServers]:
    """Start both, and end them with the block.

    Raises:
        ServiceMissing: one of them cannot be run here.
        WrongResult: one of them does not start, or PostgreSQL does not wait for a disk.
    """
    services = Services.of_environment()
    try:
        try:
            kafka, postgres = services.own_kafka(), services.own_postgres()
        except ServerTrouble as trouble:
            raise WrongResult(str(trouble)) from trouble
        described = f"Kafka {KAFKA_VERSION} (one broker, {PARTITIONS} partitions per topic), {_durable(postgres)}"
        yield RealServers(kafka, postgres, described)
        postgres.close()
        kafka.disconnect()
    finally:
        services.close()


def _durable(postgres: Postgres) -> str:
    """What the server is, after a look at its settings and where its data is.

    Raises:
        WrongResult: a power cut could take back what it has committed.
    """
    names = ("server_version", "fsync", "synchronous_commit", "data_directory")
    version, fsync, synchronous_commit, directory = asyncio.run(_settings(postgres.url, names))
    if (fsync, synchronous_commit) != ("on", "on"):
        raise WrongResult(f"PostgreSQL has fsync {fsync}, synchronous_commit {synchronous_commit}")
    mounted = [one for one in psutil.disk_partitions(all=True) if Path(directory).is_relative_to(one.mountpoint)]
    if max(mounted, key=lambda one: len(one.mountpoint)).fstype in IN_MEMORY:
        raise WrongResult("PostgreSQL's data would be in memory: let TMPDIR be on a disk")
    return f"PostgreSQL {version.split()[0]} (fsync and synchronous_commit on)"


async def _settings(url: str, names: tuple[str, ...]) -> list[str]:
    connection = await asyncpg.connect(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False))
    try:
        return [str(await connection.fetchval(f"SHOW {name}")) for name in names]
    finally:
        await connection.close()
