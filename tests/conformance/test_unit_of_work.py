"""The unit of work: the unit tests of SQLite once more, on PostgreSQL."""

from tests.unit.intake.test_unit_of_work import *  # noqa: F403  one source for both databases

DATABASES = ("postgresql",)
