"""Releasing parked records: the unit tests of SQLite once more, on PostgreSQL."""

from tests.unit.intake.test_release import *  # noqa: F403  one source for both databases

DATABASES = ("postgresql",)
