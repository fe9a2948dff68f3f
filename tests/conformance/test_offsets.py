"""Offsets after commits: the unit tests of SQLite once more, on PostgreSQL."""

from tests.unit.middleware.test_offsets import *  # noqa: F403  one source for both databases

DATABASES = ("postgresql",)
