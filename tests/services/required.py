"""The rule of the missing service: its tests are skipped, and fail where `PAYDAY_TEST_REQUIRE` names it."""

from __future__ import annotations

import os
from enum import Enum
from typing import NoReturn

import pytest

__all__ = ["ServiceMissing", "Verdict", "judge", "leave_test", "verdict"]

VARIABLE = "PAYDAY_TEST_REQUIRE"


class ServiceMissing(Exception):
    """A service cannot be had here; the text says in one line why, and how to get it."""


class Verdict(Enum):
    """What happens to a test whose service is missing."""

    SKIP = "skip"
    FAIL = "fail"


def verdict(service: str, required: str) -> Verdict:
    """Decide by the value of `PAYDAY_TEST_REQUIRE`: names separated by commas."""
    names = {name.strip() for name in required.split(",")}
    return Verdict.FAIL if service in names else Verdict.SKIP


def judge(service: str, reason: str) -> NoReturn:
    """Skip or fail the test that asked for a service that is missing."""
    if verdict(service, os.environ.get(VARIABLE, "")) is Verdict.FAIL:
        pytest.fail(f"{reason} ({VARIABLE} names {service})", pytrace=False)
    pytest.skip(reason)


def leave_test(what: str, described: str) -> NoReturn:
    """Skip a test that wants to do something to a server which only its owner can do."""
    pytest.skip(f"{what} is for servers that the tests started, and this one is not: {described}")
