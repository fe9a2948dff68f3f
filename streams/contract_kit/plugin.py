"""The pytest plugin of the contract kit: the fixture `contract`, its options and its markers.

Everything of the app is imported when a test asks for it: the plugin is loaded wherever Payday is installed.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from streams.contract_kit.coverage import Coverage
    from streams.contract_kit.premises import DatabaseServer, RealKafka
    from streams.contract_kit.scenario import Scenario
    from streams.contract_kit.services import Services, Wanted
    from streams.contract_kit.transport import Transport

__all__ = [
    "contract",
    "contract_coverage",
    "contract_database_server",
    "contract_kafka",
    "contract_services",
    "contract_template",
    "contract_transport",
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_configure",
]

MODES = {
    "memory": "in this process, without a broker",
    "wire": "as a process of its own, behind a broker",
}
KAFKAS = ("embedded", "real")
DATABASES = ("sqlite", "postgresql")
SLICES = ("tasks", "accounting", "payouts")
PREFIX = "kit."
"""Of topics and groups, so that a name that goes round the settings is seen at once."""
SECRET = "the contract kit's fixed secret"  # noqa: S105  prices and assignees should be the same in every run
UNUSED_SERVERS = "localhost:1"
AHEAD_TESTS = 25
"""A service is started so many tests before it is needed: its start is mostly waiting, and an idle one costs time."""
USUAL: dict[str, Any] = {
    "topic_prefix": PREFIX,
    "group_prefix": PREFIX,
    "time_zone": "UTC",
    "currency": "USD",
    "secret": SECRET,
}
"""What every service under test is set to, unless a test says otherwise."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare `--contract-mode`, what it runs on, and `--contract-coverage`."""
    group = parser.getgroup("contract", "contract tests")
    group.addoption(
        "--contract-coverage",
        metavar="FILE",
        help="write a table of what the contract tests have seen the service do with each message, as Markdown",
    )
    group.addoption(
        "--contract-mode",
        choices=MODES,
        default="memory",
        help=f"how the service runs: {'; '.join(f'{name} = {what}' for name, what in MODES.items())}",
    )
    group.addoption(
        "--contract-kafka",
        choices=KAFKAS,
        default=KAFKAS[0],
        help="on the wire, the broker: one embedded for each service, or the one of the fixture contract_kafka",
    )
    group.addoption(
        "--contract-database",
        choices=DATABASES,
        default=DATABASES[0],
        help="on the wire, the database: an SQLite file, or one on the server of the fixture contract_database_server",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers, and refuse options that would have no effect."""
    real = config.getoption("--contract-kafka") != KAFKAS[0] or config.getoption("--contract-database") != DATABASES[0]
    if real and config.getoption("--contract-mode") != "wire":
        raise pytest.UsageError("--contract-kafka and --contract-database are for --contract-mode=wire")
    config.addinivalue_line("markers", "slices(*names): the slices that a contract test is about; by default all")
    config.addinivalue_line("markers", "settings(**values): settings of the service in a contract test")
    config.addinivalue_line("markers", "launcher(module): what is run as the service in wire mode")
    config.addinivalue_line("markers", "memory_only(reason): a contract test that reaches into the service's process")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On the wire, skip what needs the service in this process."""
    if config.getoption("--contract-mode") == "wire":
        for item in items:
            if (marker := item.get_closest_marker("memory_only")) is not None:
                item.add_marker(pytest.mark.skip(reason=f"only in memory: {marker.args[0]}"))


@pytest.fixture(scope="session")
def contract_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database with all tables, made once."""
    from streams.contract_kit.memory import make_template  # noqa: PLC0415

    path = tmp_path_factory.mktemp("contract") / "template.db"
    with ThreadPoolExecutor(1) as thread:  # an event loop of its own, beside pytest-asyncio's
        thread.submit(asyncio.run, make_template(path)).result()
    return path


@pytest.fixture(scope="session")
def contract_kafka() -> RealKafka:
    """A Kafka for `--contract-kafka=real`: a project that has one overrides this fixture."""
    pytest.fail("--contract-kafka=real needs a fixture contract_kafka (see streams.contract_kit.premises.RealKafka)")


@pytest.fixture(scope="session")
def contract_database_server() -> DatabaseServer:
    """A server for `--contract-database=postgresql`: a project that has one overrides this fixture."""
    pytest.fail(
        "--contract-database=postgresql needs a fixture contract_database_server "
        "(see streams.contract_kit.premises.DatabaseServer)"
    )


@pytest.fixture(scope="session")
def contract_services(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """The processes of wire mode."""
    from streams.contract_kit.services import Services  # noqa: PLC0415

    def asked_for(option: str, value: str, fixture: str) -> Any:
        return request.getfixturevalue(fixture) if request.config.getoption(option) == value else None

    services = Services(
        tmp_path_factory.mktemp("services"),
        {name: str(value) for name, value in USUAL.items()},
        asked_for("--contract-kafka", "real", "contract_kafka"),
        asked_for("--contract-database", "postgresql", "contract_database_server"),
    )
    yield services
    services.close()


@pytest.fixture
async def contract_transport(request: pytest.FixtureRequest) -> AsyncIterator[Transport]:
    """The service under test."""
    mode = {"memory": _in_memory, "wire": _on_the_wire}[request.config.getoption("--contract-mode")]
    async with mode(request) as transport:
        yield transport


@asynccontextmanager
async def _in_memory(request: pytest.FixtureRequest) -> AsyncIterator[Transport]:
    """A service for this test alone."""
    from streams.contract_kit.memory import MemoryTransport  # noqa: PLC0415
    from streams.settings import Settings  # noqa: PLC0415

    home: Path = request.getfixturevalue("tmp_path")
    settings = Settings(
        home=home,
        kafka_bootstrap_servers=UNUSED_SERVERS,
        database_url=f"sqlite+aiosqlite:///{home / 'payday.db'}",
        **(USUAL | _settings_of(request.node)),
    )
    template = request.getfixturevalue("contract_template")
    transport = await MemoryTransport.start(settings, _slices_of(request.node), template)
    try:
        yield transport
    finally:
        await transport.close()


@asynccontextmanager
async def _on_the_wire(request: pytest.FixtureRequest) -> AsyncIterator[Transport]:
    """A service that is shared with the other tests of its kind; one that does not come to rest is not."""
    from streams.contract_kit.wire import WireTransport  # noqa: PLC0415

    services: Services = request.getfixturevalue("contract_services")
    wanted, *later = _wanted_from(request.node)
    services.begin(later[:AHEAD_TESTS])
    transport = await WireTransport.start(services.get(wanted))
    try:
        yield transport
    finally:
        await transport.close()
        if not transport.settled:
            services.discard(wanted)
        services.keep_only(later)


def _wanted_from(first: pytest.Item) -> list[Wanted]:
    """What a test and those after it need."""
    items = first.session.items
    return [
        _wanted(item)
        for item in items[items.index(first) :]
        if "contract_transport" in getattr(item, "fixturenames", ()) and not item.get_closest_marker("skip")
    ]


def _slices_of(item: pytest.Item) -> tuple[str, ...]:
    marker = item.get_closest_marker("slices")
    return marker.args if marker else SLICES


def _settings_of(item: pytest.Item) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for marker in item.iter_markers("settings"):
        values |= marker.kwargs
    return values


def _wanted(item: pytest.Item) -> Wanted:
    from streams.contract_kit.services import LAUNCHER, Wanted  # noqa: PLC0415

    marker = item.get_closest_marker("launcher")
    settings = tuple(sorted((name, str(value)) for name, value in _settings_of(item).items()))
    return Wanted(_slices_of(item), settings, marker.args[0] if marker else LAUNCHER)


@pytest.fixture(scope="session")
def contract_coverage(request: pytest.FixtureRequest) -> Iterator[Coverage]:
    """What the tests of this session have seen the service do."""
    from streams.contract_kit.coverage import Coverage  # noqa: PLC0415

    coverage = Coverage()
    yield coverage
    if (path := request.config.getoption("--contract-coverage")) is not None:
        Path(path).write_text(coverage.as_markdown())


@pytest.fixture
async def contract(request: pytest.FixtureRequest, contract_transport: Transport) -> AsyncIterator[Scenario]:
    """The vocabulary of a contract test, on a service of its own."""
    from streams.contract_kit.scenario import Scenario  # noqa: PLC0415

    planted = request.node.get_closest_marker("launcher") is not None
    scenario = Scenario(contract_transport, None if planted else request.getfixturevalue("contract_coverage"))
    yield scenario
    await scenario.finish()
