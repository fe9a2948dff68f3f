"""Status, statement and the list of parked records: the unit tests of SQLite once more, on PostgreSQL."""

from tests.unit.inspection.test_views import *  # noqa: F403  one source for both databases

DATABASES = ("postgresql",)
