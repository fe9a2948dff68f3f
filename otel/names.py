"""Every name that leaves the process in telemetry: metrics and their attributes.

The messaging conventions of OpenTelemetry are still in development, so they are spelled in this file only.
"""

from __future__ import annotations

from typing import Final

INTAKE_RECORDS: Final = "payday.intake.records"
INTAKE_UNFINISHED: Final = "payday.intake.unfinished"
INTAKE_DELIVERY_SECONDS: Final = "payday.intake.delivery.duration"
OUTBOX_PUBLISHED: Final = "payday.outbox.published"
OUTBOX_REFUSED: Final = "payday.outbox.refused"
RELAY_BREAKER_OPENED: Final = "payday.relay.breaker.opened"
RELAY_BREAKER: Final = "payday.relay.breaker.state"

INTAKE_LAG: Final = "payday.intake.lag"
PARKED: Final = "payday.parked.records"
OUTBOX_UNSENT: Final = "payday.outbox.unsent"
OUTBOX_OLDEST_AGE: Final = "payday.outbox.oldest.age"
DATABASE_UP: Final = "payday.database.up"
BROKER_UP: Final = "payday.broker.up"
SAMPLE_TIME: Final = "payday.sample.time"
BUILD: Final = "payday.build"

GROUP: Final = "group"
TOPIC: Final = "topic"
OUTCOME: Final = "outcome"
STATE: Final = "state"
VERSION: Final = "version"

DURATION_BUCKETS_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""Those of the messaging conventions: OpenTelemetry's own begin at 5 s."""
