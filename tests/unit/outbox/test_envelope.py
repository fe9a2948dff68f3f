"""From a message to the record that is published."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.outbox.envelope import derived_id, format_time, lane_of, parse_time
from streams.outbox.headers import pack, pack_text
from streams.outbox.tables import LANES


@given(st.integers(0, 2**48 - 1), st.text(), st.text())
def test_a_derived_id_is_a_uuidv7_of_its_time(time_ms: int, source: str, name: str) -> None:
    """The layout of RFC 9562: 48 bits of milliseconds, version 7, variant 10; canonical text."""
    text = derived_id(time_ms, source, name)
    uuid = UUID(text)
    assert str(uuid) == text
    assert uuid.version == 7
    assert uuid.variant == "specified in RFC 4122"
    assert uuid.int >> 80 == time_ms


def test_derived_ids_stay_the_same_for_ever() -> None:
    """A changed formula would make a message that is handled again after an upgrade emit other ids."""
    assert derived_id(1_763_632_800_000, "payday/cli", "x", "payday/tasks/0") == "019aa0b4-e100-767a-a0cf-d0bdc8f10607"


def test_a_derived_id_is_a_function_of_its_names() -> None:
    """Equal names give equal ids; different ones, also when they join to the same text, do not."""
    assert derived_id(5, "a", "b") == derived_id(5, "a", "b")
    assert (
        len({derived_id(5, "a", "b"), derived_id(5, "ab", ""), derived_id(5, "", "ab"), derived_id(6, "a", "b")}) == 4
    )


@given(st.integers(-(10**12), 4 * 10**12))
def test_times_survive_their_text(time_ms: int) -> None:
    """Milliseconds go to RFC 3339 and back without loss."""
    assert parse_time(format_time(time_ms)) == time_ms


@pytest.mark.parametrize("text", ["2026-11-20", "2026-11-20T10:00:00", "yesterday", ""])
def test_a_time_without_an_offset_is_refused(text: str) -> None:
    """A time that does not say where it is valid says nothing."""
    with pytest.raises(ValueError, match=r".*"):
        parse_time(text)


@given(st.text(max_size=20), st.one_of(st.none(), st.binary(max_size=40)))
def test_a_lane_is_stable_and_in_range(topic: str, key: bytes | None) -> None:
    """The same topic and key always fall into the same lane."""
    assert 0 <= lane_of(topic, key) < LANES
    assert lane_of(topic, key) == lane_of(topic, key)


def test_lanes_share_the_keys_evenly() -> None:
    """Of 16,000 keys no lane gets more than a tenth above its share."""
    counts = [0] * LANES
    for number in range(16_000):
        counts[lane_of("tasks.events", derived_id(number, "task").encode())] += 1
    assert max(counts) < 1100
    assert min(counts) > 900


def test_text_headers_are_packed_alike() -> None:
    """The shortcut for text gives the same bytes."""
    headers = [("ce_id", "1"), ("x", "ü")]
    assert pack_text(headers) == pack([(name, value) for name, value in headers])
