"""Which Kafka and which PostgreSQL a test run gets, looked for once and only when a test asks.

In this order: the address in `PAYDAY_TEST_KAFKA` or `PAYDAY_TEST_POSTGRES`, a container, a server of the tests' own.
A test that breaks its server always gets one of its own.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING

from sqlalchemy.engine import make_url

from tests.services import containers
from tests.services.kafka import Kafka
from tests.services.kafka_jars import distribution
from tests.services.kafka_local import LocalKafka, with_class_archive
from tests.services.postgres import Postgres
from tests.services.postgres_local import LocalPostgres, binaries
from tests.services.process import ServerTrouble, Yard
from tests.services.required import ServiceMissing

if TYPE_CHECKING:
    from tests.services.kafka_jars import Distribution
    from tests.services.postgres_local import Binaries

__all__ = ["Services"]

KAFKA_HINT = "install a Java runtime (17 or newer) and Maven, or set PAYDAY_TEST_KAFKA; see docs/contributing.md"
POSTGRES_HINT = "install PostgreSQL, or set PAYDAY_TEST_POSTGRES; see docs/contributing.md"


class Services:
    """The services of one test run. Nothing is started before it is asked for; `close` ends everything.

    Args:
        kafka_address: bootstrap servers of a Kafka outside, or empty.
        postgres_url: URL of a PostgreSQL outside, on which databases may be created, or empty.
    """

    def __init__(self, kafka_address: str, postgres_url: str) -> None:
        self._kafka_address = kafka_address
        self._postgres_url = postgres_url
        self._closing = ExitStack()
        self._told: dict[str, str] = {}
        self._own: dict[str, int] = {}

    @classmethod
    def of_environment(cls) -> Services:
        """As the variables say."""
        return cls(os.environ.get("PAYDAY_TEST_KAFKA", ""), os.environ.get("PAYDAY_TEST_POSTGRES", ""))

    @property
    def described(self) -> list[str]:
        """What the tests ran on, or why there was none; empty if no test asked."""
        return [*self._told.values(), *(f"{count} x {name} of a test's own" for name, count in self._own.items())]

    @cached_property
    def kafka(self) -> Kafka:
        """The cluster that the tests share.

        Raises:
            ServiceMissing: there is none.
            ServerTrouble: the one that was named or started does not answer.
        """
        found = self._find_kafka()
        self._told["kafka"] = found.described
        return found

    @cached_property
    def postgres(self) -> Postgres:
        """The server that the tests share.

        Raises:
            ServiceMissing: there is none.
            ServerTrouble: the one that was named or started does not answer.
        """
        found = self._find_postgres()
        self._told["postgres"] = found.described
        return found

    def own_kafka(self, brokers: int = 1) -> LocalKafka:
        """A cluster that a test may break; the caller discards it.

        Raises:
            ServiceMissing: it cannot be run here.
        """
        started = self._start_kafka(brokers)
        name = "Kafka" if brokers == 1 else f"Kafka with {brokers} brokers"
        self._own[name] = self._own.get(name, 0) + 1
        return started

    def own_postgres(self) -> LocalPostgres:
        """A server that a test may break, and whose commits wait for the disk; the caller discards it.

        Raises:
            ServiceMissing: it cannot be run here.
        """
        started = self._start_postgres(durable=True)
        self._own["PostgreSQL"] = self._own.get("PostgreSQL", 0) + 1
        return started

    def close(self) -> None:
        """End everything that was started."""
        self._closing.close()

    @cached_property
    def _yard(self) -> Yard:
        yard = Yard()
        self._closing.callback(yard.close)
        return yard

    @cached_property
    def _engine_answers(self) -> bool:
        return containers.engine_answers()

    @cached_property
    def _kafka_distribution(self) -> Distribution | ServiceMissing:
        try:
            found = distribution()
        except ServiceMissing as missing:
            return ServiceMissing(self._explained("kafka", f"no Kafka: {missing}; {KAFKA_HINT}"))
        with_class_archive(found, self._yard)
        return found

    @cached_property
    def _postgres_binaries(self) -> Binaries | ServiceMissing:
        try:
            return binaries(self._yard)
        except ServiceMissing as missing:
            return ServiceMissing(self._explained("postgres", f"no PostgreSQL: {missing}; {POSTGRES_HINT}"))

    def _explained(self, service: str, reason: str) -> str:
        self._told.setdefault(service, reason)
        return reason

    def _find_kafka(self) -> Kafka:
        if self._kafka_address:
            outside = Kafka(self._kafka_address, f"Kafka ({self._kafka_address}, by PAYDAY_TEST_KAFKA)")
            if not outside.answers():
                raise ServerTrouble(f"{outside.described} does not answer")
            self._closing.callback(outside.disconnect)
            return outside
        if self._engine_answers:
            return self._closing.enter_context(containers.kafka_container())
        started = self._start_kafka(1)
        self._closing.callback(started.discard)
        return started

    def _find_postgres(self) -> Postgres:
        if self._postgres_url:
            url = make_url(self._postgres_url).set(drivername="postgresql+asyncpg")
            outside = Postgres(
                url.render_as_string(hide_password=False), f"{url.host}:{url.port or 5432}, by PAYDAY_TEST_POSTGRES"
            )
            self._closing.callback(outside.close)
            try:
                outside.connect()
            except OSError as error:
                raise ServerTrouble(f"the server of PAYDAY_TEST_POSTGRES does not answer: {error}") from error
            return outside
        if self._engine_answers:
            return self._closing.enter_context(containers.postgres_container())
        started = self._start_postgres(durable=False)
        self._closing.callback(started.discard)
        return started

    def _start_kafka(self, brokers: int) -> LocalKafka:
        if isinstance(self._kafka_distribution, ServiceMissing):
            raise self._kafka_distribution
        cluster = LocalKafka(self._kafka_distribution, self._yard, brokers)
        try:
            cluster.start()
        except BaseException:
            cluster.discard()
            raise
        return cluster

    def _start_postgres(self, *, durable: bool) -> LocalPostgres:
        if isinstance(self._postgres_binaries, ServiceMissing):
            raise self._postgres_binaries
        server = LocalPostgres(self._postgres_binaries, self._yard, durable=durable)
        try:
            server.start()
        except BaseException:
            server.discard()
            raise
        return server
