"""What an exception means, decided in one place.

- contention: somebody else was faster; the same transaction is redone and no attempt is spent.
- outage: something that everything needs is away, which a probe of its own confirms; intake pauses.
- failure: anything else; the fault lies with the record or its handler.

(Poison, the fourth kind, never becomes an exception: `decode` leaves it on the record.)
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Protocol

from streams.storage.errors import DatabaseReadOnly, DatabaseUnavailable, is_contention

__all__ = ["BatchFailed", "Fenced", "Kind", "Outage", "Probe", "classify"]


class Kind(Enum):
    """What is to be done about an exception."""

    CONTENTION = auto()
    OUTAGE = auto()
    FAILURE = auto()


class Outage(Exception):
    """Nothing can be handled now: pause, keep the lag in Kafka, try again for ever."""


class Fenced(Exception):
    """Another consumer has moved this group's progress in the partition: this one is no longer its owner."""


class BatchFailed(Exception):
    """A transaction failed for a reason that lies in its records; `__cause__` says which."""


class Probe(Protocol):
    """An independent sign of life of what a handler depends on."""

    async def probe_write(self) -> None:
        """Raise if nothing could be written now."""
        ...


async def classify(error: Exception, probe: Probe) -> Kind:
    """Say what an exception means; asks `probe` before a record is blamed."""
    if is_contention(error):
        return Kind.CONTENTION
    if isinstance(error, DatabaseUnavailable | DatabaseReadOnly):
        return Kind.OUTAGE
    try:
        await probe.probe_write()
    except Exception:  # whatever keeps the probe from answering is the outage itself
        return Kind.OUTAGE
    return Kind.FAILURE
