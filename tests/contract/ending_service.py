"""A service that ends: at once, or when it has been asked to do something."""

from __future__ import annotations

import os
import sys

import streams.intake.unit_of_work
from streams.contract_kit import service

LAST_WORDS = "it is Friday"


def _end(*_arguments: object) -> None:
    sys.stderr.write(LAST_WORDS)
    sys.stderr.flush()
    os._exit(7)


if __name__ == "__main__":
    if os.environ["PAYDAY_CURRENCY"] == "EUR":
        _end()
    streams.intake.unit_of_work.UnitOfWork.open = _end  # type: ignore[method-assign, assignment]
    service.main()
