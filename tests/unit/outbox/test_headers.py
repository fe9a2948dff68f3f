"""Headers survive the detour through a table byte by byte."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from streams.outbox.headers import pack, unpack


@given(st.lists(st.tuples(st.text(), st.one_of(st.none(), st.binary()))))
@example([("x", b"\xff\xfe"), ("x", None), ("", b"")])
def test_headers_are_packed_reversibly(headers: list[tuple[str, bytes | None]]) -> None:
    """Any names and values, repeated names, missing values and bytes that are no text come back as they were."""
    assert unpack(pack(headers)) == headers
