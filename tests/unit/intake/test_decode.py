"""Whatever bytes come, decoding ends in a message or a rejection, never in an exception."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.intake.decode import decode
from streams.intake.record import Reason, Record
from tests.kit import Note, NoteCatalog, note

ACCEPTS = frozenset({"note.v1"})


def rejected(record: Record) -> tuple[Reason, str]:
    decode(record, NoteCatalog(), ACCEPTS)
    assert record.rejection is not None
    return record.rejection.reason, record.rejection.error


def test_a_well_formed_record_becomes_its_message() -> None:
    """The body is read by the catalogue's decoder for its type."""
    record = note(0, "hello")
    decode(record, NoteCatalog(), ACCEPTS)
    assert record.message == Note("hello")
    assert record.rejection is None


@pytest.mark.parametrize(
    ("options", "reason", "text"),
    [
        ({"value": b"\xff\xfe"}, Reason.UNDECODABLE, ""),
        ({"value": b""}, Reason.UNDECODABLE, "the value is empty"),
        ({"value": b'{"text": '}, Reason.UNDECODABLE, ""),
        ({"value": b"[" * 100_000}, Reason.UNDECODABLE, ""),
        ({"value": b"[]"}, Reason.INVALID, "text: is missing"),
        ({"value": b'{"text": 1}'}, Reason.INVALID, "text: is missing"),
        ({"type_name": "nobody.knows.v1"}, Reason.UNKNOWN_TYPE, "nobody.knows.v1 is in no catalogue"),
        ({"headers": [("ce_time", b"yesterday")]}, Reason.INVALID, "ce_time"),
        ({"headers": [("ce_time", b"2026-11-20T10:00:00")]}, Reason.INVALID, "ce_time"),
        ({"headers": [("ce_subject", b"\xff")]}, Reason.UNDECODABLE, "not UTF-8"),
        ({"headers": [("ce_subject", b"a\x00b")]}, Reason.INVALID, "ce_subject"),
        ({"headers": [("ce_specversion", b"0.3")]}, Reason.INVALID, "CloudEvents 1.0"),
        ({"headers": [("content-type", b"application/avro")]}, Reason.INVALID, "application/json"),
        ({"message_id": "x" * 256}, Reason.INVALID, "ce_id"),
    ],
)
def test_a_malformed_record_is_rejected_with_its_reason(options: dict[str, Any], reason: Reason, text: str) -> None:
    """Each kind of fault has its reason, and the text names what is wrong."""
    found, error = rejected(note(0, **options))
    assert found is reason
    assert text in error


def test_a_record_without_headers_is_invalid() -> None:
    """Without an id nobody could tell a repeat from a first occurrence."""
    record = note(0)
    record.headers = []
    assert rejected(record) == (Reason.INVALID, "header ce_id is missing")


@pytest.mark.parametrize("message_id", ["i\x00d", "x" * 256])
def test_an_id_that_no_column_holds_is_never_looked_up(message_id: str) -> None:
    """PostgreSQL refuses NUL in text: such a record has no identity, so that parking it does not fail either."""
    record = note(0, message_id=message_id)
    assert rejected(record)[0] is Reason.INVALID
    assert record.identity is None


def test_a_tombstone_is_undecodable() -> None:
    """A missing value is told apart from an empty one."""
    record = note(0)
    record.value = None
    assert rejected(record) == (Reason.UNDECODABLE, "the value is missing (a tombstone)")


def test_headers_that_are_not_ours_may_be_anything() -> None:
    """A foreign header that is not UTF-8 is kept for parking and otherwise ignored."""
    record = note(0, headers=[("x-binary", b"\xff")])
    decode(record, NoteCatalog(), ACCEPTS)
    assert record.message == Note("hello")


def test_a_header_name_that_cannot_be_read_is_a_rejection_not_an_exception() -> None:
    """confluent-kafka raises when a header's name is not UTF-8; the record survives that."""

    class Unreadable:
        def topic(self) -> str:
            return "t"

        def partition(self) -> int:
            return 0

        def offset(self) -> int:
            return 3

        def key(self) -> None:
            return None

        def value(self) -> bytes:
            return b"{}"

        def headers(self) -> Any:
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

        def timestamp(self) -> tuple[int, int]:
            return (1, 5)

    record = Record.from_kafka(Unreadable())
    assert record.rejection is not None
    assert record.rejection.reason is Reason.UNDECODABLE


@given(
    st.one_of(st.none(), st.binary()),
    st.lists(st.tuples(st.sampled_from(["ce_id", "ce_type", "ce_time", "x"]), st.one_of(st.none(), st.binary()))),
)
def test_decoding_never_raises(value: bytes | None, headers: list[tuple[str, bytes | None]]) -> None:
    """Any bytes in any header and body end in a message, a rejection, or nothing to do."""
    record = Record(
        "t", 0, 0, 0, None, value, [("ce_id", b"1"), ("ce_source", b"s"), ("ce_type", b"note.v1"), *headers]
    )
    decode(record, NoteCatalog(), ACCEPTS)
    assert (record.message is None) != (record.rejection is None) or record.type == "other.v1"
