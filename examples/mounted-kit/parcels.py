"""A FastStream app of its own on Payday's reliability kit: it follows parcels from scan to scan.

Of Payday it uses only what knows nothing of tasks or money. Read from top to bottom: the messages, the catalogue by
which the kit knows them, a table, the wiring, the handler, the life cycle.

    faststream run --app-dir examples/mounted-kit parcels:app
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

from confluent_kafka import Producer
from faststream import FastStream
from faststream.confluent import KafkaBroker
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Column, Integer, MetaData, String, Table
from sqlalchemy.dialects.sqlite import insert

from streams.intake import tables as intake_tables
from streams.intake.batch import Batch
from streams.intake.subscription import Limits
from streams.middleware.intake import Intake, consumer_config
from streams.middleware.unit_of_work import Work
from streams.outbox import tables as outbox_tables
from streams.outbox.envelope import Description
from streams.outbox.producer import producer_settings
from streams.outbox.relay import Relay
from streams.storage.database import Database
from streams.storage.schema import kit_metadata

if TYPE_CHECKING:
    from collections.abc import Callable

KAFKA = os.environ.get("PARCELS_KAFKA", "localhost:9092")
DATABASE = os.environ.get("PARCELS_DATABASE", "sqlite+aiosqlite:///parcels.db")
DRAIN_SECONDS = 10.0
LIMITS = Limits(max_records=200)
KIT_TABLES = (intake_tables, outbox_tables)  # importing them is what puts them into kit_metadata

# --- messages: models of one's own, with bounds, because everything that is read here came from outside

Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00]+$")]


class Scanned(BaseModel):
    """A parcel was seen somewhere."""

    model_config = ConfigDict(frozen=True, strict=True)
    parcel_id: Name
    place: Name


class Moved(BaseModel):
    """A parcel is somewhere else now; `scans` says how often it has been seen."""

    model_config = ConfigDict(frozen=True, strict=True)
    parcel_id: Name
    place: Name
    scans: int


CATALOG: dict[str, tuple[type[BaseModel], str]] = {
    "parcels.scanned.v1": (Scanned, "parcels.scans"),
    "parcels.moved.v1": (Moved, "parcels.events"),
}
TYPE_NAMES = {model: type_name for type_name, (model, _) in CATALOG.items()}


class Catalog:
    """All that the kit asks about messages: `streams.outbox.envelope.MessageCatalog`."""

    def describe(self, message: Any) -> Description:
        type_name = TYPE_NAMES[type(message)]
        return Description(type_name, self.topic_of(type_name), message.parcel_id.encode(), "parcels")

    def encode(self, message: BaseModel) -> bytes:
        return message.model_dump_json().encode()

    def decoder(self, type_name: str) -> Callable[[bytes], BaseModel] | None:
        return CATALOG[type_name][0].model_validate_json if type_name in CATALOG else None

    def topic_of(self, type_name: str) -> str:
        return CATALOG[type_name][1]

    def id_problem(self, _message_id: str) -> str | None:
        return None


# --- state: a table of one's own, in the same database as the kit's

app_metadata = MetaData()
parcel = Table(
    "parcel",
    app_metadata,
    Column("parcel_id", String(100), primary_key=True),
    Column("place", String(100), nullable=False),
    Column("scans", Integer, nullable=False),
)
SEEN = insert(parcel)
SEEN = SEEN.on_conflict_do_update(
    index_elements=["parcel_id"], set_={"place": SEEN.excluded.place, "scans": parcel.c.scans + 1}
)

# --- wiring


def make_producer() -> Any:
    """Called when the relay starts."""
    return Producer(producer_settings(KAFKA))


database = Database(DATABASE)
relay = Relay(database, make_producer)
intake = Intake(database, Catalog(), wake_relay=relay.wake, limits=LIMITS)
scans = intake.subscribe("parcels.scans", group="parcels", accepts=["parcels.scanned.v1"])
broker = KafkaBroker(
    KAFKA,
    allow_auto_create_topics=False,
    config=consumer_config(LIMITS),  # type: ignore[arg-type]  # librdkafka's settings as a plain dictionary
    middlewares=intake.middlewares,
)
app = FastStream(broker)


@broker.subscriber(*scans.topics, **intake.options(scans))  # type: ignore[untyped-decorator]
async def follow(batch: Batch[Scanned], work: Work) -> None:
    """Notes where each parcel is and tells the others, all in the batch's one transaction."""
    for record in batch:
        scan = record.message
        if scan is None:  # a type of the catalogue that this group does not accept
            continue
        statement = SEEN.values(parcel_id=scan.parcel_id, place=scan.place, scans=1).returning(parcel.c.scans)
        seen = (await work.connection.execute(statement)).scalar_one()
        moved = Moved(parcel_id=scan.parcel_id, place=scan.place, scans=seen)
        work.send([work.outgoing(moved, work.cause(record), 0)])


# --- life cycle: tables and intake before the consumers, the relay after them; at a stop the other way round


@app.on_startup
async def open_database() -> None:
    async with database.write() as connection:
        await connection.run_sync(kit_metadata.create_all)
        await connection.run_sync(app_metadata.create_all)
    await intake.start()


@app.after_startup
async def start_relay() -> None:
    relay.start()


@app.after_shutdown
async def close() -> None:
    await intake.stop()
    await relay.stop(DRAIN_SECONDS)
    await database.close()
