"""Column types with the bounds that the contracts promise, so that what validates also fits.

Times are integers, milliseconds since 1970-01-01T00:00:00Z: rows go to the drivers as plain tuples, past SQLAlchemy's
type conversion.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Integer, LargeBinary, String

__all__ = ["AutoId", "Bytes", "Counter", "Day", "Id", "Millis", "Name", "Text"]

AutoId = BigInteger().with_variant(Integer, "sqlite")
"""A growing row number: SQLite only numbers a column of the type INTEGER by itself."""
Bytes = LargeBinary()
Counter = BigInteger()
Day = String(10)
"""A business date as `2026-11-22`: sorts like the date, and needs no conversion by the driver."""
Id = String(36)
"""A UUID in its canonical text form."""
Millis = BigInteger()
Name = String(255)
"""A topic, a group, a type: Kafka allows a topic 249 characters."""
Text = String(2000)
