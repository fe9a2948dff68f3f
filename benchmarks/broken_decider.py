"""A decider with a defect: it fails at tasks of one title, for the measurement of failing records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.workload import FAILING_TITLE
from streams.tasks import domain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from contracts.message import Message
    from contracts.tasks import CreateTask
    from streams.intake.deciders import Change, State
    from streams.outbox.envelope import Cause

__all__ = ["Broken", "break_create_task"]


class Broken(Exception):
    """What the defect raises."""


def break_create_task() -> None:
    """Plant the defect in this process; call it before the app is composed."""
    create_task = domain.create_task

    def broken(rules: domain.Rules, state: State, command: CreateTask, cause: Cause) -> Iterator[Change | Message]:
        if command.title == FAILING_TITLE:
            raise Broken("this decider fails on purpose")
        return create_task(rules, state, command, cause)

    domain.create_task = broken
