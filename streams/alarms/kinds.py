"""The kinds of alarm: one table of names, how bad each is, what it means, and where the runbook says what to do.

An app adds kinds of its own beside these and hands both to the alarm service.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = [
    "DATABASE_DOWN",
    "DEAD_RECORD",
    "KEY_FULL",
    "KILL_SWITCH",
    "KINDS",
    "LOST_RECORDS",
    "OUTAGE",
    "RETRYING_TOO_LONG",
    "SKIPPED_RECORDS",
    "STORE_FULL",
    "AlarmKind",
    "Severity",
]

RUNBOOK_PAGE = "docs/operations.md"


class Severity(StrEnum):
    """How soon somebody has to look."""

    WARNING = "warning"
    """In working hours."""
    CRITICAL = "critical"
    """Now."""


@dataclass(frozen=True, slots=True)
class AlarmKind:
    """What an alarm of this name is about.

    Attributes:
        name: as operators see it and rules match it; never changed.
        severity: of every alarm of this kind.
        meaning: one sentence for whoever is woken.
        anchor: of the runbook's section in `RUNBOOK_PAGE`.
    """

    name: str
    severity: Severity
    meaning: str
    anchor: str

    @property
    def runbook(self) -> str:
        """Where it says what to do."""
        return f"{RUNBOOK_PAGE}#{self.anchor}"


DEAD_RECORD = AlarmKind(
    "dead-record",
    Severity.CRITICAL,
    "Records could not be handled, and nothing tries them again by itself.",
    "parked-records-appear",
)
LOST_RECORDS = AlarmKind(
    "lost-records",
    Severity.CRITICAL,
    "Retention removed records before they were read.",
    "lost-or-skipped-is-above-0",
)
SKIPPED_RECORDS = AlarmKind(
    "skipped-records",
    Severity.CRITICAL,
    "Offsets are missing for no known reason.",
    "lost-or-skipped-is-above-0",
)
DATABASE_DOWN = AlarmKind(
    "database-down",
    Severity.CRITICAL,
    "The database does not answer, so no other alarm can be raised or told.",
    "the-database-is-down",
)

RETRYING_TOO_LONG = AlarmKind(
    "retrying-too-long",
    Severity.WARNING,
    "A record fails again and again, and the later ones of its key wait for it.",
    "parked-records-appear",
)
KEY_FULL = AlarmKind(
    "key-full",
    Severity.CRITICAL,
    "So many records of one key are parked that its partition is not read any further.",
    "the-store-of-parked-records-is-full",
)
STORE_FULL = AlarmKind(
    "store-full",
    Severity.CRITICAL,
    "So many records are parked that the group reads nothing any more.",
    "the-store-of-parked-records-is-full",
)
OUTAGE = AlarmKind(
    "outage",
    Severity.CRITICAL,
    "Something that handlers need is away; the group waits and nothing is spent.",
    "something-that-handlers-need-is-away",
)
KILL_SWITCH = AlarmKind(
    "kill-switch",
    Severity.CRITICAL,
    "Many different keys fail for one cause; the group waits and tries one record now and then.",
    "the-kill-switch-has-tripped",
)

KINDS = (
    DEAD_RECORD,
    LOST_RECORDS,
    SKIPPED_RECORDS,
    RETRYING_TOO_LONG,
    KEY_FULL,
    STORE_FULL,
    OUTAGE,
    KILL_SWITCH,
    DATABASE_DOWN,
)
