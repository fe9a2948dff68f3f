"""What holds writers back: nothing on a real Kafka, the readers' progress on the embedded broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.embedded.pacing import STALL_SECONDS, Pacer
from streams.inspection.reader_positions import ReaderPositions
from streams.inspection.readings import all_topics, app_readings
from streams.outbox.relay import no_pace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from streams.inspection.log_ends import LogEndsReader
    from streams.outbox.relay import Pace
    from streams.settings import Settings
    from streams.storage.database import Database

__all__ = ["pace_of"]


def pace_of(
    settings: Settings,
    broker: LogEndsReader,
    database: Callable[[], Awaitable[Database | None]],
    *,
    always: Sequence[str] = (),
    stall_seconds: float | None = STALL_SECONDS,
) -> Pace:
    """How fast this deployment's topics may be written to.

    Args:
        settings: of this deployment.
        broker: asked where topics end.
        database: awaited for the app's database when it is needed; None while there is none.
        always: groups that count before they have made progress, full names.
        stall_seconds: readers that do not come on for so long are an error; None waits for ever.
    """
    if not settings.uses_embedded_broker:
        return no_pace
    readings = app_readings(settings.topic_prefix, settings.group_prefix)
    stand = ReaderPositions(database, broker, readings, always)
    return Pacer(stand.log_ends, stand.positions, all_topics(*readings), stall_seconds)
