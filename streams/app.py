"""The composition root: the only place that wires settings, database, broker, slices and workers.

`create_app(settings)` gives the FastStream application; the module-level `app` is the same from the environment, built
when it is first asked for: `faststream run streams.app:app`, `faststream docs gen streams.app:app`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from confluent_kafka import Producer
from faststream import FastStream
from faststream.confluent import KafkaBroker

from streams import accounting, tasks
from streams.accounting import domain as accounting_domain
from streams.accounting import handlers as accounting_handlers
from streams.accounting import tables as accounting_tables
from streams.catalog import ContractCatalog
from streams.intake import tables as intake_tables
from streams.intake.subscription import Limits
from streams.ledger import tables as ledger_tables
from streams.ledger.domain import BusinessCalendar
from streams.middleware.intake import Intake, consumer_config
from streams.outbox.producer import producer_settings
from streams.outbox.relay import Relay, no_pace
from streams.settings import Settings, load_settings
from streams.storage import lease_table
from streams.storage.database import Database
from streams.storage.migrate import prepare
from streams.storage.schema import app_metadata, kit_metadata
from streams.tasks import domain as tasks_domain
from streams.tasks import handlers as tasks_handlers
from streams.tasks import tables as tasks_tables
from streams.tasks.reassignment import Reassigner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from streams.middleware.telemetry import IntakeObserver
    from streams.outbox.producer import KafkaProducer
    from streams.outbox.relay import Pace

__all__ = ["ALL_METADATA", "PARTS", "SUBSCRIPTIONS", "Payday", "compose", "create_app"]

PARTS = ("tasks", "accounting", "relay")
"""What `payday run --only` chooses from."""
SUBSCRIPTIONS: dict[str, tuple[str, ...]] = {
    tasks_handlers.GROUP: tasks_handlers.TOPICS,
    accounting_handlers.GROUP: accounting_handlers.TOPICS,
}
"""Which group reads which topics, without prefixes."""
ALL_METADATA = (kit_metadata, app_metadata)
_REGISTERED = (intake_tables, ledger_tables, tasks_tables, accounting_tables, lease_table, tasks, accounting)
"""Importing a table registers it in its metadata."""


@dataclass(frozen=True, slots=True)
class Payday:
    """The app with its parts, for those who run it: the command line, the contract kit, tests."""

    app: FastStream
    broker: KafkaBroker
    database: Database
    intake: Intake
    relay: Relay
    reassigner: Reassigner


class _Servers:
    """Kafka's address, looked up when a client is made: FastStream joins what it iterates over."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __iter__(self) -> Iterator[str]:
        return iter(self._settings.bootstrap_servers().split(","))


def compose(
    settings: Settings,
    *,
    only: Iterable[str] = PARTS,
    pace: Pace = no_pace,
    observer: IntakeObserver | None = None,
    make_producer: Callable[[], KafkaProducer] | None = None,
) -> Payday:
    """Wire an app.

    Args:
        settings: read once.
        only: which of `PARTS` this process runs.
        pace: holds the relay back where the broker forgets what is not read.
        observer: told of every delivery.
        make_producer: what the relay publishes with; by default confluent-kafka's producer.
    """
    parts = frozenset(only)
    database = Database(settings.database)
    catalog = ContractCatalog()
    limits = Limits(max_records=settings.max_records)
    relay = Relay(database, make_producer or partial(_producer, settings), pace)
    intake = Intake(
        database,
        catalog,
        wake_relay=relay.wake,
        topic_prefix=settings.topic_prefix,
        group_prefix=settings.group_prefix,
        observer=observer,
        limits=limits,
    )
    secret = settings.secret_bytes()
    task_rules = tasks_domain.Rules(secret, settings.clock_skew_seconds)
    calendar = BusinessCalendar(settings.zone, settings.currency, settings.clock_skew_seconds)
    reassigner = Reassigner(database, catalog, task_rules, topic_prefix=settings.topic_prefix, wake_relay=relay.wake)
    broker = KafkaBroker(
        allow_auto_create_topics=False,
        config=cast("Any", {"bootstrap.servers": _Servers(settings), **consumer_config(limits)}),
        middlewares=intake.middlewares,
        logger=_broker_logger(),
        log_level=logging.DEBUG,
    )
    if "tasks" in parts:
        broker.include_router(tasks_handlers.router(intake, task_rules, reassigner.wake))
    if "accounting" in parts:
        broker.include_router(accounting_handlers.router(intake, accounting_domain.Rules(secret, calendar)))
    payday = Payday(FastStream(broker, logger=None), broker, database, intake, relay, reassigner)
    _add_life_cycle(payday, parts, settings.drain_seconds)
    return payday


def create_app(settings: Settings | None = None) -> FastStream:
    """The whole app as FastStream knows it."""
    return compose(settings or load_settings()).app


def _add_life_cycle(payday: Payday, parts: frozenset[str], drain_seconds: float) -> None:
    """Order of start: database, consumers, workers. Order of stop: workers that emit, consumers, relay, database."""

    async def open_database() -> None:
        await prepare(payday.database)
        await payday.intake.start()

    async def start_workers() -> None:
        if "relay" in parts:
            payday.relay.start()
        if "tasks" in parts:
            payday.reassigner.start()

    async def stop_workers() -> None:
        await payday.reassigner.stop()

    async def close() -> None:
        await payday.intake.stop()
        await payday.relay.stop(drain_seconds)
        await payday.database.close()

    payday.app.on_startup(open_database)
    payday.app.after_startup(start_workers)
    payday.app.on_shutdown(stop_workers)
    payday.app.after_shutdown(close)


class _ExpectedNotices(logging.Filter):
    """Drops what librdkafka and FastStream say about settings that are meant to be as they are."""

    NOTICES = (
        "is a consumer property and will be ignored by this producer",
        "Auto create topics is disabled",
    )

    def filter(self, record: logging.LogRecord) -> bool:
        return not any(notice in record.getMessage() for notice in self.NOTICES)


_expected_notices = _ExpectedNotices()


def _broker_logger() -> logging.Logger:
    logger = logging.getLogger("payday.broker")
    logger.addFilter(_expected_notices)
    return logger


def _producer(settings: Settings) -> KafkaProducer:
    producer: Any = Producer(  # its stub spells out every option
        producer_settings(settings.bootstrap_servers()), logger=logging.getLogger("payday.librdkafka")
    )
    return cast("KafkaProducer", producer)


def __getattr__(name: str) -> FastStream:
    """Build `app` when it is asked for, so that importing this module reads no environment."""
    if name != "app":
        raise AttributeError(name)
    application = create_app()
    globals()["app"] = application
    return application
