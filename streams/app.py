"""The composition root: the only place that wires settings, database, broker, slices and workers.

`create_app(settings)` gives the FastStream application; the module-level `app` is the same from the environment, built
when it is first asked for: `faststream run streams.app:app`, `faststream docs gen streams.app:app`.
"""

from __future__ import annotations

import gc
import logging
import time
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from faststream import FastStream
from faststream.confluent import KafkaBroker

from contracts.catalog import CATALOG
from otel.metrics import Metrics
from streams import accounting, tasks
from streams.accounting import domain as accounting_domain
from streams.accounting import handlers as accounting_handlers
from streams.accounting import tables as accounting_tables
from streams.alarms import tables as alarm_tables
from streams.alarms.kinds import KINDS
from streams.alarms.service import AlarmService
from streams.alarms.sinks import LogSink
from streams.alarms.webhook import WebhookSink
from streams.catalog import ContractCatalog
from streams.http.actuator import actuator
from streams.http.health import Component, Health
from streams.http.payouts import payout_routes
from streams.http.sampler import Sampler
from streams.http.server import HttpServer
from streams.intake import alarm_checks as intake_alarm_checks
from streams.intake import tables as intake_tables
from streams.intake.admission import while_outbox_has_room
from streams.intake.retention import Pruner
from streams.intake.subscription import Limits
from streams.ledger import tables as ledger_tables
from streams.ledger.domain import BusinessCalendar
from streams.middleware.intake import Intake, consumer_config
from streams.outbox import alarm_checks as outbox_alarm_checks
from streams.outbox.capacity import Capacity, CapacityLimits
from streams.outbox.producer import producer_settings
from streams.outbox.relay import Relay, RelayLimits, no_pace
from streams.outbox.wakeup import OutboxListener
from streams.payouts import alarm_checks as payout_alarm_checks
from streams.payouts import domain as payout_domain
from streams.payouts import handlers as payout_handlers
from streams.payouts import tables as payout_tables
from streams.payouts.http_bank import HttpBank
from streams.payouts.service import Payouts
from streams.resilience.circuit_breaker import BreakerLimits, CircuitBreaker
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

    from streams.alarms.sinks import AlarmSink
    from streams.outbox.producer import KafkaProducer
    from streams.outbox.relay import Pace
    from streams.payouts.bank import Bank

__all__ = [
    "ALL_METADATA",
    "PARTS",
    "SUBSCRIPTIONS",
    "Payday",
    "compose",
    "create_app",
    "open_bank",
    "outbox_limits",
    "tune_garbage_collection",
]

PARTS = ("tasks", "accounting", "payouts", "relay")
"""What `payday run --only` chooses from."""
SUBSCRIPTIONS: dict[str, tuple[str, ...]] = {
    tasks_handlers.GROUP: tasks_handlers.TOPICS,
    accounting_handlers.GROUP: accounting_handlers.TOPICS,
    payout_handlers.GROUP: payout_handlers.TOPICS,
}
"""Which group reads which topics, without prefixes."""
GC_THRESHOLD_OBJECTS, GC_GENERATIONS = 50_000, 20
"""New objects before the youngest generation is collected, and how many such collections before the next one is."""
ALL_METADATA = (kit_metadata, app_metadata)
_REGISTERED = (
    alarm_tables,
    intake_tables,
    ledger_tables,
    tasks_tables,
    accounting_tables,
    payout_tables,
    lease_table,
    tasks,
    accounting,
)
"""Importing a table registers it in its metadata."""


@dataclass(frozen=True, slots=True)
class Payday:
    """The app with its parts, for those who run it: the command line, the contract kit, tests."""

    app: FastStream
    broker: KafkaBroker
    database: Database
    intake: Intake
    relay: Relay
    capacity: Capacity
    reassigner: Reassigner
    payouts: Payouts
    bank: Bank | None
    metrics: Metrics
    sampler: Sampler
    health: Health
    http: HttpServer | None
    alarms: AlarmService
    pruner: Pruner


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
    make_producer: Callable[[], KafkaProducer] | None = None,
    bank: Bank | None = None,
) -> Payday:
    """Wire an app.

    Args:
        settings: read once.
        only: which of `PARTS` this process runs.
        pace: holds the relay back where the broker forgets what is not read.
        make_producer: what the relay publishes with; by default confluent-kafka's producer.
        bank: that pays; by default the one that the settings name, if they do.
    """
    parts = frozenset(only)
    database = Database(settings.database)
    catalog = ContractCatalog()
    limits = Limits(max_records=settings.max_records)
    metrics = Metrics(
        {
            settings.group_prefix + group: _prefixed(settings, SUBSCRIPTIONS[group])
            for group in SUBSCRIPTIONS.keys() & parts
        },
        _prefixed(settings, sorted({entry.topic for entry in CATALOG if entry.source})) if "relay" in parts else (),
    )
    relay_limits = RelayLimits(settings.relay_lease_seconds, settings.outbox_expire_seconds)
    relay = Relay(database, make_producer or partial(_producer, settings), pace, metrics, relay_limits)
    capacity = Capacity(database, outbox_limits(settings))
    intake = Intake(
        database,
        catalog,
        wake_relay=relay.wake,
        topic_prefix=settings.topic_prefix,
        group_prefix=settings.group_prefix,
        observer=metrics,
        limits=limits,
        admit=while_outbox_has_room(capacity),
    )
    secret = settings.secret_bytes()
    task_rules = tasks_domain.Rules(secret, settings.clock_skew_seconds)
    calendar = BusinessCalendar(settings.zone, settings.currency, settings.clock_skew_seconds)
    reassigner = Reassigner(database, catalog, task_rules, topic_prefix=settings.topic_prefix, wake_relay=relay.wake)
    bank = bank or open_bank(settings)
    accounting_group = settings.group_prefix + accounting_handlers.GROUP
    payouts = Payouts(
        database,
        catalog,
        calendar,
        topic_prefix=settings.topic_prefix,
        accounting_group=accounting_group,
        wake_relay=relay.wake,
        bank=bank,
        key_life_seconds=settings.bank_key_life_seconds,
        schedule=settings.payout_schedule,
    )
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
    if "payouts" in parts:
        payout_rules = payout_domain.Rules(calendar)
        broker.include_router(payout_handlers.router(intake, payout_rules, accounting_group, payouts.wake))
    sampler = Sampler(database, partial(_probe_broker, settings), intake.subscriptions)
    metrics.watch(sampler.snapshot)
    alarms = _alarms(settings, database, capacity)
    pruner = Pruner(database, settings.retention_days)
    health = _health(parts, sampler, intake, relay, reassigner, payouts, alarms)
    http = None
    if settings.http_port is not None:
        info = {"app": {"name": "payday", "version": version("payday")}, "parts": sorted(parts)}
        token = settings.http_token.get_secret_value() if settings.http_token is not None else None
        routes = payout_routes(payouts.runs, token) if "payouts" in parts else []
        http = HttpServer(actuator(health, info, metrics.text, routes), settings.http_host, settings.http_port)
    payday = Payday(
        FastStream(broker, logger=None),
        broker,
        database,
        intake,
        relay,
        capacity,
        reassigner,
        payouts,
        bank,
        metrics,
        sampler,
        health,
        http,
        alarms,
        pruner,
    )
    _add_life_cycle(payday, parts, settings.drain_seconds)
    return payday


def outbox_limits(settings: Settings) -> CapacityLimits:
    """How much may wait in the outbox."""
    return CapacityLimits(settings.outbox_max_rows, settings.outbox_max_bytes, settings.outbox_warning_share)


def open_bank(settings: Settings) -> HttpBank | None:
    """The bank that the settings name; None where they name none. Close it when done."""
    if settings.bank_url is None:
        return None
    # Many calls are in flight at once, so a few that fail in a row say little: the rate decides.
    breaker = CircuitBreaker(time.monotonic, BreakerLimits(consecutive_failures=None))
    return HttpBank(settings.bank_url.get_secret_value(), breaker)


def tune_garbage_collection() -> None:
    """Spare a long-running process from looking through everything it has, again and again.

    A batch makes many thousands of objects that all go away with it, by reference count. Python's collector takes that
    for growth and goes through the whole heap several times a second: measured, a fifth of the throughput. What is
    there after the start stays, so it is put aside; the rest is looked at less often. Call it once per process.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD_OBJECTS, GC_GENERATIONS, GC_GENERATIONS)


def create_app(settings: Settings | None = None) -> FastStream:
    """The whole app as FastStream knows it."""
    return compose(settings or load_settings()).app


def _add_life_cycle(payday: Payday, parts: frozenset[str], drain_seconds: float) -> None:
    """Order of start: HTTP, database, consumers, workers. Order of stop: what emits, consumers, relay, the rest."""
    listener = OutboxListener(payday.database, payday.relay.wake)

    async def open_database() -> None:
        if payday.http is not None:
            payday.http.start()
        await prepare(payday.database)
        await payday.capacity.look()
        payday.capacity.start()
        payday.sampler.start()  # not before: a reader in the moment in which a new file becomes WAL finds it locked
        await payday.intake.start(payday.broker)

    async def start_workers() -> None:
        payday.alarms.start()
        payday.pruner.start()
        if "relay" in parts:
            payday.relay.start()
            listener.start()
        if "tasks" in parts:
            payday.reassigner.start()
        if "payouts" in parts:
            payday.payouts.start()

    async def stop_workers() -> None:
        await payday.intake.stop_releasing()
        await payday.reassigner.stop()
        await payday.payouts.stop()

    async def close() -> None:
        await payday.intake.stop()
        await listener.stop()
        await payday.relay.stop(drain_seconds)
        await payday.pruner.stop()
        await payday.alarms.stop()
        await payday.sampler.stop()
        await payday.capacity.stop()
        if payday.http is not None:
            await payday.http.stop()
        await _close_bank(payday.bank)
        await payday.database.close()
        payday.metrics.close()

    payday.app.on_startup(open_database)
    payday.app.after_startup(start_workers)
    payday.app.on_shutdown(stop_workers)
    payday.app.after_shutdown(close)


async def _close_bank(bank: Bank | None) -> None:
    if isinstance(bank, HttpBank):
        await bank.close()


def _prefixed(settings: Settings, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(settings.topic_prefix + name for name in names)


def _alarms(settings: Settings, database: Database, capacity: Capacity) -> AlarmService:
    """What is looked at, and who is told."""
    sinks: list[AlarmSink] = [LogSink()]
    if settings.alarm_webhook_url is not None:
        app = f"{settings.group_prefix}{settings.topic_prefix}".strip(".") or "payday"
        kinds = (*KINDS, *outbox_alarm_checks.KINDS, *payout_alarm_checks.KINDS)
        sinks.append(WebhookSink(settings.alarm_webhook_url.get_secret_value(), kinds, app=app))
    outbox_checks = outbox_alarm_checks.outbox_checks(capacity, settings.outbox_expire_seconds)
    checks = (*intake_alarm_checks.CHECKS, *outbox_checks, *payout_alarm_checks.CHECKS)
    return AlarmService(database, checks, sinks, repeat_seconds=settings.alarm_repeat_seconds)


def _health(
    parts: frozenset[str],
    sampler: Sampler,
    intake: Intake,
    relay: Relay,
    reassigner: Reassigner,
    payouts: Payouts,
    alarms: AlarmService,
) -> Health:
    """Which workers this process is to run, and how its groups do."""
    workers: dict[str, Callable[[], bool]] = {"alarms": lambda: alarms.running}
    if "relay" in parts:
        workers["relay"] = lambda: relay.running
    if "tasks" in parts:
        workers["reassigner"] = lambda: reassigner.running
    if "payouts" in parts:
        workers |= payouts.workers

    def groups() -> dict[str, Component]:
        return {
            one.group: Component.of(
                one.assignment.joined and not one.assignment.paused,
                joined=one.assignment.joined,
                paused=one.assignment.paused,
                lag=sum(one.lag().values()),
            )
            for one in intake.subscriptions
        }

    return Health(sampler.snapshot, workers, groups, lambda: relay.breaker.state.value)


def _probe_broker(settings: Settings, timeout_seconds: float) -> None:
    """Ask Kafka for its metadata over a connection of its own, so that no consumer waits for the answer."""
    client = AdminClient({"bootstrap.servers": settings.bootstrap_servers(), "log_level": 0})
    client.list_topics(timeout=timeout_seconds)


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
