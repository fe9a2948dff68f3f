"""What a service under test runs on: a broker and a database that it has to itself.

Invariant: two premises share no topic, no group and no table, so that services run side by side.
"""

from __future__ import annotations

import secrets
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from contracts.catalog import topics
from streams.embedded.broker import PARTITIONS, EmbeddedBroker

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["PREFIX", "DatabaseServer", "Premises", "RealKafka", "make_premises"]

PREFIX = "kit."
"""What topics and groups begin with, so that a name that goes round the settings is seen at once."""


class RealKafka(Protocol):
    """A Kafka that services share."""

    @property
    def address(self) -> str:
        """Bootstrap servers."""
        ...

    def create_topic(self, name: str, partitions: int, /) -> None:
        """Make a topic, and wait until it can be written to."""
        ...

    def delete_prefix(self, prefix: str, /) -> None:
        """Delete the topics and groups whose names begin so."""
        ...


class DatabaseServer(Protocol):
    """A PostgreSQL on which services have databases."""

    def fresh_database(self) -> str:
        """Make a database with every table; its URL."""
        ...

    def drop_database(self, url: str, /) -> None:
        """Drop it, whoever is still connected to it."""
        ...


@dataclass(frozen=True, slots=True)
class Premises:
    """Addresses, and `closing`, which takes everything away again.

    Attributes:
        bootstrap_servers: where the broker is.
        database_url: of the database.
        prefix: of topics and groups.
    """

    bootstrap_servers: str
    database_url: str
    prefix: str
    closing: ExitStack


def make_premises(home: Path, kafka: RealKafka | None, server: DatabaseServer | None) -> Premises:
    """Make the topics and a database.

    Args:
        home: for an SQLite file.
        kafka: None is an embedded broker of its own.
        server: None is SQLite.
    """
    with ExitStack() as stack:
        prefix = PREFIX
        if kafka is None:
            broker = EmbeddedBroker(prefix + topic for topic in topics())
            stack.callback(broker.stop)
            bootstrap_servers = broker.address
        else:
            prefix = f"{PREFIX}{secrets.token_hex(4)}."
            stack.callback(kafka.delete_prefix, prefix)
            for topic in topics():
                kafka.create_topic(prefix + topic, PARTITIONS)
            bootstrap_servers = kafka.address
        if server is None:
            database_url = f"sqlite+aiosqlite:///{home / 'payday.db'}"
        else:
            database_url = server.fresh_database()
            stack.callback(server.drop_database, database_url)
        return Premises(bootstrap_servers, database_url, prefix, stack.pop_all())
