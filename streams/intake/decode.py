"""From bytes to a message, without ever raising: what cannot be read becomes a rejection on its record."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from pydantic_core import from_json

from streams.intake.record import Reason, Rejection
from streams.outbox.envelope import CONTENT_TYPE, SPEC_VERSION, parse_time

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streams.intake.record import Record
    from streams.outbox.envelope import MessageCatalog

__all__ = ["decode", "decode_all", "read_attributes"]

CARRIED_HEADERS = ("traceparent", "content-type")
ATTRIBUTE_MAX_CHARACTERS = 255
"""Of every CloudEvents attribute that is stored: the width of its column."""
ERROR_MAX_CHARACTERS = 1000
REQUIRED_ATTRIBUTES = ("ce_id", "ce_source", "ce_type")
EARLIEST_MS = 946_771_200_000  # 2000-01-02T00:00:00Z
LATEST_MS = 32_503_593_600_000  # 2999-12-31T00:00:00Z
"""Between them every time zone's date has a year that dates and identifiers made from it can hold."""


def decode_all(
    records: Iterable[Record], catalog: MessageCatalog, accepts: frozenset[str], topic_prefix: str = ""
) -> None:
    """Decode each record that is not decoded yet."""
    for record in records:
        if not record.decoded:
            record.decoded = True
            if record.rejection is None:
                decode(record, catalog, accepts, topic_prefix)


def decode(record: Record, catalog: MessageCatalog, accepts: frozenset[str], topic_prefix: str = "") -> None:
    """Fill in a record's attributes and its message, or its rejection.

    A type that the catalogue knows but the group does not handle leaves both message and rejection empty: there is
    nothing to do for it.

    Args:
        record: as it came from Kafka.
        catalog: reads bodies by type name.
        accepts: the type names that the group handles.
        topic_prefix: what stands before the catalogue's topics here.
    """
    try:
        _read_attributes(record)
    except UnicodeDecodeError as error:
        record.rejection = _rejection(Reason.UNDECODABLE, "a header's value is not UTF-8", error)
        return
    problem = _attribute_problem(record, catalog)
    if problem is None:  # only what a column can hold is ever looked up in the inbox
        record.identity = (record.attributes["ce_source"], record.attributes["ce_id"])
    if problem is not None:
        record.rejection = Rejection(Reason.INVALID, problem, "InvalidHeaders")
        return
    type_name = record.attributes["ce_type"]
    decoder = catalog.decoder(type_name)
    if decoder is None:
        text = f"{type_name} is in no catalogue known here"
        record.rejection = Rejection(Reason.UNKNOWN_TYPE, text, "UnknownType")
    elif record.topic != topic_prefix + (home := catalog.topic_of(type_name)):
        # Who may write to a topic is decided per topic: a message must not get round it on another one.
        text = f"{type_name} travels on {topic_prefix}{home}, not on {record.topic}"
        record.rejection = Rejection(Reason.INVALID, text, "WrongTopic")
    elif not record.value:
        text = "the value is missing (a tombstone)" if record.value is None else "the value is empty"
        record.rejection = Rejection(Reason.UNDECODABLE, text, "EmptyValue")
    elif type_name in accepts:
        try:
            record.message = decoder(record.value)
        except Exception as error:  # whatever a decoder throws at strange bytes is the record's fault, not ours
            reason = Reason.INVALID if _is_json(record.value) else Reason.UNDECODABLE
            record.rejection = _rejection(reason, str(error), error)


def read_attributes(record: Record) -> None:
    """Fill in what stands in the headers, as far as it is text; of a record that nobody decodes."""
    with suppress(UnicodeDecodeError):
        _read_attributes(record)


def _read_attributes(record: Record) -> None:
    attributes = record.attributes
    for name, value in record.headers:
        if value is not None and (name.startswith("ce_") or name in CARRIED_HEADERS):
            attributes[name] = value.decode()


def _attribute_problem(record: Record, catalog: MessageCatalog) -> str | None:
    """What is wrong with the CloudEvents attributes, or None; also fills in the time."""
    attributes = record.attributes
    for name in REQUIRED_ATTRIBUTES:
        if not attributes.get(name):
            return f"header {name} is missing"
    for name, value in attributes.items():
        if len(value) > ATTRIBUTE_MAX_CHARACTERS or "\x00" in value:
            return f"header {name} should be at most {ATTRIBUTE_MAX_CHARACTERS} characters without NUL"
    if (problem := catalog.id_problem(attributes["ce_id"])) is not None:
        return f"header ce_id is {attributes['ce_id']!r}; it {problem}"
    time = attributes.get("ce_time")
    try:
        record.time_ms = parse_time(time) if time is not None else max(record.timestamp_ms, 0)
    except (ValueError, OverflowError):
        return f"header ce_time is {time!r}; it should be RFC 3339 with an offset, like 2026-11-22T18:00:00Z"
    if not EARLIEST_MS <= record.time_ms <= LATEST_MS:
        return f"the message is dated {time or record.timestamp_ms}; it should be of the years 2000 to 2999"
    return _mode_problem(attributes)


def _mode_problem(attributes: dict[str, str]) -> str | None:
    """Whether this is CloudEvents 1.0 in binary mode with a JSON body; what is not said is taken to be so."""
    if (
        attributes.get("content-type", CONTENT_TYPE) == CONTENT_TYPE
        and attributes.get("ce_specversion") == SPEC_VERSION
    ):
        return None
    version = attributes.get("ce_specversion", SPEC_VERSION)
    if not version.startswith("1."):
        return f"header ce_specversion is {version!r}; this app speaks CloudEvents 1.0"
    content_type = attributes.get("content-type", CONTENT_TYPE).partition(";")[0].strip().lower()
    if content_type != CONTENT_TYPE and not content_type.endswith("+json"):
        return f"header content-type is {content_type!r}; it should be application/json"
    return None


def _is_json(value: bytes) -> bool:
    """Whether this is JSON as RFC 8259 has it: UTF-8, without `NaN` (Python's own parser takes more)."""
    try:
        from_json(value, allow_inf_nan=False)
    except ValueError:
        return False
    return True


def _rejection(reason: Reason, text: str, error: BaseException) -> Rejection:
    return Rejection(reason, clip(text), type(error).__name__)


def clip(text: str) -> str:
    """One line that fits its column and PostgreSQL's text type."""
    line = " ".join(text.split()).replace("\x00", "\\x00").encode("utf-8", "replace").decode()
    return line if len(line) <= ERROR_MAX_CHARACTERS else line[: ERROR_MAX_CHARACTERS - 1] + "…"
