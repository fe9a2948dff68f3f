"""Growing waits with jitter."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

__all__ = ["Backoff"]


@dataclass(slots=True)
class Backoff:
    """Waits that double up to a bound, each spread over its upper half.

    Spreading keeps many clients of one failed service from coming back at the same moment ("equal jitter").

    Attributes:
        first_seconds: the first wait before jitter.
        max_seconds: no wait is longer.
    """

    first_seconds: float
    max_seconds: float
    source: random.Random = field(default_factory=random.Random, repr=False)
    _next_seconds: float | None = field(default=None, init=False, repr=False)

    def next_seconds(self) -> float:
        """How long to wait now; the following wait is twice as long."""
        bound = self._next_seconds if self._next_seconds is not None else self.first_seconds
        self._next_seconds = min(bound * 2, self.max_seconds)
        return bound * self.source.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Start again from the first wait, after something succeeded."""
        self._next_seconds = None
