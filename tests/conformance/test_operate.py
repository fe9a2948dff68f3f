"""What operators do: the unit tests of SQLite once more, on PostgreSQL."""

from tests.unit.intake.test_operate import *  # noqa: F403  one source for both databases

DATABASES = ("postgresql",)
