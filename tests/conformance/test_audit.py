"""Every check of the audit: the unit tests of SQLite once more, on PostgreSQL."""

from tests.unit.inspection.test_audit import *  # noqa: F403  one source for both databases

DATABASES = ("postgresql",)
