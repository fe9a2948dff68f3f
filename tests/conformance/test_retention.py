"""Forgetting old rows: the unit tests of SQLite once more, on PostgreSQL."""

from tests.unit.intake.test_retention import *  # noqa: F403  one source for both databases

DATABASES = ("postgresql",)
