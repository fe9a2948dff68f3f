"""The fixtures of the services, and the line about them at the end of a test run.

| fixture | what |
|---|---|
| `kafka` | the cluster that all tests share |
| `kafka_prefix` | a unique prefix for topics and groups on it; what begins so is deleted after the test |
| `own_kafka`, `kafka_cluster` | one broker, three brokers, that the test may break |
| `postgres` | the server that all tests share |
| `postgres_url` | a fresh database on it with every table |
| `own_postgres` | a server that the test may break |
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from tests.services.required import ServiceMissing, judge
from tests.services.services import Services

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.services.kafka import Kafka
    from tests.services.kafka_local import LocalKafka
    from tests.services.postgres import Postgres
    from tests.services.postgres_local import LocalPostgres

SERVICES = pytest.StashKey[Services]()
TOLD_BY_WORKERS = pytest.StashKey[list[str]]()
WORKER_OUTPUT = "payday_services"


@pytest.fixture(scope="session")
def services(pytestconfig: pytest.Config) -> Iterator[Services]:
    """Everything that the tests started, ended after the last of them."""
    services = pytestconfig.stash[SERVICES] = Services.of_environment()
    yield services
    services.close()


@pytest.fixture(scope="session")
def kafka(services: Services) -> Kafka:
    """The real Kafka that all tests share: use topics and groups with `kafka_prefix`, and do not break it."""
    try:
        return services.kafka
    except ServiceMissing as missing:
        judge("kafka", str(missing))


@pytest.fixture
def kafka_prefix(kafka: Kafka) -> Iterator[str]:
    """What the names of this test's topics and groups begin with; they are deleted after it."""
    prefix = f"t{secrets.token_hex(4)}."
    yield prefix
    kafka.delete_prefix(prefix)


@pytest.fixture
def own_kafka(services: Services) -> Iterator[LocalKafka]:
    """One broker for this test alone, to kill and to freeze."""
    yield from _own_cluster(services, 1)


@pytest.fixture
def kafka_cluster(services: Services) -> Iterator[LocalKafka]:
    """Three brokers for this test alone, which survive the loss of one."""
    yield from _own_cluster(services, 3)


@pytest.fixture(scope="session")
def postgres(services: Services) -> Postgres:
    """The real PostgreSQL that all tests share: take databases from it, and do not break it."""
    try:
        return services.postgres
    except ServiceMissing as missing:
        judge("postgres", str(missing))


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """A fresh database with every table, on a real PostgreSQL; dropped after the test."""
    url = postgres.fresh_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture
def own_postgres(services: Services) -> Iterator[LocalPostgres]:
    """A PostgreSQL for this test alone, to kill and to freeze; its commits wait for the disk."""
    try:
        server = services.own_postgres()
    except ServiceMissing as missing:
        judge("postgres", str(missing))
    yield server
    server.discard()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist hands its line to the process that prints."""
    output: dict[str, object] | None = getattr(session.config, "workeroutput", None)
    services = session.config.stash.get(SERVICES, None)
    if output is not None and services is not None:
        output[WORKER_OUTPUT] = services.described


class _OfWorkers:
    """Hooks of pytest-xdist, registered only where it is installed."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object) -> None:
        output = getattr(node, "workeroutput", {})
        self._config.stash.setdefault(TOLD_BY_WORKERS, []).extend(output.get(WORKER_OUTPUT, []))


def pytest_configure(config: pytest.Config) -> None:
    """Listen to the workers, if there are any."""
    config.pluginmanager.register(_OfWorkers(config))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say on what the tests ran, or why not; nothing where no test asked."""
    services = config.stash.get(SERVICES, None)
    told = [*config.stash.get(TOLD_BY_WORKERS, []), *(services.described if services is not None else [])]
    if told:
        terminalreporter.write_line(f"services: {' · '.join(told)}")


def _own_cluster(services: Services, brokers: int) -> Iterator[LocalKafka]:
    try:
        cluster = services.own_kafka(brokers)
    except ServiceMissing as missing:
        judge("kafka", str(missing))
    yield cluster
    cluster.discard()
