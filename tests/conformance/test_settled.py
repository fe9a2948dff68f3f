"""What is settled: the unit tests of SQLite once more, on PostgreSQL."""

from tests.unit.inspection.test_settled import *  # noqa: F403  one source for both databases

DATABASES = ("postgresql",)
