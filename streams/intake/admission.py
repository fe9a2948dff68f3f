"""Keeps intake from taking what could not be published: the outbox is full."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.intake.classify import Dependency, Outage

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.outbox.capacity import Capacity

__all__ = ["while_outbox_has_room"]


def while_outbox_has_room(capacity: Capacity) -> Callable[[], None]:
    """What `Intake` asks before each delivery: a full outbox is an outage, over as soon as there is room again."""
    room = Dependency("the outbox's reader", capacity.check_room)

    def admit() -> None:
        reason = capacity.full_reason()
        if reason is not None:
            raise Outage(reason, room)

    return admit
