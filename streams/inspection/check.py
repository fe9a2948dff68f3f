"""What an invariant of the audit is."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Check"]


@dataclass(frozen=True, slots=True)
class Check:
    """An invariant.

    Attributes:
        name: as printed.
        holds: what is true of every row.
        sql: gives the rows of which it is not.
    """

    name: str
    holds: str
    sql: str
