"""What the simulated bank is told to do wrong, and whether it does so this time.

Invariant: whether a fault strikes depends on the seed, the idempotency key and how often the key was tried, on nothing
else: concurrent requests in another order meet the same faults.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["FaultDice", "Faults", "Strikes"]

REMEMBERED_KEYS = 100_000
"""Attempts of so many keys are counted; those tried longest ago are forgotten and count anew."""

Probability = Annotated[float, Field(ge=0, le=1)]
DelaySeconds = Annotated[float, Field(ge=0, le=3600)]


class Faults(BaseModel):
    """The body of `PUT /faults`, and of `GET /faults`. What is not named does not happen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    """Draws the same faults again."""
    delay_seconds: DelaySeconds = 0.0
    """Each payment waits this long before it is looked at."""
    reply_delay_seconds: DelaySeconds = 0.0
    """Each payment's reply waits this long after it was booked."""
    fail_before: Probability = 0.0
    """Answer 500 without booking."""
    fail_after: Probability = 0.0
    """Book, and answer 500."""
    drop_reply: Probability = 0.0
    """Book, and cut the connection instead of answering."""
    fail_first: Annotated[int, Field(ge=0, le=1000)] = 0
    """Answer so many attempts of each key with 500 without booking, then go on as usual."""
    down: bool = False
    """Answer everything about payments with 503."""
    refuse_accounts: Annotated[frozenset[Annotated[str, Field(max_length=255)]], Field(max_length=10_000)] = frozenset()
    """Reject payments to these accounts as `account-closed`."""


class Strikes(BaseModel):
    """What strikes one attempt."""

    model_config = ConfigDict(frozen=True)

    fail_before: bool
    fail_after: bool
    drop_reply: bool


class FaultDice:
    """Draws for one setting of faults, and counts the attempts of each key since it was set."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self._attempts: OrderedDict[str, int] = OrderedDict()

    def strike(self, key: str) -> Strikes:
        """Draw for the next attempt of a key."""
        attempt = self._attempts.pop(key, 0) + 1
        self._attempts[key] = attempt
        if len(self._attempts) > REMEMBERED_KEYS:
            self._attempts.popitem(last=False)
        faults = self.faults
        draw = random.Random(f"{faults.seed}/{key}/{attempt}").random  # noqa: S311  faults, not secrets
        before, after, dropped = draw(), draw(), draw()
        return Strikes(
            fail_before=attempt <= faults.fail_first or before < faults.fail_before,
            fail_after=after < faults.fail_after,
            drop_reply=dropped < faults.drop_reply,
        )
