"""What is about the whole of the contract tests rather than one of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.workers import keeps_folders_together

if TYPE_CHECKING:
    from tests.services.kafka import Kafka
    from tests.services.postgres import Postgres

HERE = Path(__file__).parent
LAST = "test_coverage.py"
DESELECTED = pytest.StashKey[bool]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What the suite has covered is known when it has run."""
    items.sort(key=lambda item: item.path == HERE / LAST)


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Somebody wants only a part."""
    if items:
        items[0].config.stash[DESELECTED] = True


@pytest.fixture(scope="session")
def contract_kafka(kafka: Kafka) -> Kafka:
    """What `--contract-kafka=real` runs on."""
    return kafka


@pytest.fixture(scope="session")
def contract_database_server(postgres: Postgres) -> Postgres:
    """What `--contract-database=postgresql` runs on."""
    return postgres


@pytest.fixture
def whole_suite(request: pytest.FixtureRequest) -> None:
    """Skip where only a part of tests/contract runs, or several processes share it."""
    collected = {item.path for item in request.session.items}
    config = request.config
    partial = (
        config.stash.get(DESELECTED, False)
        or any("::" in argument for argument in config.args)
        or not keeps_folders_together(config)
        or not collected.issuperset(HERE.glob("test_*.py"))
    )
    if partial:
        pytest.skip("only a part of the contract tests runs")
