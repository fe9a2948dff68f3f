"""Whether this instance is alive, and whether it does its work.

- *Liveness* asks only whether this process itself is stuck: restarting it mends neither Kafka nor the database.
- *Readiness* asks whether it can do its work now: it has its partitions, is not paused, and the database answers.
- *Health* shows every component, for people.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streams.http.sampler import Snapshot

__all__ = ["Component", "Health", "Status"]


class Status(StrEnum):
    """In words that actuator clients know."""

    UP = "UP"
    DOWN = "DOWN"


@dataclass(frozen=True, slots=True)
class Component:
    """One part: whether it is up, and what there is to know of it."""

    status: Status
    details: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, up: bool, **details: Any) -> Component:  # noqa: FBT001  the status is what it is about
        """UP or DOWN with details."""
        return cls(Status.UP if up else Status.DOWN, details)

    def as_json(self) -> dict[str, Any]:
        """Status first."""
        return {"status": self.status.value, **({"details": dict(self.details)} if self.details else {})}


class Health:
    """Judges from the last snapshot and from the workers' own state; asks nobody.

    Args:
        snapshot: kept fresh by the sampler.
        workers: name -> whether it runs; those that this process does not run are left out.
        intake: the groups of this process and how they do.
        breaker: how the relay's circuit breaker stands; an open one is an alarm, not a reason to restart.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        workers: Mapping[str, Callable[[], bool]],
        intake: Callable[[], Mapping[str, Component]],
        breaker: Callable[[], str] | None = None,
    ) -> None:
        self._snapshot = snapshot
        self._workers = workers
        self._intake = intake
        self._breaker = breaker

    def components(self) -> dict[str, Component]:
        """Every component by name."""
        snapshot = self._snapshot
        found = {
            "database": _answering(snapshot.database_up, snapshot.database_error),
            "kafka": _answering(snapshot.broker_up, snapshot.broker_error),
        }
        found |= {f"intake:{group}": component for group, component in self._intake().items()}
        found |= {f"worker:{name}": Component.of(runs()) for name, runs in self._workers.items()}
        if "relay" in self._workers:
            found["outbox"] = Component.of(
                True,  # noqa: FBT003  a backlog is an alarm, not a reason to restart
                unsent=snapshot.unsent,
                oldest_unsent_age_seconds=round(snapshot.oldest_unsent_age_seconds, 3),
                **({"breaker": self._breaker()} if self._breaker is not None else {}),
            )
        return found

    def liveness(self) -> Component:
        """Whether the background workers of this process are alive."""
        dead = [name for name, runs in self._workers.items() if not runs()]
        return Component.of(not dead, **({"dead": dead} if dead else {}))

    def readiness(self) -> Component:
        """Whether this process can do its work now."""
        waiting = [group for group, component in self._intake().items() if component.status is Status.DOWN]
        reasons = {}
        if not self._snapshot.database_up:
            reasons["database"] = self._snapshot.database_error
        if waiting:
            reasons["intake"] = ", ".join(waiting)
        return Component.of(not reasons, **reasons)

    def overall(self) -> dict[str, Any]:
        """All of it: DOWN if any component is."""
        components = self.components()
        up = all(component.status is Status.UP for component in components.values())
        return {
            "status": (Status.UP if up else Status.DOWN).value,
            "components": {name: component.as_json() for name, component in components.items()},
        }


def _answering(up: bool, error: str) -> Component:  # noqa: FBT001  as above
    return Component.of(up, **({} if up else {"error": error}))
