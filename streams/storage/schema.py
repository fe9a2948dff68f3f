"""The two families of tables.

The kit's tables (inbox, progress, parked, outbox, leases, operator actions) have a MetaData of their own, so that
another app can create them in its own database; the app's tables (ledger and slices) have another.
"""

from __future__ import annotations

from sqlalchemy import MetaData

__all__ = ["app_metadata", "kit_metadata"]

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

kit_metadata = MetaData(naming_convention=NAMING_CONVENTION)
app_metadata = MetaData(naming_convention=NAMING_CONVENTION)
