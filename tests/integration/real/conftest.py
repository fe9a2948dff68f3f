"""Instances of the whole app, on one Kafka and one database."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.integration.day import SETTINGS
from tests.integration.processes import Home
from tests.integration.real.instances import Deployment
from tests.services.process import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.services.kafka import Kafka


@pytest.fixture
def deployment(tmp_path: Path, kafka: Kafka, kafka_prefix: str, postgres_url: str) -> Iterator[Deployment]:
    """Two homes as on two machines, with the topics made."""
    with ExitStack() as stack:
        homes = []
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            home = Home(
                tmp_path / name,
                **SETTINGS,
                PAYDAY_KAFKA_BOOTSTRAP_SERVERS=kafka.address,
                PAYDAY_DATABASE_URL=postgres_url,
                PAYDAY_TOPIC_PREFIX=kafka_prefix,
                PAYDAY_GROUP_PREFIX=kafka_prefix,
                PAYDAY_HTTP_PORT=str(free_port()),
            )
            homes.append(stack.enter_context(home))
        homes[0].run("topics", "create")
        yield Deployment(kafka, *homes)
