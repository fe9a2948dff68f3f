"""What an exception means, decided in one place.

- contention: somebody else was faster; the same transaction is redone and no attempt is spent.
- outage: something that everything needs is away, which a probe of its own confirms; intake pauses.
- poison: the record can never be handled as it is; it is parked as `invalid`, dead at once.
- failure: anything else; the fault lies with the record or its handler.

An app says what its own exceptions mean with classifiers: a kind, or the dependency that seems to be away. What cannot
be decoded never becomes an exception: `decode` leaves that on the record.

    Exception
    ├── Outage
    │   └── KillSwitchTripped
    ├── Fenced
    └── BatchFailed
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType
from typing import Any, Protocol

from streams.storage.errors import DatabaseReadOnly, DatabaseUnavailable, is_contention

__all__ = [
    "BatchFailed",
    "Classifiers",
    "Dependency",
    "Fenced",
    "KillSwitchTripped",
    "Kind",
    "Outage",
    "Probe",
    "Verdict",
    "check_classifiers",
    "classified_as",
    "classify",
    "judge",
]


class Kind(Enum):
    """What is to be done about an exception."""

    CONTENTION = auto()
    OUTAGE = auto()
    POISON = auto()
    FAILURE = auto()


@dataclass(frozen=True, slots=True)
class Dependency:
    """Something outside that handlers need, and how to find out whether it is there.

    Attributes:
        name: for logs and alarms.
        probe: raises if it is away. An error that suggests an outage is one only if this says so too; otherwise it
            is a failure of the record. It is asked again and again until it returns.
    """

    name: str
    probe: Callable[[], Awaitable[None]]


Classifiers = Mapping[Any, Kind | Dependency]
"""Exception class -> what it means, subclasses included; of several the most special one counts."""


class Outage(Exception):
    """Nothing can be handled now: pause, keep the lag in Kafka, try again for ever.

    Attributes:
        dependency: what is away; None: the database, or Kafka.
    """

    def __init__(self, text: str, dependency: Dependency | None = None) -> None:
        super().__init__(text)
        self.dependency = dependency


class KillSwitchTripped(Outage):
    """Many different keys fail for one cause."""


class Fenced(Exception):
    """Another consumer has moved this group's progress in the partition: this one is no longer its owner."""


class BatchFailed(Exception):
    """A transaction failed for a reason that lies in its records; `__cause__` says which."""


class Probe(Protocol):
    """An independent sign of life of what a handler depends on."""

    async def probe_write(self) -> None:
        """Raise if nothing could be written now."""
        ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an exception means, and what is away if it is an outage of something else than the database."""

    kind: Kind
    dependency: Dependency | None = None


def check_classifiers(classifiers: Classifiers) -> None:
    """Refuse what would stop a group for ever over one bad record.

    Raises:
        ValueError: an exception is said to be an outage without anything that could confirm it.
    """
    for error_type, meaning in classifiers.items():
        if meaning is Kind.OUTAGE:
            raise ValueError(f"{error_type.__name__}: name the Dependency whose probe confirms that it is away")


def classified_as(error: BaseException, classifiers: Classifiers) -> Kind | Dependency | None:
    """What an app says about an exception, if anything."""
    for error_type in type(error).__mro__:
        if error_type in classifiers:
            return classifiers[error_type]
    return None


async def judge(error: Exception, probe: Probe, classifiers: Classifiers = MappingProxyType({})) -> Verdict:
    """Say what an exception means; asks the probes before a record is blamed."""
    if is_contention(error):
        return Verdict(Kind.CONTENTION)
    if isinstance(error, DatabaseUnavailable | DatabaseReadOnly):
        return Verdict(Kind.OUTAGE)
    meaning = classified_as(error, classifiers)
    if isinstance(meaning, Dependency):
        try:
            await meaning.probe()
        except Exception:  # whatever keeps the probe from answering is the outage itself
            return Verdict(Kind.OUTAGE, meaning)
    try:
        await probe.probe_write()
    except Exception:  # likewise
        return Verdict(Kind.OUTAGE)
    return Verdict(meaning if isinstance(meaning, Kind) else Kind.FAILURE)


async def classify(error: Exception, probe: Probe) -> Kind:
    """Say what an exception means where no classifiers are at hand."""
    return (await judge(error, probe)).kind
