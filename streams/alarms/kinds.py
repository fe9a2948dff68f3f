"""The kinds of alarm: one table of names, how bad each is, what it means, and where the runbook says what to do.

An app adds kinds of its own beside these and hands both to the alarm service.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["DATABASE_DOWN", "DEAD_RECORD", "KINDS", "LOST_RECORDS", "SKIPPED_RECORDS", "AlarmKind", "Severity"]

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

KINDS = (DEAD_RECORD, LOST_RECORDS, SKIPPED_RECORDS, DATABASE_DOWN)
