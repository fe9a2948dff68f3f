"""The kit's front door for FastStream: one list of steps, and a subscriber's options."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from faststream import AckPolicy

from streams.intake.release import Releaser
from streams.intake.subscription import Limits, Subscription
from streams.middleware.dead_letter import DeadLetter
from streams.middleware.message import decode_message, parse_message
from streams.middleware.offsets import Offsets
from streams.middleware.retry import Retry
from streams.middleware.step import Subscriptions
from streams.middleware.suspects import Suspects
from streams.middleware.telemetry import Telemetry
from streams.middleware.unit_of_work import UnitOfWorkStep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from faststream.confluent import KafkaBroker

    from streams.intake.classify import Classifiers
    from streams.intake.parked_row import ParkedRow
    from streams.intake.retries import Retries
    from streams.middleware.telemetry import IntakeObserver
    from streams.outbox.envelope import MessageCatalog
    from streams.storage.database import Database

__all__ = ["Intake", "consumer_config"]

MAX_POLL_INTERVAL_MS = 300_000
SESSION_TIMEOUT_MS = 10_000


def consumer_config(limits: Limits) -> dict[str, Any]:
    """What a `KafkaBroker` must be given as `config=` besides the subscribers' options.

    Offsets are stored explicitly after a commit and carried to Kafka by librdkafka's automatic commit in the
    background, which costs no round trip per batch.
    """
    return {
        "enable.auto.commit": True,
        "enable.auto.offset.store": False,
        "auto.commit.interval.ms": limits.commit_interval_ms,
    }


class Intake:
    """The consume side of an app.

    Args:
        database: where inbox, progress, parked records, outbox and the app's own tables are.
        catalog: reads and describes messages.
        wake_relay: called after commits that left something in the outbox.
        topic_prefix, group_prefix: stand before every topic and group.
        observer: told of every delivery.
        limits: see `Limits`.
        retries: how parked records are treated, see `Retries`.
        classifiers: what the exceptions of handlers mean, see `streams.intake.classify`.
        admit: asked before each delivery; raises `Outage` while none is to be taken, see `streams.intake.admission`.
    """

    def __init__(
        self,
        database: Database,
        catalog: MessageCatalog,
        *,
        wake_relay: Callable[[], None],
        topic_prefix: str = "",
        group_prefix: str = "",
        observer: IntakeObserver | None = None,
        limits: Limits | None = None,
        retries: Retries | None = None,
        classifiers: Classifiers | None = None,
        admit: Callable[[], None] | None = None,
    ) -> None:
        self.database = database
        self.subscriptions = Subscriptions()
        self.limits = limits or Limits()
        self.retries = retries
        self.holder = str(uuid4())
        self._classifiers = classifiers
        self._one_at_a_time = asyncio.Lock()
        self._admit = admit
        self._releasers: dict[Subscription, Releaser] = {}
        self._catalog = catalog
        self._wake_relay = wake_relay
        self._topic_prefix = topic_prefix
        self._group_prefix = group_prefix
        self._observer = observer

    @property
    def middlewares(self) -> Sequence[Callable[..., Any]]:
        """The steps, outermost first; give them to the broker or the router."""
        known = self.subscriptions
        return (
            partial(Offsets, subscriptions=known),  # outermost: sees every delivery first and settles it last
            partial(Telemetry, subscriptions=known, observer=self._observer),  # measures all that follows
            partial(Suspects, subscriptions=known, one_at_a_time=self._one_at_a_time),  # before anything can kill
            partial(DeadLetter, subscriptions=known),  # decodes, and isolates what makes a transaction fail
            partial(Retry, subscriptions=known),  # judges exceptions; redoes one transaction
            partial(UnitOfWorkStep, subscriptions=known),  # innermost: the transaction around the handler
        )

    def subscribe(
        self,
        *topics: str,
        group: str,
        accepts: Iterable[str],
        unheld_topics: Iterable[str] = (),
        retries: Retries | None = None,
    ) -> Subscription:
        """Declare that a group reads some topics.

        Args:
            topics: without prefix.
            group: without prefix.
            accepts: the type names that the handler takes.
            unheld_topics: those of the topics whose records do not wait for an earlier one of their key.
            retries: how its parked records are treated; by default as `Intake` was told.
        """
        subscription = Subscription(
            group=self._group_prefix + group,
            topics=[self._topic_prefix + topic for topic in topics],
            accepts=accepts,
            catalog=self._catalog,
            database=self.database,
            wake_relay=self._wake_relay,
            unheld_topics=[self._topic_prefix + topic for topic in unheld_topics],
            topic_prefix=self._topic_prefix,
            limits=self.limits,
            retries=retries or self.retries,
            classifiers=self._classifiers,
            holder=self.holder,
        )
        if self._admit is not None:
            subscription.admit = self._admit
        self.subscriptions.add(subscription)
        return subscription

    def options(self, subscription: Subscription, *, batch: bool = True) -> dict[str, Any]:
        """What the FastStream subscriber of a subscription must be given."""
        limits, assignment = subscription.limits, subscription.assignment
        subscription.batch = batch
        options: dict[str, Any] = {
            "group_id": subscription.group,
            "polling_interval": limits.poll_seconds,
            "auto_offset_reset": "earliest",
            "auto_commit_interval_ms": limits.commit_interval_ms,
            "partition_assignment_strategy": ("cooperative-sticky",),
            "max_poll_interval_ms": MAX_POLL_INTERVAL_MS,
            "session_timeout_ms": SESSION_TIMEOUT_MS,
            "ack_policy": AckPolicy.MANUAL,
            "no_reply": True,
            "parser": parse_message,
            "decoder": decode_message,
            "on_assign": assignment.on_assign,
            "on_revoke": assignment.on_revoke,
            "on_lost": assignment.on_lost,
        }
        return options | ({"batch": True, "max_records": limits.max_records} if batch else {})

    async def start(self, broker: KafkaBroker | None = None) -> None:
        """Call before the broker starts: names the loop on which rebalances read the database.

        Args:
            broker: whose subscribers get what was parked once its time has come, as soon as they have joined their
                groups. None: nothing is tried again by itself.
        """
        loop = asyncio.get_running_loop()
        for subscription in self.subscriptions:
            subscription.assignment.attach(loop)
        if broker is not None:
            for releaser in self.releasers(broker):
                releaser.start()

    def releasers(self, broker: KafkaBroker) -> Sequence[Releaser]:
        """The release workers of those subscriptions that the broker has subscribers for."""
        for subscriber in broker.subscribers:
            subscription = self.subscriptions.of(subscriber)
            if subscription is not None and subscription not in self._releasers:
                deliver = partial(_deliver, subscriber, subscription)
                self._releasers[subscription] = Releaser(subscription, deliver, partial(_is_running, subscriber))
        return tuple(self._releasers.values())

    async def stop_releasing(self) -> None:
        """Call before the broker stops: finishes what is being tried again, and begins no more."""
        await asyncio.gather(*(releaser.stop() for releaser in self._releasers.values()))

    async def stop(self) -> None:
        """Call after the broker has stopped."""
        await self.stop_releasing()
        for subscription in self.subscriptions:
            await subscription.close()

    @property
    def joined(self) -> bool:
        """Whether every group has been given its partitions once."""
        return all(subscription.assignment.joined for subscription in self.subscriptions)


def _is_running(subscriber: Any) -> bool:
    return bool(subscriber.running)


async def _deliver(subscriber: Any, subscription: Subscription, rows: Sequence[ParkedRow]) -> int:
    """Hand parked records to a subscriber as its consume loop would; how many of them moved."""
    before = subscription.released
    for delivery in (tuple(rows),) if subscription.batch else rows:
        await subscriber.process_message(delivery)
    return subscription.released - before
