"""Where notices go: the protocol of a sink, and the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import structlog

from streams.alarms.kinds import Severity
from streams.alarms.notices import Event

if TYPE_CHECKING:
    from streams.alarms.kinds import AlarmKind
    from streams.alarms.notices import Notice

__all__ = ["AlarmSink", "LogSink", "log_at_once"]

log = structlog.get_logger(__name__)


class AlarmSink(Protocol):
    """Tells people.

    Attributes:
        name: under which the database remembers what this sink knows; never changed, unique among the sinks.
    """

    name: str

    async def notify(self, notice: Notice, /) -> None:
        """Tell. Returning means that it was taken; any exception that it was not, and that it is to be tried again.

        The same notice may come twice (same condition, same number).
        """
        ...

    async def close(self) -> None:
        """Give back what it holds."""
        ...


class LogSink:
    """Writes to the log: critical alarms as errors, the others and the end of any as warnings."""

    name = "log"

    async def notify(self, notice: Notice, /) -> None:
        """Write one line."""
        critical = notice.event is not Event.CLEARED and notice.severity == Severity.CRITICAL
        (log.error if critical else log.warning)(
            f"alarm {notice.event.value}",
            alarm=notice.name,
            subject=notice.subject,
            detail=notice.detail,
            number=notice.number,
        )

    async def close(self) -> None:
        """Nothing to give back."""


def log_at_once(kind: AlarmKind, event: Event, subject: str, detail: str) -> None:
    """Tell the log alone, now: for what cannot be durable, such as an alarm about the database itself."""
    critical = event is not Event.CLEARED and kind.severity is Severity.CRITICAL
    (log.error if critical else log.warning)(
        f"alarm {event.value}", alarm=kind.name, subject=subject, detail=detail, runbook=kind.runbook
    )
