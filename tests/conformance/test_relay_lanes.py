"""Lanes, leases, refusals: the unit tests of SQLite once more, on PostgreSQL."""

from tests.unit.outbox.test_lanes import *  # noqa: F403  one source for both databases
from tests.unit.outbox.test_refusals import *  # noqa: F403

DATABASES = ("postgresql",)
