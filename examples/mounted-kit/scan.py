"""Publishes scans as any other team's producer would: CloudEvents in Kafka's binary mode.

python examples/mounted-kit/scan.py ID PARCEL PLACE [ID PARCEL PLACE ...]
"""

from __future__ import annotations

import json
import os
import sys

from confluent_kafka import Producer


def main(arguments: list[str]) -> None:
    """One record for every three arguments; the same ID is the same message."""
    producer = Producer({"bootstrap.servers": os.environ.get("PARCELS_KAFKA", "localhost:9092"), "acks": "all"})
    for message_id, parcel_id, place in zip(arguments[::3], arguments[1::3], arguments[2::3], strict=True):
        producer.produce(
            "parcels.scans",
            key=parcel_id,
            value=json.dumps({"parcel_id": parcel_id, "place": place}),
            headers=[
                ("ce_specversion", "1.0"),
                ("ce_id", message_id),
                ("ce_source", "scanner"),
                ("ce_type", "parcels.scanned.v1"),
                ("content-type", "application/json"),
            ],
        )
    if producer.flush(10):
        sys.exit("Kafka did not acknowledge everything within 10 s")
    print("acknowledged", len(arguments) // 3)


if __name__ == "__main__":
    main(sys.argv[1:])
