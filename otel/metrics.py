"""The app's metrics: counted per batch, sampled in the background, exported as Prometheus text.

Counters exist at 0 from the start: a series that first appears at 1 shows no increase, and an alert on it never fires.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from typing import Protocol

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from prometheus_client import CollectorRegistry, generate_latest

from otel import names

__all__ = ["Metrics", "Sample"]

OUTCOMES = ("handled", "duplicate", "parked")
BREAKER_STATES = ("closed", "half-open", "open")
"""In the order of their numbers."""


class Delivery(Protocol):
    """What intake tells of one delivery."""

    @property
    def group(self) -> str: ...
    @property
    def outcomes(self) -> Mapping[tuple[str, str], int]: ...
    @property
    def unfinished(self) -> int: ...
    @property
    def seconds(self) -> float: ...


class Sample(Protocol):
    """What was last seen of the state behind the app; see `streams.http.sampler`."""

    @property
    def sampled_at_seconds(self) -> float: ...
    @property
    def database_up(self) -> bool: ...
    @property
    def broker_up(self) -> bool: ...
    @property
    def unsent(self) -> int: ...
    @property
    def oldest_unsent_age_seconds(self) -> float: ...
    @property
    def parked(self) -> Mapping[tuple[str, str], int]: ...
    @property
    def lag(self) -> Mapping[tuple[str, str], int]: ...


class Metrics:
    """Observes intake and relay; holds everything in a registry of its own.

    Args:
        readings: group -> topics that it reads in this process, full names.
        published_topics: full names of what the relay publishes to.
    """

    def __init__(self, readings: Mapping[str, Iterable[str]], published_topics: Iterable[str]) -> None:
        self._registry = CollectorRegistry()
        reader = PrometheusMetricReader(scope_info_enabled=False, registry=self._registry)
        buckets = ExplicitBucketHistogramAggregation(boundaries=names.DURATION_BUCKETS_SECONDS)
        provider = MeterProvider([reader], views=[View(instrument_unit="s", aggregation=buckets)])
        self._provider = provider
        self._meter = meter = provider.get_meter("payday")
        self._records = meter.create_counter(names.INTAKE_RECORDS, description="Records taken, by what became of them")
        self._unfinished = meter.create_counter(
            names.INTAKE_UNFINISHED, description="Records that were sought back to be read again"
        )
        self._seconds = meter.create_histogram(
            names.INTAKE_DELIVERY_SECONDS, unit="s", description="How long a delivery took from poll to commit"
        )
        self._published = meter.create_counter(names.OUTBOX_PUBLISHED, description="Events that were acknowledged")
        self._refused = meter.create_counter(names.OUTBOX_REFUSED, description="Events that were not acknowledged")
        self._breaker_opened = meter.create_counter(
            names.RELAY_BREAKER_OPENED, description="How often the relay gave up publishing for a while"
        )
        self._breaker_state = meter.create_gauge(
            names.RELAY_BREAKER, description="The relay's circuit breaker: 0 closed, 1 half-open, 2 open"
        )
        if published_topics:
            self._breaker_opened.add(0)
            self._breaker_state.set(0)
        for group, topics in readings.items():
            self._unfinished.add(0, {names.GROUP: group})
            for topic in topics:
                for outcome in OUTCOMES:
                    self._records.add(0, {names.GROUP: group, names.TOPIC: topic, names.OUTCOME: outcome})
        for topic in published_topics:
            self._published.add(0, {names.TOPIC: topic})
            self._refused.add(0, {names.TOPIC: topic})

    def delivered(self, report: Delivery) -> None:
        """Count one delivery."""
        for (topic, outcome), count in report.outcomes.items():
            self._records.add(count, {names.GROUP: report.group, names.TOPIC: topic, names.OUTCOME: outcome})
        if report.unfinished:
            self._unfinished.add(report.unfinished, {names.GROUP: report.group})
        self._seconds.record(report.seconds, {names.GROUP: report.group})

    def published(self, counts: Mapping[str, int]) -> None:
        """Count acknowledged events by topic."""
        for topic, count in counts.items():
            self._published.add(count, {names.TOPIC: topic})

    def refused(self, counts: Mapping[str, int]) -> None:
        """Count events by topic that were not acknowledged."""
        for topic, count in counts.items():
            self._refused.add(count, {names.TOPIC: topic})

    def breaker_changed(self, state: str) -> None:
        """Count openings, show the state."""
        self._breaker_state.set(BREAKER_STATES.index(state))
        if state == "open":
            self._breaker_opened.add(1)

    def watch(self, sample: Sample) -> None:
        """Export what the sampler last saw. A scrape asks nobody: it must answer while everything is down."""

        def gauge(name: str, description: str, read: object, unit: str = "") -> None:
            def observe(_options: CallbackOptions) -> Iterator[Observation]:
                assert callable(read)
                yield from read()

            self._meter.create_observable_gauge(name, [observe], unit=unit, description=description)

        gauge(names.OUTBOX_UNSENT, "Events that wait to be published", lambda: [Observation(sample.unsent)])
        gauge(
            names.OUTBOX_OLDEST_AGE,
            "Age of the oldest event that waits to be published",
            lambda: [Observation(sample.oldest_unsent_age_seconds)],
            "s",
        )
        gauge(
            names.PARKED,
            "Parked records that are not resolved",
            lambda: [
                Observation(count, {names.GROUP: group, names.STATE: state})
                for (group, state), count in sample.parked.items()
            ],
        )
        gauge(
            names.INTAKE_LAG,
            "Records of the partitions of this process that are still to be read",
            lambda: [
                Observation(lag, {names.GROUP: group, names.TOPIC: topic}) for (group, topic), lag in sample.lag.items()
            ],
        )
        gauge(names.DATABASE_UP, "1 while the database answers", lambda: [Observation(int(sample.database_up))])
        gauge(names.BROKER_UP, "1 while Kafka answers", lambda: [Observation(int(sample.broker_up))])
        gauge(
            names.SAMPLE_TIME,
            "When the gauges were last sampled, seconds since 1970",
            lambda: [Observation(sample.sampled_at_seconds)],
            "s",
        )
        build = {names.VERSION: version("payday")}
        gauge(names.BUILD, "Always 1; says which version runs", lambda: [Observation(1, build)])

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self._registry)

    def close(self) -> None:
        """Stop exporting."""
        self._provider.shutdown()
