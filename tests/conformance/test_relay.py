"""The relay: the unit tests of SQLite once more, on PostgreSQL."""

from tests.unit.outbox.test_relay import *  # noqa: F403  one source for both databases

DATABASES = ("postgresql",)
