"""The simulated bank's book: one SQLite file of its own, nothing shared with the app.

Invariant: a booking is committed before it is answered, and its number never changes. Commits survive a killed
process; a power cut may take the last ones (`synchronous=NORMAL`), which is enough for trying out and for tests.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["BankStore", "Booking", "BookingStatus", "Order"]

LOCK_TIMEOUT_SECONDS = 5.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS booking (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    reference TEXT NOT NULL,
    account TEXT NOT NULL,
    period TEXT NOT NULL,
    amount_minor INTEGER NOT NULL,
    currency TEXT NOT NULL,
    status TEXT NOT NULL,
    reason_code TEXT,
    booked_at_ms INTEGER NOT NULL,
    returned_at_ms INTEGER
);
CREATE INDEX IF NOT EXISTS ix_booking_reference ON booking (reference);
CREATE INDEX IF NOT EXISTS ix_booking_period ON booking (period, number);
CREATE TABLE IF NOT EXISTS idempotency_key (
    key TEXT PRIMARY KEY,
    number INTEGER NOT NULL REFERENCES booking (number),
    expires_at_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ix_idempotency_key_expires_at_ms ON idempotency_key (expires_at_ms);
"""
_COLUMNS = "number, reference, account, period, amount_minor, currency, status, reason_code, booked_at_ms"


class BookingStatus(StrEnum):
    """What became of an order."""

    BOOKED = "booked"
    REJECTED = "rejected"
    RETURNED = "returned"


@dataclass(frozen=True, slots=True)
class Order:
    """What the bank is asked to pay."""

    reference: str
    account: str
    period: str
    amount_minor: int
    currency: str


@dataclass(frozen=True, slots=True)
class Booking:
    """An order in the book. Money moved unless it was rejected, and came back if it was returned."""

    number: int
    order: Order
    status: BookingStatus
    reason_code: str | None
    booked_at_ms: int

    @property
    def provider_ref(self) -> str:
        """The bank's own name for it; sorts like the number."""
        return f"bank-{self.number:012}"


class BankStore:
    """The book. One process at a time may open it.

    Args:
        path: of the SQLite file; made if absent.

    Raises:
        sqlite3.Error: the file cannot be opened, or is no such book.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Calls are short, and come from one event loop at a time.
        self._connection = sqlite3.connect(
            path, isolation_level=None, timeout=LOCK_TIMEOUT_SECONDS, check_same_thread=False
        )
        try:
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.executescript(_SCHEMA)
        except sqlite3.Error:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def by_key(self, key: str, now_ms: int) -> Booking | None:
        """What was booked under an idempotency key that is still remembered."""
        return self._one(
            f"SELECT {_COLUMNS} FROM booking WHERE number ="  # noqa: S608  constants
            " (SELECT number FROM idempotency_key WHERE key = ? AND expires_at_ms > ?)",
            key,
            now_ms,
        )

    def by_reference(self, reference: str) -> list[Booking]:
        """Every booking with this reference, the oldest first."""
        sql = f"SELECT {_COLUMNS} FROM booking WHERE reference = ? ORDER BY number"  # noqa: S608  constants
        return [_booking(row) for row in self._connection.execute(sql, (reference,))]

    def book(
        self, order: Order, status: BookingStatus, reason_code: str | None, *, key: str, now_ms: int, key_until_ms: int
    ) -> Booking:
        """Enter an order under a key, and forget keys whose time is over."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM idempotency_key WHERE expires_at_ms <= ?", (now_ms,))
            number = connection.execute(
                "INSERT INTO booking (reference, account, period, amount_minor, currency, status, reason_code,"
                " booked_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    order.reference,
                    order.account,
                    order.period,
                    order.amount_minor,
                    order.currency,
                    status.value,
                    reason_code,
                    now_ms,
                ),
            ).lastrowid
            assert number is not None, "the row was inserted"
            connection.execute("INSERT INTO idempotency_key VALUES (?, ?, ?)", (key, number, key_until_ms))
        return Booking(number, order, status, reason_code, now_ms)

    def give_back(self, number: int, reason_code: str, now_ms: int) -> None:
        """The money of a booking has come back."""
        self._connection.execute(
            "UPDATE booking SET status = ?, reason_code = ?, returned_at_ms = ? WHERE number = ?",
            (BookingStatus.RETURNED.value, reason_code, now_ms, number),
        )

    def moved(self, period: str, after: int, at_most: int) -> list[Booking]:
        """Bookings of a period whose money moved, also when it came back; by number, those above `after`."""
        sql = (
            f"SELECT {_COLUMNS} FROM booking WHERE period = ? AND number > ? AND status <> ?"  # noqa: S608  constants
            " ORDER BY number LIMIT ?"
        )
        rows = self._connection.execute(sql, (period, after, BookingStatus.REJECTED.value, at_most))
        return [_booking(row) for row in rows]

    def _one(self, sql: str, *parameters: object) -> Booking | None:
        row = self._connection.execute(sql, parameters).fetchone()
        return None if row is None else _booking(row)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


def _booking(row: tuple[int, str, str, str, int, str, str, str | None, int]) -> Booking:
    number, reference, account, period, amount_minor, currency, status, reason_code, booked_at_ms = row
    order = Order(reference, account, period, amount_minor, currency)
    return Booking(number, order, BookingStatus(status), reason_code, booked_at_ms)
