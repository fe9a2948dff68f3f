"""The pytest plugin of the contract kit: the fixture `contract`, its option and its markers.

Everything of the app is imported when a test asks for it: the plugin is loaded wherever Payday is installed.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from streams.contract_kit.scenario import Scenario
    from streams.contract_kit.transport import Transport

__all__ = ["contract", "contract_template", "contract_transport", "pytest_addoption", "pytest_configure"]

MODES = ("memory",)
SLICES = ("tasks", "accounting")
PREFIX = "kit."
"""Of topics and groups, so that a name that goes round the settings is seen at once."""
SECRET = "the contract kit's fixed secret"  # noqa: S105  prices and assignees should be the same in every run
UNUSED_SERVERS = "localhost:1"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare `--contract-mode`."""
    parser.getgroup("contract", "contract tests").addoption(
        "--contract-mode",
        choices=MODES,
        default="memory",
        help="how contract tests reach the service: memory = in this process, without a broker",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers."""
    config.addinivalue_line("markers", "slices(*names): the slices that a contract test is about; by default all")
    config.addinivalue_line("markers", "settings(**values): settings of the service in a contract test")
    config.addinivalue_line("markers", "memory_only(reason): a contract test that reaches into the service's process")


@pytest.fixture(scope="session")
def contract_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database with all tables, made once."""
    from streams.contract_kit.memory import make_template  # noqa: PLC0415

    path = tmp_path_factory.mktemp("contract") / "template.db"
    with ThreadPoolExecutor(1) as thread:  # an event loop of its own, beside pytest-asyncio's
        thread.submit(asyncio.run, make_template(path)).result()
    return path


@pytest.fixture
async def contract_transport(
    request: pytest.FixtureRequest, tmp_path: Path, contract_template: Path
) -> AsyncIterator[Transport]:
    """The service under test, started and stopped."""
    from streams.contract_kit.memory import MemoryTransport  # noqa: PLC0415
    from streams.settings import Settings  # noqa: PLC0415

    values: dict[str, Any] = {
        "home": tmp_path,
        "kafka_bootstrap_servers": UNUSED_SERVERS,
        "database_url": f"sqlite+aiosqlite:///{tmp_path / 'payday.db'}",
        "topic_prefix": PREFIX,
        "group_prefix": PREFIX,
        "time_zone": "UTC",
        "currency": "USD",
        "secret": SECRET,
    }
    for marker in request.node.iter_markers("settings"):
        values |= marker.kwargs
    marker = request.node.get_closest_marker("slices")
    transport = await MemoryTransport.start(Settings(**values), marker.args if marker else SLICES, contract_template)
    try:
        yield transport
    finally:
        await transport.close()


@pytest.fixture
async def contract(contract_transport: Transport) -> AsyncIterator[Scenario]:
    """The vocabulary of a contract test, on a service of its own."""
    from streams.contract_kit.scenario import Scenario  # noqa: PLC0415

    scenario = Scenario(contract_transport)
    yield scenario
    await scenario.finish()
